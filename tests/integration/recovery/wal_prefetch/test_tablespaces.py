"""Tablespaces made after the base backup: replay would link the restored cluster to production's
own folder.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import destroy_stage, drill, new_drill_id, restore_stage
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.wal import SEGMENT_NAME, Segment, parse_lsn
from pgdrill.recovery.wal_prefetch.tablespaces import Scan, created
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import Report
from pgdrill.repository.archiver import wait_archived
from pgdrill_demo.stack import Stack, binaries
from tests.conftest import TOOLS, need
from tests.integration.conftest import nothing_left


@pytest.fixture(scope="module", params=TOOLS)
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Production of this module, with the disk that tablespaces are made on."""
    need(request.param)
    made = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=request.param)
    try:
        made.create(sample=False)
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture
def disk(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty folder for a tablespace ``fast``, which is dropped in the end."""
    folder = stack.home / "disks" / f"{abs(hash(request.node.name)):x}"
    folder.mkdir(parents=True)
    yield folder
    with stack.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS filled")
        connection.execute("DROP TABLESPACE IF EXISTS fast")


def fill(stack: Stack, folder: Path | None, tablespace: str = "fast") -> None:
    """A tablespace with a table in it; without a folder made in place."""
    with stack.connect() as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute(f"CREATE TABLESPACE {tablespace} LOCATION '{folder or ''}'")
        connection.execute(
            f"CREATE TABLE filled WITH (autovacuum_enabled = off) TABLESPACE {tablespace} AS SELECT"
            " n, repeat('x', 100) FROM generate_series(1, 20000) n"
        )
        # so that production itself writes nothing there any more
        connection.execute("VACUUM (FREEZE) filled")


def mark(stack: Stack, name: str) -> str:
    """A restore point, archived; gives its LSN."""
    with stack.connect() as connection:
        row = connection.execute(
            "SELECT pg_create_restore_point(%s)::text, pg_switch_wal()::text", (name,)
        ).fetchone()
        assert row
        wait_archived(
            connection,
            stack.access.repository,
            Segment.holding(parse_lsn(row[0]) - 1, 1, stack.segment_bytes),
            60,
        )
    return str(row[0])


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder."""
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


def written(stack: Stack, folder: Path) -> dict[str, str]:
    """Production's files on that disk, as they are once nothing waits to be written."""
    with stack.connect() as connection:
        connection.execute("CHECKPOINT")
    return digests(folder)


def gone(stack: Stack, **drill_settings: object) -> Access:
    """Production cannot be reached: nothing is known of it but its repository."""
    cluster = stack.cluster
    return Access(
        cluster.model_copy(
            update={
                "server": cluster.server.model_copy(update={"dsn": f"host={stack.home}/gone"}),
                "drill": cluster.drill.model_copy(update=drill_settings),
            }
        ),
        stack.credentials,
    )


def refused(access: Access, disk: Path, target: str) -> Report:
    """A drill that must not verify anything, nor touch that disk."""
    before, drill_id = digests(disk), new_drill_id()
    report = drill(access, drill_id=drill_id, target=target, families=("recovery",))
    assert digests(disk) == before, "production's files changed"
    trouble = report.restore.trouble
    assert trouble
    assert (report.verdict, trouble.reason) == ("could not verify", "tablespace-not-in-backup"), (
        trouble
    )
    assert "take a base backup now" in trouble.hint
    nothing_left(access, drill_id)
    return report


def test_a_new_tablespace_of_production_is_known_before_a_byte_is_fetched(
    stack: Stack, disk: Path
) -> None:
    take_backup(stack.access)
    fill(stack, disk)
    written(stack, disk)
    report = refused(stack.access, disk, "latest")
    assert report.restore.trouble
    assert repr(str(disk)) in report.restore.trouble.found
    assert report.timings.fetch_seconds is None


@pytest.mark.parametrize("wal_fetch", ["auto", "tool"])
def test_production_gone_its_wal_tells_of_the_tablespace(
    stack: Stack, disk: Path, wal_fetch: str
) -> None:
    take_backup(stack.access)
    before = mark(stack, "before")
    fill(stack, disk)
    after = mark(stack, "after")
    written(stack, disk)
    access = gone(stack, wal_fetch=wal_fetch)
    for target in ("latest", f"lsn:{after}", "name:after"):
        report = refused(access, disk, target)
        assert report.restore.trouble
        assert repr(str(disk)) in report.restore.trouble.found
    for target in (f"lsn:{before}", "name:before"):
        report = drill(access, drill_id=new_drill_id(), target=target, families=("recovery",))
        assert report.restore.status == "ok", report.restore.trouble


def test_one_that_was_made_and_dropped_again_counts_as_well(stack: Stack, disk: Path) -> None:
    take_backup(stack.access)
    with stack.connect() as connection:
        connection.execute(f"CREATE TABLESPACE fast LOCATION '{disk}'")
        connection.execute("DROP TABLESPACE fast")
    # whatever lies there by now is not the drill's to remove
    (disk / "PG_18_203307251" / "5").mkdir(parents=True)
    (disk / "PG_18_203307251" / "5" / "16384").write_text("somebody's")
    refused(stack.access, disk, "latest")
    (disk / "PG_18_203307251" / "5" / "16384").unlink()


def test_tablespaces_of_the_backup_come_back_in_the_drills_own_folder(
    stack: Stack, disk: Path
) -> None:
    fill(stack, disk)
    take_backup(stack.access)
    with stack.connect() as connection:
        connection.execute("UPDATE filled SET n = n + 1")
    before, drill_id = written(stack, disk), new_drill_id()
    try:
        report = restore_stage(stack.access, drill_id, target="latest")
        assert report.restore.status == "ok", report.restore.trouble
        workspace = Workspace.of(stack.access, drill_id)
        links = [link.resolve() for link in (workspace.data_directory / "pg_tblspc").iterdir()]
        assert links
        assert all(workspace.tablespaces in link.parents for link in links)
        assert not list(workspace.data_directory.glob("tablespace_map*"))
        with workspace.server(stack.access).connect("agents") as connection:
            assert connection.execute("SELECT count(*), min(n) FROM filled").fetchone() == (
                20000,
                2,
            )
            connection.execute("UPDATE filled SET n = 0")
            connection.execute("CHECKPOINT")
        assert digests(disk) == before
    finally:
        destroy_stage(stack.access, drill_id)


def test_real_wal_is_read_as_pg_waldump_reads_it(stack: Stack, disk: Path) -> None:
    program = [*as_ordinary_user(), binaries().path("pg_waldump"), "--rmgr=Tablespace"]
    with stack.connect() as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        for number in range(40):
            folder = disk / str(number) if number % 2 else ""
            if folder:
                folder.mkdir()
            connection.execute(f"CREATE TABLESPACE t{number} LOCATION '{folder}'")
            connection.execute("CREATE TEMP TABLE x AS SELECT * FROM generate_series(1, 1000)")
            connection.execute("DROP TABLE x")
            connection.execute(f"DROP TABLESPACE t{number}")
            if number % 10 == 9:
                connection.execute("SELECT pg_switch_wal()")
    seen, told = set(), set()
    for file in (stack.primary.data_directory / "pg_wal").iterdir():
        if SEGMENT_NAME.fullmatch(file.name):
            listed = subprocess.run(
                [*program, str(file)], capture_output=True, text=True, check=False
            ).stdout
            told |= set(re.findall(r'desc: CREATE (\d+) "(.*)"', listed))
            content, scan = file.read_bytes(), Scan(Segment.parse(file.name, stack.segment_bytes))
            addresses = (
                int.from_bytes(content[at + 8 : at + 16], sys.byteorder) - at
                for at in range(0, len(content), 8192)
            )
            # behind them a recycled file's old pages
            used = sum(1 for _ in takewhile(scan.segment.start_lsn.__eq__, addresses))
            scan.look(memoryview(content[: used * 8192]), 8192)
            for lsn in scan.candidates:
                start = lsn - lsn % 8192
                made = created(content[start - scan.segment.start_lsn :][:16384], start, 8192, lsn)
                seen |= {(str(made.oid), made.path)} if made else set()
    assert len(told) >= 20
    assert seen == told


def test_wal_that_production_keeps_on_another_disk_is_not_touched(stack: Stack, disk: Path) -> None:
    folder, link = disk / "wal", stack.primary.data_directory / "pg_wal"
    stack.primary.stop()
    shutil.move(link, folder)
    link.symlink_to(folder)
    try:
        stack.primary.start()
        take_backup(stack.access)
        mark(stack, "other disk")
        stack.primary.stop()
        before = digests(folder)
        report = drill(
            gone(stack), drill_id=new_drill_id(), target="name:other disk", families=("recovery",)
        )
        assert report.restore.status == "ok", report.restore.trouble
        assert digests(folder) == before
    finally:
        stack.primary.stop()
        link.unlink()
        shutil.move(folder, link)
        stack.primary.start()


def test_a_tablespace_made_in_place_is_no_obstacle(stack: Stack, disk: Path) -> None:
    take_backup(stack.access)
    fill(stack, None)
    report = drill(stack.access, drill_id=new_drill_id(), families=("recovery",))
    assert report.restore.status == "ok", report.restore.trouble


# where the replay of a backup that begins now will begin
CHECKPOINT = "SELECT redo_lsn FROM pg_control_checkpoint()"


def test_one_made_while_the_backup_ran_counts_although_the_backup_may_have_it(
    stack: Stack, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replay begins before the backup's files were read: the record would undo what had been
    mapped.
    """
    monkeypatch.setenv("WALG_DISK_RATE_LIMIT", "4000000")  # bytes a second
    with ThreadPoolExecutor() as pool, stack.connect() as connection:
        before = connection.execute(CHECKPOINT).fetchone()
        taken = pool.submit(take_backup, stack.access)
        while connection.execute(CHECKPOINT).fetchone() == before:
            assert not taken.done(), taken.result()
        fill(stack, disk)
        assert not taken.done()
        taken.result()
    mark(stack, "late")
    written(stack, disk)
    refused(gone(stack), disk, "latest")
    refused(gone(stack), disk, "name:late")
