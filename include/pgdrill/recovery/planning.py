"""The plan of a drill: a look at production, and the target made exact.

A person or a schedule wishes for the target.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from pgdrill.access import Access
from pgdrill.baseline import Baseline, take_baseline
from pgdrill.baseline.heartbeat import STATEMENT_TIMEOUT, HeartbeatColumn
from pgdrill.baseline.own_system import own_system
from pgdrill.baseline.segment_size import segment_bytes
from pgdrill.errors import BackupFault, CouldNotVerify, Gone
from pgdrill.host.process import Runner
from pgdrill.postgres import sandbox_settings
from pgdrill.postgres.clock import UNKNOWN
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES, format_lsn, parse_lsn
from pgdrill.recovery.goal import Goal
from pgdrill.recovery.presence import note_absence
from pgdrill.recovery.reach import Archive, Reached
from pgdrill.recovery.targets import RecoveryTarget
from pgdrill.recovery.timelines import (
    Timelines,
    archived_timelines,
    branches,
    followed,
    last_known_timeline,
    newest_reports,
)
from pgdrill.reports import store
from pgdrill.reports.model import Heartbeats, Report, Target
from pgdrill.repository.archived_end import (
    ArchivedEnd,
    all_archived,
    archived_end,
    first_commit_after,
    lost_seconds,
)
from pgdrill.repository.archiver import archive_now
from pgdrill.repository.restorable_window import TICK, Line, Span, draw, restorable
from pgdrill.repository.wal_files import WalReader

logger = logging.getLogger(__name__)

# PostgreSQL's names of restore points end after 63 bytes
DRILL_SHOWN = 63 - len("pgdrill-") - len("-12345678")


@dataclass(frozen=True, slots=True)
class Look:
    """Production as a drill's start found it, and the end of the archive as it was before.

    None: gone, or empty.

    ``line``: production's timeline with its ancestors, or the one that stands for it.
    """

    baseline: Baseline | None
    end: ArchivedEnd | None
    line: Line | None

    @property
    def segment_bytes(self) -> int:
        """The bytes of a WAL segment, or PostgreSQL's default where nothing is archived."""
        return self.line.segment_bytes if self.line else DEFAULT_SEGMENT_BYTES


def decide(
    access: Access,
    wanted: RecoveryTarget,
    backup: str,
    report: Report,
    runner: Runner,
    folder: Path,
) -> tuple[Goal, Look]:
    """Choose the target, look at production, and return the exact goal with that look."""
    chosen = by_turns(access, wanted, report.target)
    look = look_at_production(access, report, runner, folder, latest=chosen.kind == "latest")
    if look.baseline is None and backup.upper() == "LATEST":  # the newest may be anybody's
        own_system(access, access.repository.backups()).check()
    try:
        goal, target = exact_goal(access, chosen, backup, look, report, runner, folder)
    except CouldNotVerify as error:
        if wanted.kind != "alternate" or error.problem.reason != "no-window":
            raise
        logger.warning("no random instant this time, so latest: %s", error)
        look = look_at_production(access, report, runner, folder, latest=True)
        goal, target = exact_goal(
            access, RecoveryTarget("latest"), backup, look, report, runner, folder
        )
        target.note = "a random instant was due, but there is none to draw"
    target.asked = str(wanted)
    report.target = target
    return goal, look


def new_restore_point(drill_id: str) -> str:
    """Return a name that no try had before, of the same drill or of any other.

    Recovery stops at the first point of its name.
    """
    return f"pgdrill-{drill_id[:DRILL_SHOWN]}-{secrets.token_hex(4)}"


def look_at_production(
    access: Access, report: Report, runner: Runner, folder: Path, *, latest: bool
) -> Look:
    """Measure the RPO and take the baseline.

    Only a drill to ``latest`` takes the baseline's content and makes a restore point.
    """
    started = time.monotonic()
    # what has reached it by itself, before a switch is asked for
    listed = access.repository.wal()
    wal = access.wal_reader(runner, folder)
    # before the restore point: it has to come back
    report.heartbeats = read_heartbeats(access) if latest else None
    restore_point = new_restore_point(report.drill_id) if latest else ""
    try:
        baseline = take_baseline(access, restore_point=restore_point, content=latest, runner=runner)
    except Gone as error:
        note_absence(access, report, error)
        line = _line(access, report, wal, listed, None)
        return Look(None, archived_end(wal, listed, line) if line else None, line)
    line = _line(access, report, wal, listed, baseline)
    end = archived_end(wal, listed, line) if line else None
    report.clock_offset_seconds = baseline.clock_offset_seconds
    report.clock_uncertainty_seconds = baseline.clock_uncertainty_seconds
    if line and end:
        _measure(access, report, wal, line, end, baseline)
    report.versions = {
        "server": baseline.settings.get("server_version", ""),
        **{f"{name}.extensions": state.extensions for name, state in baseline.databases.items()},
    }
    report.timings.baseline_seconds = time.monotonic() - started
    return Look(baseline, end, line)


def _line(
    access: Access,
    report: Report,
    wal: WalReader,
    listed: Mapping[str, int],
    baseline: Baseline | None,
) -> Line | None:
    """Return production's line of timelines, by its own word or by what was last known of it.

    Notes the other ends of WAL in the report. None where no timeline is known.
    """
    size = baseline.segment_bytes if baseline else segment_bytes(access)
    found = archived_timelines(wal, listed, size, least=baseline.timeline if baseline else 0)
    timeline, doubtful = (baseline.timeline, []) if baseline else _without_production(access, found)
    if timeline is None:
        return None
    report.branches = branches(access, found, timeline, doubtful, production=baseline is not None)
    history = found.wal.histories.get(timeline) or wal.history(timeline)
    return Line(timeline, history, size)


def _without_production(access: Access, found: Timelines) -> tuple[int | None, list[int]]:
    backups = access.repository.backups()
    mine = own_system(access, backups).of(backups)
    return followed(found, last_known_timeline(mine, newest_reports(access)))


def _measure(
    access: Access, report: Report, wal: WalReader, line: Line, end: ArchivedEnd, baseline: Baseline
) -> None:
    """Measure what would have been lost when the drill began.

    It counts from the first commit that had not reached the repository then.
    """
    begun = (baseline.clock or UNKNOWN).on_server(report.started_at)
    if all_archived(end, baseline.next_xid):
        report.measured_rpo_seconds = 0.0
        return
    try:
        until = baseline.lsn_position if baseline.lsn else _archive_now(access)
        first = first_commit_after(wal, line, end, until)
        report.measured_rpo_seconds = lost_seconds(first.at if first else None, begun)
    except (CouldNotVerify, LookupError, psycopg.Error) as error:
        logger.warning("the first commit that was not archived is not known: %s", error)
        if end.last_commit_at:
            report.measured_rpo_seconds = lost_seconds(end.last_commit_at, begun)
            report.measured_rpo_note = (
                "at most, since the last archived commit: what was written since is not"
                " archived yet"
            )


def _archive_now(access: Access) -> int:
    with access.connect() as connection:
        return archive_now(connection, access.repository)


def read_heartbeats(access: Access, instant: datetime | None = None) -> Heartbeats | None:
    """Read production's heartbeats, also as of ``instant`` if there is one.

    None where none are configured or production does not answer.
    """
    column = HeartbeatColumn.of(access.cluster)
    if column is None:
        return None
    try:
        with access.connect(column.database) as connection:
            connection.execute(STATEMENT_TIMEOUT)
            with connection.transaction():
                if why := column.runs(connection):
                    return Heartbeats(
                        not_asked=f"asking production would run somebody's function: {why}"
                    )
                at_target = column.newest(connection, instant) if instant else None
                return Heartbeats(newest_at=column.newest(connection), at_target=at_target)
    except Gone as error:
        logger.warning("production's heartbeats were not read: %s", error)
        return None
    except psycopg.Error as error:
        return Heartbeats(trouble=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")


def by_turns(access: Access, wanted: RecoveryTarget, earlier: Target | None) -> RecoveryTarget:
    """Return ``alternate`` as ``latest`` or ``random``, by turns.

    The newest drill that had one of them as its target decides: this one takes the other.

    The turn is told from the reports and not from the calendar: a week without a drill skips
    neither. A second try of the same drill (``earlier``) keeps its choice.
    """
    if wanted.kind != "alternate":
        return wanted
    if earlier:
        return RecoveryTarget("random" if earlier.kind == "random" else "latest")
    return RecoveryTarget("random" if _last_kind(access) == "latest" else "latest")


def _last_kind(access: Access) -> str:
    for drill_id in reversed(store.list_reports(access)):
        try:
            target = store.load_report(access, drill_id).target
        except CouldNotVerify as error:
            logger.warning("report passed over: %s", error)
            continue
        if target and target.kind in ("latest", "random"):
            return target.kind
    return ""


def exact_goal(
    access: Access,
    wanted: RecoveryTarget,
    backup: str,
    look: Look,
    report: Report,
    runner: Runner,
    folder: Path,
) -> tuple[Goal, Target]:
    """Return the goal, and the target as the report shows it.

    ``report.target`` is that of an earlier try, if any.
    """
    match wanted.kind:
        case "latest":
            goal = _latest(backup, look)
            shown = Target(kind="latest", value=goal.target.value)
        case "random":
            goal, note = _random(access, backup, look, report, runner, folder)
            shown = Target(kind="random", value=goal.target.value, note=note)
        case "time" | "before" | "lsn" | "name":
            reached = _reachable(access, wanted, backup, look, runner, folder)
            goal = _known(reached.backup, wanted, look, reached.stop_lsn)
            shown = Target(kind=wanted.kind, value=wanted.value)
        case "alternate":
            raise ValueError("alternate is latest or random by now")
    if goal.stop_lsn:
        shown.lsn = format_lsn(goal.stop_lsn)
    if wanted.kind != "latest":
        report.not_compared = f"what production held at {goal.target} is not recorded"
    if shown.instant:
        report.heartbeats = read_heartbeats(access, shown.instant)
    return goal, shown


def _reachable(
    access: Access, wanted: RecoveryTarget, backup: str, look: Look, runner: Runner, folder: Path
) -> Reached:
    """Refuse a target that a person cannot have meant, and find where it lies.

    It is found only as far as that is known.
    """
    if look.line is None:
        return Reached(backup)
    archive = Archive(access.wal_reader(runner, folder), look.line)
    if wanted.kind == "name":
        return archive.name(wanted, backup)
    if wanted.kind != "lsn":
        archive.time(wanted, (look.baseline.clock if look.baseline else None) or UNKNOWN)
    elif look.baseline:
        archive.lsn(wanted, parse_lsn(look.baseline.wal_lsn))
    return Reached(backup)


def _known(backup: str, target: RecoveryTarget, look: Look, stop_lsn: int | None = None) -> Goal:
    """Return the goal for a target, with what production says of itself."""
    if look.baseline is None:
        return Goal(
            backup,
            target,
            stop_lsn=stop_lsn,
            timeline=look.line.timeline if look.line else None,
            segment_bytes=look.segment_bytes,
        )
    return Goal(
        backup,
        target,
        stop_lsn=stop_lsn,
        system_identifier=look.baseline.system_identifier,
        timeline=look.baseline.timeline,
        segment_bytes=look.baseline.segment_bytes,
        preload_libraries=look.baseline.settings.get("shared_preload_libraries", ""),
        configured=look.baseline.configured,
        superusers=look.baseline.superusers,
        after_replay=sandbox_settings.replayed(look.baseline.configured),
        planned_with=sandbox_settings.planning(
            {**look.baseline.configured, **_set_for_searches(look.baseline)}
        ),
    )


def _set_for_searches(baseline: Baseline) -> dict[str, str]:
    """Return pgvector's settings that stand in production's file.

    A session that has not loaded pgvector does not list them.
    """
    told = (item for state in baseline.databases.values() for item in state.search_settings.items())
    set_by = {name: value.partition(": ") for name, value in told}
    return {
        name: value
        for name, (source, _, value) in set_by.items()
        if source in ("configuration file", "command line")
    }


def _latest(backup: str, look: Look) -> Goal:
    """Make ``latest`` exact.

    It becomes the baseline's restore point, or the last record that reached the archive.
    """
    if look.baseline:
        goal = _known(
            backup,
            RecoveryTarget("name", look.baseline.restore_point),
            look,
            look.baseline.lsn_position,
        )
        return replace(goal, tablespaces=look.baseline.tablespaces)
    end = _end(look)
    target = RecoveryTarget("lsn", format_lsn(end.last_record_lsn))
    return _known(backup, target, look, end.last_record_lsn)


def _end(look: Look) -> ArchivedEnd:
    if look.end is None:
        raise BackupFault(
            "no-wal",
            "the repository",
            found="no readable WAL segment",
            expected="archived WAL",
            hint="check the archive_command of production",
        )
    return look.end


def _random(
    access: Access, backup: str, look: Look, report: Report, runner: Runner, folder: Path
) -> tuple[Goal, str]:
    """Draw an instant from all that can be restored.

    An earlier try's instant is taken where it can still be restored.
    """
    line = look.line or Line(_end(look).segment.timeline, segment_bytes=look.segment_bytes)
    clock = (look.baseline.clock if look.baseline else None) or UNKNOWN
    since = clock.on_server(datetime.now(UTC)) - timedelta(days=access.cluster.drill.random_days)
    wal, backups = access.wal_reader(runner, folder), access.repository.backups()
    spans = restorable(wal, backups, line, allowance=clock.allowance, since=since)
    if backup.upper() != "LATEST":
        spans = [cut for span in spans if (cut := _from(span, backup))]
    if not spans:
        raise CouldNotVerify(
            "no-window",
            f"random instant in {access.repository.url}",
            found="no span of instants that can be restored",
            expected="a base backup, and archived WAL with the end of a transaction after it",
            hint=(
                "drill `latest`; if production was written to since the backup, see that its WAL is"
                " archived"
            ),
        )
    instant = report.target.instant if report.target and report.target.kind == "random" else None
    span = next((one for one in spans if instant and one.start <= instant < one.end), None)
    if span is None or instant is None:
        span, instant = draw(spans, report.drill_id)
    chosen = span.backup_for(instant).name if backup.upper() == "LATEST" else backup
    shown = "; ".join(map(str, spans))
    logger.info("drew %s from %s", instant.isoformat(), shown)
    target = RecoveryTarget("time", instant.isoformat())
    return _known(chosen, target, look), f"drawn from {shown}"


def _from(span: Span, name: str) -> Span | None:
    """Return the part of a span that the backup of that name can reach, or None."""
    named = next((one for one in span.backups if one.name == name), None)
    if named is None:
        return None
    start = max(span.start, named.finish_time + span.allowance)
    if span.end - start < TICK:
        return None
    return Span(start, span.end, (named,), span.allowance)
