"""Does WAL leave the primary: what fails, what waits, and how long there is room for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta

from pgdrill.config import Health
from pgdrill.health.answer import Answer, not_asked
from pgdrill.health.check import health_check
from pgdrill.health.facts import ArchiverFacts, WalDirectory, read_wal_directory
from pgdrill.health.memory import bytes_a_second
from pgdrill.health.subject import HealthSubject
from pgdrill.reports.terminal import seconds as shown
from pgdrill.reports.terminal import size
from pgdrill.text import count

# Between two looks that tell how fast pg_wal grows: a checkpoint comes every five minutes.
RATE_OVER = timedelta(minutes=10)
DEFAULTS = Health()
LOG_HINT = "read production's server log for the archive_command's own words"


@health_check(
    "wal-waiting",
    "server",
    passing="no finished WAL segment waits longer to be archived than the promised RPO",
    hint=LOG_HINT,
    example="0000…2A waits for 12 min with 47 more, promised at most 60 s",
    cost="each look",
    needs=("server",),
)
def waiting(subject: HealthSubject) -> Iterator[Answer]:
    """Ask for the oldest ``.ready`` file: on an idle primary none is there, whatever the age of the
    last archived segment.
    """
    subject.wal_directory = found = read_wal_directory(subject.server, subject.position.timeline)
    samples = subject.memory.samples
    if samples:
        samples[-1].wal_directory_bytes = found.total_bytes
    yield judge_waiting(found, subject.facts.now, subject.access.cluster.drill.rpo_seconds)


def judge_waiting(found: WalDirectory, now: datetime, promise: float) -> Answer:
    """Compare the age of the oldest file that waits with the promised RPO."""
    words = f"at most {shown(promise)}, the promised RPO"
    if found.oldest_ready_at is None:
        return Answer("ok", "nothing waits", "", words, 0.0, promise, "seconds")
    age = max(0.0, (now - found.oldest_ready_at).total_seconds())
    name = (found.oldest_ready or "").removesuffix(".ready")
    more = f", with {found.ready - 1} more" if found.ready > 1 else ""
    late = age > promise
    return Answer(
        "critical" if late else "ok",
        f"{name} waits for {shown(age)}{more}",
        "",
        words,
        age,
        promise,
        "seconds",
        would_lose_seconds=age if late else None,
        reason="wal-waits" if late else "",
    )


@health_check(
    "archiver",
    "server",
    passing="the last attempt to archive a segment succeeded, on this primary",
    hint=LOG_HINT,
    example="the last attempt, 0000…2A, failed 3 min ago, 2 min after the last success",
    cost="each look",
    needs=("server",),
    after=("wal-waiting",),
    hides=("wal-waiting",),
)
def archiver(subject: HealthSubject) -> Iterator[Answer]:
    """Compare the last failure with the last success, both since this server became primary."""
    yield judge_archiver(
        subject.facts, subject.wal_directory, subject.access.cluster.drill.rpo_seconds
    )


def judge_archiver(facts: ArchiverFacts, waits: WalDirectory | None, promise: float) -> Answer:
    """Judge what the archiver says, of its time as this primary's alone.

    A server that was primary before keeps its counters, so whatever lies before its promotion
    counts for nothing. Counts are of all time: they are shown, and never judged.
    """
    begun = waits.promoted_at if waits else None
    archived = _since(facts.last_archived_time, begun)
    failed = _since(facts.last_failed_time, begun)
    if facts.archive_mode == "off":
        return Answer(
            "critical",
            "archive_mode is off: nothing is archived",
            promise="every segment archived",
            hint="`pgdrill archive-command CLUSTER` prints the lines for postgresql.conf",
            reason="archiving-off",
        )
    oldest = waits.oldest_ready_at if waits else None
    waited = (facts.now - oldest).total_seconds() if oldest else 0.0
    late = waited > promise
    lost = max(waited, 0.0) if oldest else None
    if failed and (archived is None or failed > archived):
        ago = max(0.0, (facts.now - failed).total_seconds())
        after = (
            f"{shown((failed - archived).total_seconds())} after the last success"
            if archived
            else "and nothing was archived before"
        )
        return Answer(
            "critical" if late or archived is None else "warning",
            f"the last attempt, {facts.last_failed_wal}, failed {shown(ago)} ago, {after}",
            promise="the last attempt to have succeeded",
            value=(failed - archived).total_seconds() if archived else None,
            promised=0.0,
            unit="seconds",
            would_lose_seconds=lost,
            reason="archiving-fails",
        )
    if archived is None:
        return Answer(
            "critical" if late else "warning",
            "nothing was archived yet" + (" since it was promoted" if begun else ""),
            promise="every segment archived",
            would_lose_seconds=lost,
            hint="end a segment, `SELECT pg_switch_wal()`, and see whether it arrives",
            reason="never-archived",
        )
    ago = max(0.0, (facts.now - archived).total_seconds())
    return Answer(
        "ok",
        f"{facts.last_archived_wal} archived {shown(ago)} ago,"
        f" {count(facts.failed_count, 'failure')} since the counters were reset",
        promise="the last attempt to have succeeded",
        value=0.0,
        promised=0.0,
        unit="seconds",
    )


def _since(instant: datetime | None, begun: datetime | None) -> datetime | None:
    return None if instant is None or (begun is not None and instant < begun) else instant


@health_check(
    "wal-room",
    "server",
    passing="at this rate, pg_wal has room for health.wal_room_warning_seconds (a day) and more",
    hint=(
        "see what holds WAL back: the checks archiver and slots say it; make room on its disk, for"
        " once it is full production stops"
    ),
    example="/srv/pg/pg_wal: full in 3 h at 1.2 GB/h, with 3.6 GB free",
    cost="each look",
    needs=("server", "wal-waiting"),
)
def room(subject: HealthSubject) -> Iterator[Answer]:
    """Compare the growth of pg_wal with what its disk has free, where that is on this host."""
    folder = subject.access.cluster.server.data_directory / "pg_wal"
    if not folder.is_dir():
        yield not_asked(
            f"{folder} is not on this host: PostgreSQL does not tell what its disk has free",
            "not-beside",
        )
        return
    rate = bytes_a_second(subject.memory.samples, RATE_OVER)
    free = shutil.disk_usage(folder).free
    yield judge_room(f"{folder}", free, rate, subject.access.cluster.health)


def judge_room(
    folder: str, free_bytes: int, rate: float | None, limits: Health = DEFAULTS
) -> Answer:
    """Judge how long pg_wal has room. What does not grow never fills."""
    enough = limits.wal_room_warning_seconds
    words = f"room for {shown(enough)}"
    if rate is None or rate <= 0:
        how = "does not grow" if rate is not None else "was not looked at for long enough yet"
        return Answer("ok", f"{size(free_bytes)} free; it {how}", folder, words)
    left = free_bytes / rate
    status = "ok" if left > enough else "warning"
    return Answer(
        "critical" if left < limits.wal_room_critical_seconds else status,  # type: ignore[arg-type]
        f"full in {shown(left)} at {size(int(rate * 3600))}/h, with {size(free_bytes)} free",
        folder,
        words,
        left,
        enough,
        "seconds",
        reason="" if left > enough else "wal-fills",
    )
