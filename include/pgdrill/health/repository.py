"""Is the repository there, is its WAL whole, and how much would be lost now?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pgdrill.errors import CouldNotVerify
from pgdrill.health.answer import Answer, not_asked, unknown
from pgdrill.health.backup_facts import read_backups
from pgdrill.health.check import health_check
from pgdrill.health.continuity import Missing, archived_end, missing, settled
from pgdrill.health.listing import list_new, list_step
from pgdrill.health.memory import Sample, WalMemory, begun_behind
from pgdrill.health.subject import HealthSubject
from pgdrill.reports.terminal import seconds as shown
from pgdrill.text import count

GONE = ("storage-unreachable", "storage-refused", "no-bucket", "no-keys", "half-a-key")
APART_SECONDS = 15.0  # between looks: more makes a measure an estimate, which is said


@health_check(
    "repository",
    "repository",
    passing="the repository lets its archived WAL be listed",
    hint="check repository.url, endpoint_url, keys and the bucket's policy; then the store itself",
    example="s3://backups/agents/wal_005: AccessDenied",
    cost="each look",
    after=("server",),
    hides=(
        "wal-continuity",
        "measured-rpo",
        "base-backup-age",
        "base-backup-leap",
        "window",
        "dump-age",
        "drill-age",
        "drill-verdict",
        "drill-rto",
        "drill-search",
        "drill-rpo",
        "retention-age",
        "room",
        "proved-libraries",
        "watch",
        "store-certificate",
    ),
)
def repository(subject: HealthSubject) -> Iterator[Answer]:
    """List what was archived since the last look."""
    url = subject.access.cluster.repository.url
    memory = subject.memory
    size = subject.archiver.segment_bytes if subject.archiver else memory.wal.segment_bytes
    if size != memory.wal.segment_bytes:
        memory.wal = WalMemory(segment_bytes=size)
    try:
        came = list_new(subject)
        if memory.wal.whole_at is None or subject.wide:
            list_step(subject, subject.now)
    except CouldNotVerify as error:
        words = error.problem
        gone = words.reason in GONE
        yield Answer(
            "critical" if gone else "unknown",
            words.found,
            words.thing,
            words.expected,
            hint=words.hint,
            reason="repository-gone" if gone else words.reason,
        )
        return
    yield Answer("ok", f"listed; {count(came, 'new segment')}", url, "a repository that is there")


@health_check(
    "wal-continuity",
    "repository",
    passing="no archived segment is missing that a base backup needs to reach now",
    hint=(
        "restore it from the bucket's versions or from pg_wal; if it is gone for good, take a base"
        " backup now: `pgdrill backup CLUSTER`"
    ),
    example="0000…2A to 0000…2C: 3 segments are missing, they were there before",
    cost="each look",
    needs=("repository",),
    after=("server",),
)
def continuity(subject: HealthSubject) -> Iterator[Answer]:
    """Judge what was listed: new segments at each look, everything again within a day."""
    memory = subject.memory
    if subject.wide or memory.needed is None:
        read_backups(subject)
    if why := _not_yet(subject):
        yield why
        return
    timeline = memory.timeline or max(run[0] for run in memory.wal.runs)
    found = missing(memory.wal, timeline, memory.needed)
    grace = timedelta(seconds=subject.access.cluster.drill.rpo_seconds)
    certain = settled(memory.wal, found, subject.now, grace)
    for one in certain:
        yield _gap(one, memory.samples, memory.wal.segment_bytes)
    if not certain:
        total = sum(last - first + 1 for _, first, last in memory.wal.runs)
        yield Answer(
            "ok",
            f"{count(total, 'segment')}, none missing"
            + (f", {len(found)} on the way" if found else ""),
            value=0.0,
            promised=0.0,
            unit="count",
        )


def _not_yet(subject: HealthSubject) -> Answer | None:
    """Return why nothing can be judged yet, or None."""
    memory = subject.memory
    if memory.wal.whole_at is None:
        total = sum(last - first + 1 for _, first, last in memory.wal.runs)
        return unknown(
            f"{count(total, 'segment')} listed so far, not all yet",
            "first-round",
            hint="wait for the next looks: everything is listed once before it is judged",
        )
    if not memory.wal.runs:
        return Answer(
            "critical",
            "no segment is archived",
            promise="archived WAL",
            hint="set archive_command: `pgdrill archive-command CLUSTER` prints the lines",
            reason="no-wal",
        )
    line = memory.timeline
    if line and line > 1 and line not in memory.wal.histories:
        return unknown(
            f"the history of timeline {line} is not archived, or cannot be read",
            "history-missing",
            hint=f"archive {line:08X}.history from production's pg_wal",
        )
    return None


def _gap(one: Missing, samples: list[Sample], segment_bytes: int) -> Answer:
    span = one.first if one.count == 1 else f"{one.first} to {one.last}"
    what = "is" if one.count == 1 else "are"
    ever = "there before" if one.was_there else "never seen"
    begun = begun_behind(samples, one.lsn)
    known = begun.earliest and begun.about  # else the gap is older than what is remembered
    return Answer(
        "critical",
        f"{count(one.count, 'segment')} {what} missing, {ever}",
        span,
        "unbroken WAL",
        float(one.count),
        0.0,
        "count",
        would_lose_seconds=(samples[-1].at - known).total_seconds() if known else None,
        reason="wal-gap",
    )


@health_check(
    "measured-rpo",
    "repository",
    passing="what was committed longer ago than the promised RPO is in the repository",
    hint=(
        "see the checks archiver and wal-waiting; set archive_timeout to three quarters of the"
        " promise, so that a quiet server ends its segments, too"
    ),
    example="4 min of work would be lost if production died now, promised at most 60 s",
    cost="each look",
    needs=("server", "repository"),
    after=("wal-continuity",),
)
def rpo(subject: HealthSubject) -> Iterator[Answer]:
    """Compare the end of archived WAL with where production's was, look by look."""
    memory = subject.memory
    end = archived_end(memory.wal, subject.position.timeline, memory.needed)
    if end is None:
        yield not_asked("nothing is archived: the checks of archiving tell it", "no-wal")
        return
    promise = subject.access.cluster.drill.rpo_seconds
    yield judge_rpo(memory.samples, end, subject.facts.now, promise)


def judge_rpo(samples: list[Sample], end_lsn: int, now: datetime, promise: float) -> Answer:
    """Judge what would be lost: what was committed behind the archived end.

    It began between two looks. Critical is what broke the promise however late it began there; a
    warning what did if the WAL came evenly between them.
    """
    begun = begun_behind(samples, end_lsn)
    lost = (now - begun.about).total_seconds() if begun.about else 0.0
    least = (now - begun.latest).total_seconds() if begun.latest else 0.0
    if begun.earliest is None and least <= promise:
        return not_asked(
            "no look is old enough yet to tell when the unarchived work began", "first-look"
        )
    most = (now - begun.earliest).total_seconds() if begun.about and begun.earliest else lost
    apart = f", at most {shown(round(most))}" if most - least > APART_SECONDS else ""
    more = " or more" if begun.earliest is None else ""
    late = lost > promise
    return Answer(
        ("critical" if least > promise else "warning") if late else "ok",
        f"{shown(round(lost, 1))}{more} of work would be lost if production died now{apart}",
        "",
        f"at most {shown(promise)}",
        lost,
        promise,
        "seconds",
        would_lose_seconds=lost,
        reason="rpo-missed" if late else "",
    )
