"""Instants of the past: which can be restored, and the proof that a restored cluster is of the one
that was asked for.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.baseline.heartbeat import keep_beating
from pgdrill.checks import CHECKS, Context
from pgdrill.drill import destroy_stage, drill, new_drill_id, restore_stage
from pgdrill.errors import CouldNotVerify
from pgdrill.host.process import Runner
from pgdrill.postgres.clock import measure
from pgdrill.postgres.wal import Segment, parse_lsn
from pgdrill.postgres.waldump import ended_transactions
from pgdrill.recovery.goal import Goal
from pgdrill.recovery.planning import decide, exact_goal, look_at_production, read_heartbeats
from pgdrill.recovery.targets import RecoveryTarget, parse_target
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill.reports.model import CheckResult, Report, Target
from pgdrill.repository.archiver import wait_archived
from pgdrill.repository.restorable_window import Line, Span, restorable
from pgdrill_demo.stack import Stack, preferred_tool
from tests.integration.conftest import nothing_left
from tests.integration.jobs.test_drill import promote

NO_DIFFERENCE = timedelta(0)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass
class Life:
    """Production with a past: a backup, lost WAL, another backup, a failover, and changes since."""

    stack: Stack
    lost: Segment
    lost_at: datetime
    promoted_at: datetime

    @property
    def access(self) -> Access:
        return self.stack.access

    def spans(self, folder: Path, since: datetime = LONG_AGO) -> list[Span]:
        wal = self.access.wal_reader(Runner(), folder)
        backups = self.access.repository.backups()
        line = Line(2, wal.history(2))
        return restorable(wal, backups, line, allowance=NO_DIFFERENCE, since=since)

    def ticks(self, until: datetime) -> int:
        """How many ticks production had written by then."""
        with self.stack.connect() as connection:
            row = connection.execute(
                "SELECT count(*) FROM ticks WHERE at <= %s", (until,)
            ).fetchone()
            return int(row[0]) if row else 0


def tick(stack: Stack, count: int = 5) -> datetime:
    """Transactions one after the other, and the WAL with them archived; gives the time after the
    last.
    """
    with stack.connect() as connection:
        for _ in range(count):
            connection.execute("INSERT INTO ticks DEFAULT VALUES")
        row = connection.execute(
            "SELECT pg_switch_wal()::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),"
            " clock_timestamp()"
        ).fetchone()
        assert row
        wait_archived(
            connection,
            stack.access.repository,
            Segment.holding(parse_lsn(row[0]) - 1, int(row[1], 16)),
            60,
        )
    return row[2]


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
    stopped = threading.Event()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RCLONE_DIR_CACHE_TIME", "1ms")  # a segment is lost behind its back
            stack.create(scale=0.05)
            stack.start()
        with stack.connect() as connection:
            connection.execute(
                "CREATE TABLE ticks (at timestamptz NOT NULL DEFAULT clock_timestamp(), n serial)"
            )
        heart = threading.Thread(target=keep_beating, args=(stack.access, 0.2, stopped))
        heart.start()
        take_backup(stack.access)
        tick(stack)
        with stack.connect() as connection:
            row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert row
        lost, lost_at = Segment.holding(parse_lsn(row[0]), 1), tick(stack)
        (gone,) = (stack.s3.folder / stack.s3.bucket).rglob(f"{lost.name}.*")
        gone.unlink()
        tick(stack)  # behind the gap, and before anything can be restored again
        take_backup(stack.access)
        tick(stack)
        promote(stack)
        promoted_at = tick(stack)
        tick(stack)
        with stack.connect() as connection:
            connection.execute("DROP INDEX embeddings_hnsw_idx")
            connection.execute("CREATE TABLE newer (id int)")
            connection.execute("UPDATE agents SET name = name || '!'")
        stopped.set()
        heart.join()
        yield Life(stack, lost, lost_at, promoted_at)
    finally:
        stopped.set()
        stack.remove()


def by_name(report: Report) -> dict[str, list[CheckResult]]:
    found: dict[str, list[CheckResult]] = {}
    for result in report.results:
        found.setdefault(result.name, []).append(result)
    return found


def restored_ticks(report: Report) -> int:
    assert report.restored
    with psycopg.connect(
        host=report.restored.socket_directory, user="postgres", dbname="agents"
    ) as connection:
        row = connection.execute("SELECT count(*) FROM ticks").fetchone()
        return int(row[0]) if row else 0


def test_a_gap_in_the_middle_gives_two_spans_and_a_failover_none(
    life: Life, tmp_path: Path
) -> None:
    first, second = life.spans(tmp_path)
    backups = life.access.repository.backups()
    assert first.start == backups[0].finish_time
    assert first.end < life.lost_at
    assert second.start == backups[1].finish_time
    assert second.start > life.lost_at
    assert second.start < life.promoted_at <= second.end
    assert [len(span.backups) for span in (first, second)] == [1, 1]


def test_what_is_older_than_the_window_is_left_out(life: Life, tmp_path: Path) -> None:
    second = life.spans(tmp_path)[1]
    middle = second.start + second.length / 2
    assert [(one.start, one.end) for one in life.spans(tmp_path, since=middle)] == [
        (middle, second.end)
    ]
    assert life.spans(tmp_path, since=second.end) == []


def drawn(
    life: Life,
    folder: Path,
    drill_id: str,
    *,
    earlier: Target | None = None,
    gone: bool = False,
    backup: str = "LATEST",
) -> tuple[str, datetime]:
    """The backup and the instant that a random drill of this id would restore."""
    access = life.access
    if gone:
        access = dataclasses.replace(
            access,
            cluster=access.cluster.model_copy(
                update={
                    "server": access.cluster.server.model_copy(
                        update={"dsn": f"host={life.stack.home}/gone"}
                    )
                }
            ),
        )
    report = Report(
        drill_id=drill_id,
        cluster="agents",
        started_at=datetime.now(UTC),
        rpo_seconds=60,
        rto_seconds=3600,
        target=earlier,
    )
    look = look_at_production(access, report, Runner(), folder, latest=False)
    assert (look.baseline is None) == gone
    goal, target = exact_goal(
        access, RecoveryTarget("random"), backup, look, report, Runner(), folder
    )
    assert target.kind == "random"
    assert target.instant
    assert report.not_compared
    assert goal.timeline == 2
    return goal.backup, target.instant


def test_random_instants_lie_in_the_spans_and_come_from_the_newest_backup_before_them(
    life: Life, tmp_path: Path
) -> None:
    found = {seed: drawn(life, tmp_path, seed) for seed in ("one", "two", "three")}
    tick(life.stack, 1)
    for name, instant in found.values():
        (span,) = (one for one in life.spans(tmp_path) if one.start <= instant < one.end)
        assert name == span.backups[0].name
    assert len({instant for _, instant in found.values()}) == len(found)
    # A second try of the same drill means the same instant, though the window has moved on.
    kept = Target(kind="random", value=found["one"][1].isoformat())
    assert drawn(life, tmp_path, "one", earlier=kept) == found["one"]


def test_without_production_a_random_instant_is_drawn_from_the_newest_archived_timeline(
    life: Life, tmp_path: Path
) -> None:
    _, instant = drawn(life, tmp_path, "one", gone=True)
    assert any(one.start <= instant < one.end for one in life.spans(tmp_path))


def test_a_random_instant_of_a_named_backup_lies_behind_it(life: Life, tmp_path: Path) -> None:
    backup = life.access.repository.backups()[0]
    name, instant = drawn(life, tmp_path, "one", backup=backup.name)
    first = life.spans(tmp_path)[0]
    assert name == backup.name
    assert first.start <= instant < first.end


def test_a_drill_to_a_random_instant_before_a_failover_is_green_with_what_it_can_prove(
    life: Life, tmp_path: Path
) -> None:
    """Rows, an index and a table were changed since: none of that is damage."""
    span = life.spans(tmp_path)[1]
    drill_id = new_drill_id()
    # Between the second backup and the promotion; as if an earlier try had drawn it.
    instant = span.start + (life.promoted_at - span.start) / 4
    earlier = Report(
        drill_id=drill_id,
        cluster="agents",
        started_at=datetime.now(UTC),
        rpo_seconds=60,
        rto_seconds=3600,
        target=Target(kind="random", value=instant.isoformat(), asked="random"),
    )
    store.save_report(life.access, earlier)
    report = drill(life.access, target="random", drill_id=drill_id)
    nothing_left(life.access, drill_id)
    assert report.target
    assert (report.target.kind, report.target.instant) == ("random", instant)
    found = by_name(report)
    bad = [r for r in report.results if r.status == "fail" or (r.status == "skip" and r.required)]
    assert not bad
    assert report.verdict == "passed", report.reason
    assert {name for name, results in found.items() if results[0].value == "not asked"} >= {
        "catalogs",
        "extension-versions",
        "table-content",
    }
    assert {
        name: [r.status for r in found[name]]
        for name in (
            "instant",
            "heartbeat",
            "timeline",
            "promoted-once",
            "stray-timeline",
            "server-log",
            "recovery-leftovers",
            "preload-libraries",
            "clock-difference",
        )
    } == {
        "instant": ["pass", "pass"],
        "heartbeat": ["pass"],
        "timeline": ["pass", "pass"],
        "promoted-once": ["pass", "pass"],
        "stray-timeline": ["pass"],
        "server-log": ["pass"],
        "recovery-leftovers": ["pass"],
        "preload-libraries": ["pass"],
        "clock-difference": ["pass"],
    }
    assert "index-recall" in found
    assert report.not_compared


@pytest.fixture
def restored(life: Life, request: pytest.FixtureRequest) -> Iterator[tuple[Life, Report]]:
    """Restored to the very instant of a commit, ``time`` or ``before``."""
    folder = Path(tempfile.mkdtemp(dir=life.stack.home))
    end = life.spans(folder)[1]
    segment = Segment.holding(end.backups[0].finish_lsn + (1 << 24), 1)
    file = life.access.wal_reader(Runner(), folder).fetch(segment.name)
    assert file
    (commit,) = [it.at for it in ended_transactions(life.access.binaries, file)][3:4]
    drill_id = new_drill_id()
    try:
        report = restore_stage(
            life.access, drill_id, target=f"{request.param}:{commit.isoformat()}"
        )
        assert report.restore.status == "ok", report.restore.trouble
        yield life, report
    finally:
        destroy_stage(life.access, drill_id)


def asked(life: Life, report: Report, name: str) -> list[str]:
    """A recovery check's answers."""
    server = Workspace.of(life.access, report.drill_id).server(life.access)
    context = Context(
        life.access.cluster,
        server.connect,
        ("agents",),
        production=store.load_baseline(life.access, report.drill_id),
        report=report,
    )
    return [result.status for result in CHECKS[name].run(context)]


@pytest.mark.parametrize("restored", ["before"], indirect=True)
def test_before_leaves_out_what_was_committed_at_that_very_instant(
    restored: tuple[Life, Report],
) -> None:
    life, report = restored
    assert report.target
    assert report.target.instant
    assert 0 <= life.ticks(report.target.instant) - restored_ticks(report) <= 1
    assert report.instant
    at = report.target.instant
    assert at
    assert report.instant.next_at == at  # replay stopped at this very commit
    assert report.instant.last_at
    assert report.instant.last_at < at
    assert asked(life, report, "instant") == ["pass", "pass"]
    # The same state is not that of `time:` of that instant, which holds the commit, nor of any
    # other instant.
    for kind, other in (
        ("time", at),
        ("before", at + timedelta(microseconds=1)),
        ("random", at + timedelta(hours=1)),
    ):
        claimed = report.model_copy(update={"target": Target(kind=kind, value=other.isoformat())})
        assert asked(life, claimed, "instant") == ["fail", "pass"], kind
    earlier = report.model_copy(
        update={"target": Target(kind="time", value=(at - timedelta(hours=1)).isoformat())}
    )
    assert asked(life, earlier, "instant") == ["pass", "fail"]
    # Production wrote heartbeats since, so a state without them is not that of an hour later.
    later = at + timedelta(hours=1)
    stale = report.model_copy(
        update={
            "target": Target(kind="random", value=later.isoformat()),
            "heartbeats": read_heartbeats(life.access, later),
        }
    )
    assert asked(life, stale, "heartbeat") == ["fail"]


def looked(
    life: Life, folder: Path, wanted: str, *, now: datetime | None = None, **settings: float
) -> tuple[Report, Goal]:
    """What a drill decides, without restoring."""
    drill_settings = life.access.cluster.drill.model_copy(update=settings)
    access = Access(
        life.access.cluster.model_copy(update={"drill": drill_settings}), life.access.credentials
    )
    report = Report(
        drill_id=new_drill_id(),
        cluster="agents",
        started_at=now or datetime.now(UTC),
        rpo_seconds=60,
        rto_seconds=3600,
    )
    goal, _ = decide(access, parse_target(wanted), "LATEST", report, Runner(), folder)
    return report, goal


def test_a_random_turn_without_any_instant_to_draw_is_latest_and_says_so(
    life: Life, tmp_path: Path
) -> None:
    store.save_report(
        life.access,
        Report(
            drill_id="9-the-newest",
            cluster="agents",
            started_at=datetime.now(UTC),
            rpo_seconds=1,
            rto_seconds=1,
            target=Target(kind="latest", value="x"),
        ),
    )
    report, goal = looked(life, tmp_path, "alternate", random_days=1e-9)
    assert report.target
    assert (report.target.kind, report.target.asked) == ("latest", "alternate")
    assert "random instant was due" in report.target.note
    assert goal.target.value.startswith(f"pgdrill-{report.drill_id}")
    assert not report.not_compared
    with pytest.raises(CouldNotVerify) as caught:
        looked(life, tmp_path, "random", random_days=1e-9)
    assert caught.value.problem.reason == "no-window"


def test_a_host_whose_clock_is_behind_measures_the_same_rpo_and_keeps_out_of_the_backups_last_seconds(  # noqa: E501
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = timedelta(seconds=2)
    began = time.monotonic()
    right, _ = looked(life, tmp_path, "random")
    monkeypatch.setattr(
        "pgdrill.baseline.take.measure",
        lambda connection: measure(connection, lambda: datetime.now(UTC) - behind),
    )
    wrong, _ = looked(life, tmp_path, "random", now=datetime.now(UTC) - behind)
    assert wrong.clock_offset_seconds == pytest.approx(2, abs=0.2)
    assert right.measured_rpo_seconds is not None
    assert wrong.measured_rpo_seconds is not None
    # as time went by
    assert (
        0
        <= wrong.measured_rpo_seconds - right.measured_rpo_seconds
        < max(1.9, time.monotonic() - began)
    )
    assert wrong.target
    assert wrong.target.instant
    starts = [span.start for span in life.spans(tmp_path)]
    assert (
        min(wrong.target.instant - start for start in starts if start <= wrong.target.instant)
        >= behind
    )
