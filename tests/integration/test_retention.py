"""Fourteen weeks of history made with the real wal-g, pruned, and restored from by wal-g alone.

The history is a few seconds long; its times are put where wal-g reads them: sentinel, metadata, and the objects' own
times. The rivals, wal-g's own ways to delete, are given the same history.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from pgdrill import record
from pgdrill.access import Access
from pgdrill.archiving import wait_archived
from pgdrill.backup import take_backup
from pgdrill.errors import CouldNotVerify
from pgdrill.postgres.server import LocalServer
from pgdrill.postgres.wal import Segment, format_lsn, parse_lsn
from pgdrill.process import Runner
from pgdrill.report import Report
from pgdrill.retention import journal
from pgdrill.retention.apply import look, prune
from pgdrill_demo.stack import Stack, binaries
from tests.conftest import need

WEEKS = 14
EXTRAS = (86, 87, 88, 89, 90, 92, 93, 94, 95, 96)  # days of backups by hand: before a migration, say
WINDOW = timedelta(days=35)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Instant:
    """What production held at a moment of the invented calendar."""

    at: datetime
    lsn: str
    rows: int


@dataclass
class History:
    """The repository as a folder, and what is known of it. ``now`` is a Saturday, 14:00."""

    stack: Stack
    now: datetime
    folder: Path
    instants: list[Instant] = field(default_factory=list)
    bases: dict[str, datetime] = field(default_factory=dict)  # name -> when it ended
    rows: dict[str, int] = field(default_factory=dict)  # name -> rows at its end

    @property
    def weekly(self) -> list[str]:
        return [name for name, ended in self.bases.items() if ended.weekday() == 6]

    def copy(self, name: str) -> Path:
        """The repository once more, with the objects' times."""
        place = self.stack.home / name
        subprocess.run(["cp", "-a", self.folder, place], check=True)
        return place

    def access(self, folder: Path, **retention: object) -> Access:
        """For pgdrill, which takes a folder as it takes a bucket."""
        cluster = self.stack.cluster
        where = cluster.repository.model_copy(update={"url": f"file://{folder}", "endpoint_url": ""})
        drill = cluster.drill.model_copy(update={"work_directory": self.stack.home / "prune" / folder.name})
        kept = cluster.retention.model_copy(update=retention)
        return Access(cluster.model_copy(update={"repository": where, "drill": drill, "retention": kept}))

    def promised(self) -> list[Instant]:
        return [instant for instant in self.instants if instant.at >= self.now - WINDOW]


def wal_g(folder: Path, *words: str, check: bool = True) -> str:
    """The tool alone, as somebody has it who knows nothing of pgdrill."""
    home = folder.parent / "walg-home"
    home.mkdir(exist_ok=True)
    environment = {"WALG_FILE_PREFIX": str(folder), "WALG_COMPRESSION_METHOD": "lz4", "HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(["wal-g", *words], env=environment, capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def history() -> Iterator[History]:
    """Made once; tests work on copies."""
    need("wal-g")
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool="wal-g")
    today = datetime.now(UTC).replace(hour=14, minute=0, second=0, microsecond=0)
    now = today - DAY * ((today.weekday() - 5) % 7 or 7)
    try:
        stack.create(sample=False)
        stack.start()
        made = History(stack, now, stack.s3.folder / stack.s3.bucket / stack.cluster_name)
        live_through(made)
        yield made
    finally:
        stack.remove()


def live_through(history: History) -> None:
    """Base backups on Sundays at 02:00 and on some other days; rows, and WAL, in between."""
    begin = history.now - timedelta(days=97, hours=12)
    backups = sorted([*(7 * week for week in range(WEEKS)), *EXTRAS])
    with history.stack.connect() as connection:
        connection.execute("CREATE TABLE t (n int PRIMARY KEY)")
        for day, following in zip(backups, [*backups[1:], 98], strict=True):
            name = take_backup(history.stack.access).name
            began = begin + DAY * day
            date(history.folder, name, began)
            history.bases[name] = began + timedelta(hours=1)
            history.rows[name] = count(connection)
            # Saturday evening lies in the window whose first base backup is Sunday's: it needs the one of the week before.
            for at in [began + timedelta(hours=9)] if following - day < 7 else [began + DAY * 1.6, began + DAY * 6.7]:
                lsn = live_on(connection)
                history.instants.append(Instant(min(at, history.now), lsn, count(connection)))
            age(history.folder, began + DAY * (following - day) * 0.9)
        wait_archived(connection, history.stack.access, Segment.holding(parse_lsn(lsn), 1), 60)
        age(history.folder, history.now)


def live_on(connection: psycopg.Connection) -> str:
    """Some rows, and the position after them; the next rows come in a segment of their own."""
    connection.execute("INSERT INTO t SELECT (SELECT coalesce(max(n), 0) FROM t) + i FROM generate_series(1, 10) i")
    (lsn,) = connection.execute("SELECT pg_create_restore_point('here')::text").fetchone()
    connection.execute("SELECT pg_switch_wal()")
    return str(lsn)


def count(connection: psycopg.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def date(folder: Path, name: str, began: datetime) -> None:
    """Give a backup the times of the invented calendar, of the same length, for its record knows the sizes; and its record."""
    place = folder / "basebackups_005"
    sentinel, metadata = place / f"{name}_backup_stop_sentinel.json", place / name / "metadata.json"
    for file, names in ((sentinel, ("StartTime", "FinishTime")), (metadata, ("start_time", "finish_time"))):
        text = file.read_text()
        for key, moment in zip(names, (began, began + timedelta(hours=1)), strict=True):
            was = json.loads(text)[key]
            text = text.replace(was, f"{moment:%Y-%m-%dT%H:%M:%S}.{'0' * (len(was) - 21)}Z")
        file.write_text(text)
    recorded = folder / "pgdrill" / record.key(name)
    recorded.write_text(json.dumps({**json.loads(recorded.read_text()), "finished_at": (began + timedelta(hours=1)).isoformat()}))
    os.utime(sentinel, (began.timestamp() + 3600,) * 2)
    for file in (place / name).rglob("*"):
        os.utime(file, (began.timestamp() + 3600,) * 2)


def age(folder: Path, at: datetime) -> None:
    """What was written lately was written then."""
    for file in (folder / "wal_005").iterdir():
        if file.stat().st_mtime > at.timestamp():
            os.utime(file, (at.timestamp(),) * 2)


def restored_rows(history: History, folder: Path, backup: str, lsn: str = "") -> int:
    """Fetch a base backup and replay WAL to a position (or to the backup's own end), by wal-g alone; then count."""
    place = Path(tempfile.mkdtemp(prefix="r", dir=history.stack.home))
    data = place / "data"
    wal_g(folder, "backup-fetch", str(data), backup)
    data.chmod(0o700)
    (data / "recovery.signal").touch()
    target = {"recovery_target_lsn": lsn} if lsn else {"recovery_target": "immediate"}
    server = LocalServer(
        binaries(), data, place / "s", place / "log",
        options={**target, "recovery_target_action": "promote", "restore_command": "wal-g wal-fetch %f %p", "archive_mode": "off",
                 "listen_addresses": "", "fsync": "off", "shared_buffers": "16MB", "max_connections": "120"},
        environment={"WALG_FILE_PREFIX": str(folder), "WALG_COMPRESSION_METHOD": "lz4", "HOME": str(place),
                     "WALG_DOWNLOAD_CONCURRENCY": "1"},
    )  # fmt: skip
    try:
        server.start()
        words = server.conninfo("agents")
        with psycopg.connect(words, password=history.stack.passwords["postgres"], autocommit=True) as connection:
            server.wait_until(
                lambda: connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,), "has recovered", 30
            )
            return count(connection)
    finally:
        server.stop()
        shutil.rmtree(place)


def newest_before(folder: Path, instant: Instant) -> str | None:
    """The base backup that a person would take: the newest that the tool lists and that had ended by then."""
    listed = json.loads(wal_g(folder, "backup-list", "--detail", "--json") or "[]")
    fitting = [b for b in listed if datetime.fromisoformat(b["finish_time"]) <= instant.at]
    return max(fitting, key=lambda b: b["start_time"])["backup_name"] if fitting else None


def passed_drill(access: Access, backup: str, at: datetime) -> None:
    """A report that says so, as a drill leaves it."""
    report = Report(
        drill_id=f"d-{backup[-6:].lower()}", cluster=access.cluster.name, started_at=at, backup=backup, rpo_seconds=60, rto_seconds=3600,
        verdict="passed", reason="all checks passed",
    )  # fmt: skip
    access.reports.write(f"reports/{report.drill_id}.json", report.model_dump_json().encode())


def files(folder: Path) -> set[str]:
    """The tool's objects."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and "pgdrill" not in file.parts}


@pytest.fixture(scope="module")
def pruned(history: History) -> Path:
    """A copy after pgdrill has pruned it."""
    folder = history.copy("pruned")
    access = history.access(folder)
    passed_drill(access, history.weekly[3], history.now - DAY * 60)
    before = files(folder)
    outlook = look(access, Runner(), now=history.now)
    assert files(folder) == before, "a dry run changes nothing"
    assert outlook.refusals == ()
    result = prune(access, Runner(), now=history.now, approved=outlook.plan.digest)
    assert result.applied
    assert result.backups_deleted == len(outlook.plan.going("backup")) == 2
    assert result.wal_segments_deleted == sum(run.count for run in outlook.plan.wal) > 8
    assert result.freed_bytes > 10_000_000
    assert (result.locked, result.left) == ([], [])
    assert all(promise["after"] >= min(promise["promised"], promise["before"]) for promise in result.promises)
    return folder


def test_the_repository_then_holds_exactly_what_the_promises_need(history: History, pruned: Path) -> None:
    listed = json.loads(wal_g(pruned, "backup-list", "--detail", "--json"))
    assert [b["backup_name"] for b in listed] == list(history.bases)[2:]
    # The anchor is the last Sunday before the window; what is older is permanent, and keeps its own WAL.
    assert [b["backup_name"] for b in listed if b["is_permanent"]] == history.weekly[2:8]
    anchor = history.weekly[8]
    segments = {name.split("/")[1][:24] for name in files(pruned) if name.startswith("wal_005/")}
    all_segments = {name.split("/")[1][:24] for name in files(history.folder) if name.startswith("wal_005/")}
    own = {Segment.holding(b["start_lsn"], 1).name for b in listed} | {Segment.holding(b["finish_lsn"] - 1, 1).name for b in listed}
    assert segments == {name for name in all_segments if name >= anchor.removeprefix("base_")} | own
    kept = {Path(key).stem for key in history.access(pruned).reports.sizes("backups/")}
    assert kept == set(history.bases) - set(history.weekly[:2]), "records go with their backups, and no others do"


def test_planning_again_changes_nothing(history: History, pruned: Path) -> None:
    before = files(pruned)
    outlook = look(history.access(pruned), Runner(), now=history.now)
    assert outlook.plan.steps == ()
    assert not prune(history.access(pruned), Runner(), now=history.now).applied
    assert files(pruned) == before
    (run,) = journal.runs(history.access(pruned))
    assert run.state == "done"
    assert all(step.state == "done" for step in run.steps)


def test_every_promise_is_restored_by_the_tool_alone(history: History, pruned: Path) -> None:
    """The oldest kept base, the window's first and last instant, and five between."""
    oldest = history.weekly[2]
    assert restored_rows(history, pruned, oldest) == history.rows[oldest] > 0
    promised = history.promised()
    chosen = [promised[0], promised[-1], *random.Random(8).sample(promised[1:-1], 5)]
    for instant in chosen:
        base = newest_before(pruned, instant)
        assert base
        assert restored_rows(history, pruned, base, instant.lsn) == instant.rows, instant


@pytest.mark.parametrize("words", [
    ("retain", "FULL", "13"),  # 13 backups are not 13 weeks once somebody takes some by hand
    ("retain", "FULL", "4", "--after", "WINDOW"),  # keeps the first backup after that moment; one before it is needed
    ("before", "WINDOW"),
], ids=" ".join)  # fmt: skip
def test_a_rival_plan_loses_the_windows_first_instant(history: History, words: tuple[str, ...]) -> None:
    folder = history.copy("-".join(("rival", *words)))
    since = f"{history.now - WINDOW:%Y-%m-%dT%H:%M:%SZ}"
    wal_g(folder, "delete", *(since if word == "WINDOW" else word for word in words), "--confirm")
    first = history.promised()[0]
    assert newest_before(folder, first) is None, "no base backup is left from before the window's first instant"
    listed = json.loads(wal_g(folder, "backup-list", "--detail", "--json"))
    with pytest.raises(CouldNotVerify, match="before consistent recovery point"):  # one cannot go back from a later one
        restored_rows(history, folder, listed[0]["backup_name"], first.lsn)
    shutil.rmtree(folder)


def test_the_dates_are_seen_by_the_tool(history: History) -> None:
    listed = json.loads(wal_g(history.folder, "backup-list", "--detail", "--json"))
    assert [datetime.fromisoformat(b["finish_time"]) for b in listed] == list(history.bases.values())
    assert [datetime.fromisoformat(b["time"]) for b in listed] == list(history.bases.values())
    assert format_lsn(listed[0]["start_lsn"])
