"""Whoever may write into the bucket is an attacker: with real tools and a real store, no object
makes a drill host's files go.

Forged descriptions name folders where a number belongs, and numbers that no computer has room for;
forged archives hold members that lead out of the folder they are unpacked in. The host's own files
are looked at before and after.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import resource
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lz4.frame
import pytest
from typer.testing import CliRunner

from pgdrill.cli import app
from pgdrill.documents import DESCRIPTION_BYTES
from pgdrill.errors import BackupFault, PgdrillError
from pgdrill.host.process import Runner
from pgdrill.reports.known_backups import check_backups
from pgdrill.repository.leases.board import MOST, Board
from pgdrill.repository.tools.base import BaseBackups
from pgdrill.retention import holds
from pgdrill_demo.stack import Stack
from tests.integration.conftest import Copy, fingerprint, once
from tests.integration.recovery.test_restore_faults import refused
from tests.integration.repository.test_repository_damages import archives, members, write_members

CLIPBOARD = "\x1b]52;c;cm0gLXJmIC8=\x07"


@pytest.fixture
def victim(repository: Copy) -> Path:
    """A folder of the drill's host that has nothing to do with drills."""
    folder = repository.golden.stack.home / f"victim-{repository.name}"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "data").write_text("production's")
    (folder / "file").write_text("production's")
    return folder


def with_tablespace(repository: Copy, oid: object) -> None:
    """The backup says that it has a tablespace of that oid; pgdrill's own record, which would know
    better, is gone.
    """
    repository.record.unlink()
    text = repository.metadata.read_text()
    if repository.golden.stack.tool == "wal-g":
        data = json.loads(text)
        data["Spec"] = {
            "base_prefix": "/pgdata",
            "tablespaces": [oid],
            str(oid): {"loc": "/mnt/fast", "link": f"pg_tblspc/{oid}"},
        }
        repository.metadata.write_text(json.dumps(data))
    else:
        repository.metadata.write_text(
            re.sub(
                r"^tablespaces=.*$",
                f"tablespaces=[('fast', {oid!r}, '/mnt/fast')]",
                text,
                flags=re.MULTILINE,
            )
        )


@pytest.mark.parametrize("where", ["absolute", "relative", "everything", "below"])
def test_no_tablespace_of_a_forged_description_empties_a_folder(
    repository: Copy, victim: Path, where: str
) -> None:
    drill = (
        repository.work
        / repository.golden.stack.cluster_name
        / "drills"
        / "x"
        / "cluster"
        / "tablespaces"
    )
    oid = {
        "absolute": str(victim),
        "relative": os.path.relpath(victim, drill),
        "everything": "../../../..",
        "below": f"16390/../{victim}",
    }[where]
    with_tablespace(repository, oid)
    before = fingerprint(victim)
    verdict, trouble = repository.trouble()
    assert fingerprint(victim) == before
    assert (verdict, trouble.reason) == ("failed", "metadata-broken")
    assert repository.golden.backup.name in trouble.thing


@pytest.mark.parametrize("field", ["start", "finish", "size", "system", "time"])
@pytest.mark.parametrize("value", [-1, 2**70, 10**30, 0])
def test_absurd_numbers_are_named_in_seconds(repository: Copy, field: str, value: int) -> None:
    if repository.golden.stack.tool == "wal-g":
        data = json.loads(repository.metadata.read_text())
        name = {
            "start": "LSN",
            "finish": "FinishLSN",
            "size": "UncompressedSize",
            "system": "SystemIdentifier",
            "time": "StartTime",
        }[field]
        data[name] = value if field != "time" else f"{value % 10000:04d}-01-01T00:00:00"
        repository.metadata.write_text(json.dumps(data))
    else:
        name = {
            "start": "begin_xlog",
            "finish": "end_xlog",
            "size": "size",
            "system": "systemid",
            "time": "begin_time",
        }[field]
        told = f"0/{value:X}" if field in ("start", "finish") else str(value)
        repository.metadata.write_text(
            re.sub(
                rf"^{name}=.*$",
                f"{name}={told}",
                repository.metadata.read_text(),
                flags=re.MULTILINE,
            )
        )
    started = time.monotonic()
    try:
        said = refused(repository, BackupFault)
    except pytest.fail.Exception:
        # as good as not told: what is unpacked is measured
        assert (field, value) == ("size", 0) or field == "size"
        return
    assert time.monotonic() - started < 5
    assert (
        said.startswith("metadata-broken")
        or value == 0
        or (field == "size" and said.startswith("changed-part"))
    )


def test_a_forged_newer_backup_does_not_stand_in_for_the_true_one_and_hides_none(
    repository: Copy,
) -> None:
    true = repository.golden.backup.name
    forged = (
        true[:-1] + "F"
        if repository.golden.stack.tool == "wal-g"
        else f"2{int(true[1:8]) + 1:07d}{true[8:]}"
    )
    place = Path(str(repository.metadata).replace(true, forged))
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"{" * 100_000)
    found = repository.access().repository.backups()
    assert [backup.name for backup in found] == [true]
    assert list(found.broken) == [forged]
    check_backups(repository.access(), found)
    said = refused(repository, BackupFault)
    assert said.startswith("metadata-broken")
    assert forged in said
    report = repository.drill(backup=true)
    assert report.restore.status == "ok", report.restore.trouble


def test_an_endless_description_is_not_read_into_memory(repository: Copy) -> None:
    with repository.metadata.open("r+b") as file:
        file.truncate(2**33)  # a hole: 8 GB that take no room
    access, before = repository.access(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = access.repository.backups()
    assert list(found.broken) == [repository.golden.backup.name]
    assert "8589934592 bytes" in found.broken[repository.golden.backup.name].found
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"


def grown(read: Callable[[], object]) -> int:
    """Kilobytes by which the largest that this process ever was has grown."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def hole(file: Path, size: int) -> None:
    """A file of NULs that takes no room."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as opened:
        opened.truncate(size)


def test_many_large_leases_and_holds_are_not_read_and_protect_what_they_may_be_about(
    repository: Copy,
) -> None:
    access, reports = repository.access(), repository.folder / "pgdrill"
    forged = [f"leases/drill-{number:012x}.json" for number in range(25)]
    for number, key in enumerate(forged):
        hole(reports / key, 60 * 2**20)
        hole(reports / "retention" / "holds" / f"x-{number}.json", 60 * 2**20)
    board = Board(access.reports, "x")
    assert grown(lambda: [board.look()]) < 200_000
    assert [seen.lease for seen in board.look() if seen.key in forged] == [None] * 25
    with pytest.raises(PgdrillError) as raised:
        holds.list_holds(access)
    assert raised.value.problem.reason == "too-large"


def test_many_leases_are_not_all_read_and_those_that_are_not_protect_as_well(
    repository: Copy,
) -> None:
    access, reports = repository.access(), repository.folder / "pgdrill"
    forged = [f"leases/drill-{number:012x}.json" for number in range(MOST + 20)]
    for key in forged:
        hole(reports / key, 10)
    assert [seen.lease for seen in Board(access.reports, "x").look() if seen.key in forged] == [
        None
    ] * (MOST + 20)


def test_many_descriptions_of_the_largest_size_are_in_memory_a_few_at_a_time(
    repository: Copy,
) -> None:
    """Each is as long as one may be, so that it is read."""
    walg, metadata = repository.golden.stack.tool == "wal-g", repository.metadata
    for number in range(40):
        place = (
            metadata.with_name(f"base_{number:024X}_backup_stop_sentinel.json")
            if walg
            else metadata.parents[1] / f"20260101T00{number:02d}00" / metadata.name
        )
        hole(place, DESCRIPTION_BYTES)
    access = repository.access()
    found: list[BaseBackups] = []
    assert grown(lambda: found.append(access.repository.backups())) < 400_000, "of 640 MB"
    assert grown(access.repository.catalog) < 400_000
    assert len(found[0].broken) == 40
    assert [backup.name for backup in found[0]] == [repository.golden.backup.name]


@pytest.mark.parametrize("kind", ["history", "segment"])
def test_a_small_object_that_unpacks_without_end_is_cut_off(
    repository: Copy, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros compress to next to nothing."""
    monkeypatch.setattr("pgdrill.repository.wal_files.LARGEST_SEGMENT", 2**25)
    access = repository.access()
    name = "00000002.history" if kind == "history" else "0000000100000F0000000001"
    key = access.repository.wal_keys.of(name)
    suffix, pack = (
        (".lz4", lz4.frame.compress) if access.tool.name == "wal-g" else (".gz", gzip.compress)
    )
    file = repository.folder / f"{key}{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pack(bytes(2**28)))
    assert file.stat().st_size < 2**21
    with watched(tmp_path) as largest:
        assert access.wal_reader(Runner(), tmp_path).fetch(name) is None
    assert max(largest) <= 2**25 + 2**20
    assert bytes_in(tmp_path) == 0
    if kind == "history":
        with pytest.raises(BackupFault, match="it cannot be read"):
            access.wal_reader(Runner(), tmp_path).history(2)


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """How many bytes lay there, looked at again and again."""
    seen, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            seen.append(bytes_in(folder))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def bytes_in(folder: Path) -> int:
    found = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found += file.stat().st_size if file.is_file() else 0
    return found


# --- what an archive holds ---


def plant(repository: Copy, *more: tuple[tarfile.TarInfo, bytes]) -> None:
    """Add members to the archive of the data directory, before all others; nobody knows its size
    any more.
    """
    repository.record.unlink()
    file = next(one for one in archives(repository) if re.match(r"part_001|data\.tar", one.name))
    write_members(file, [*more, *members(file)])


def member(name: str, *, link: str = "", hard: str = "") -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.mode = 0o600
    if link or hard:
        made.type, made.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.LNKTYPE, hard)
        return made, b""
    made.size = 6
    return made, b"PWNED!"


def climbing(repository: Copy, victim: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(f"{'../' * 30}{str(victim).lstrip('/')}/file")]


def through_a_link(repository: Copy, victim: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member("base/out", link=str(victim)), member("base/out/file")]


def as_a_configuration(repository: Copy, victim: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """What a restore writes next, by these names."""
    return [
        member(name, link=str(victim / "file"))
        for name in ("recovery.signal", "standby.signal", "postgresql.auto.conf")
    ]


def as_a_second_name(repository: Copy, victim: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member("postgresql.auto.conf", hard=str(victim / "file"))]


def as_a_pipe(repository: Copy, victim: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    made = tarfile.TarInfo("recovery.signal")
    made.type = tarfile.FIFOTYPE
    return [(made, b"")]


@pytest.mark.parametrize(
    "forge", [climbing, through_a_link, as_a_configuration, as_a_second_name, as_a_pipe]
)
def test_no_member_of_a_forged_archive_changes_a_file_of_the_host(
    repository: Copy,
    victim: Path,
    forge: Callable[[Copy, Path], list[tuple[tarfile.TarInfo, bytes]]],
) -> None:
    plant(repository, *forge(repository, victim))
    before = fingerprint(victim)
    started = time.monotonic()
    report = repository.drill()
    assert time.monotonic() - started < 60
    assert fingerprint(victim) == before, report.restore.trouble
    assert report.verdict != "passed"


# --- names that would rule a terminal ---

EVIL = f"we{CLIPBOARD}ird\n23:59:59 INFO    drill passed\x1b[2J\x9b31m\u202e[bold]::group::"


def test_a_tables_name_rules_neither_terminal_nor_log_nor_report(stack: Stack) -> None:
    """A real table of that name, in a real backup, drilled by the command: it is checked, named,
    and does nothing.
    """
    with stack.connect() as connection:
        connection.execute(f'CREATE TABLE "{EVIL}" (id int PRIMARY KEY, embedding vector(3))')
        connection.execute(
            f'INSERT INTO "{EVIL}" SELECT i, ARRAY[i, i, 1]::vector FROM generate_series(1, 50) i'
        )
        connection.execute(f'CREATE INDEX ON "{EVIL}" USING hnsw (embedding vector_l2_ops)')
    try:
        shown = [
            CliRunner().invoke(app, list(words), env=stack.environment)
            for words in (
                ["backup"],
                ["--verbose", "drill"],
                ["report"],
                ["report", "--json"],
                ["baseline"],
                ["label"],
                ["backups"],
                ["prune"],
                ["window"],
            )
        ]
    finally:
        with stack.connect() as connection:
            connection.execute(f'DROP TABLE "{EVIL}"')
    assert "ird" in shown[1].output
    for result in shown:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", result.output), result.output
        assert not re.search(r"^\s*23:59:59 INFO    drill passed", result.output, re.MULTILINE)
    json.loads(shown[3].stdout)


def test_a_forged_report_is_shown_without_its_escapes_and_not_as_passed(repository: Copy) -> None:
    once(repository)
    from pgdrill.reports import store
    from tests.reports import passed_report

    access = repository.access()
    report = passed_report("20991231T000000Z-evil", cluster=access.cluster.name)
    text = json.loads(report.model_dump_json())
    text["results"], text["summary"] = [], f"Vector search was right.{CLIPBOARD}\nPASSED"
    text["cluster"], text["host"] = access.cluster.name, f"h{CLIPBOARD}\r\n\x9b2J"
    access.reports.write("reports/20991231T000000Z-evil.json", json.dumps(text).encode())
    found = store.load_report(access, store.list_reports(access)[-1])
    assert found.verdict == "could not verify"
    out = io.StringIO()
    from pgdrill.reports.terminal import SafeConsole, report_table

    report_table(found, SafeConsole(file=out, width=100))
    assert "NOT VERIFY: not believed: says passed" in out.getvalue()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", out.getvalue())
    with pytest.raises(PgdrillError):
        store.load_report(access, "../../etc/passwd")
