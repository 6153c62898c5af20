"""Is the primary there, and is it one?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg

from pgdrill.config import Health
from pgdrill.errors import Gone
from pgdrill.health.answer import Answer
from pgdrill.health.check import health_check
from pgdrill.health.facts import ArchiverFacts, ClockFacts, read_archiver, read_place
from pgdrill.health.memory import Sample, begun_behind
from pgdrill.health.subject import HealthSubject
from pgdrill.reports.terminal import seconds as shown

DEFAULTS = Health()
ASKED_OF_IT = (
    "clock",
    "server-certificate",
    "wal-waiting",
    "archiver",
    "wal-room",
    "slots",
    "heartbeat",
    "standby",
    "standby-receiving",
    "replay-lag",
    "standby-fit",
    "measured-rpo",
    "page-checksums",
    "server-settings",
    "transaction-id-age",
    "proved-libraries",
)


@health_check(
    "server",
    "server",
    passing="the server at server.dsn lets in, and is a primary",
    hint="see on its host whether it runs; after a failover, correct server.dsn",
    example="server of cluster agents, host=db1: connection refused",
    cost="each look",
    hides=ASKED_OF_IT,
)
def server(subject: HealthSubject) -> Iterator[Answer]:
    """Read role, clock and archiver in one statement, and where the WAL is."""
    try:
        _read(subject)
    except Gone as error:
        words = error.problem
        yield Answer(
            "critical",
            f"{words.thing}: {words.found}",
            promise="a server that lets in",
            would_lose_seconds=_lost(subject),
            reason="server-gone",
        )
        return
    if subject.facts.in_recovery:
        yield Answer(
            "critical",
            "a server in recovery: nobody is primary where server.dsn leads",
            promise="a primary",
            reason="in-recovery",
        )
        return
    yield Answer("ok", f"PostgreSQL {subject.facts.version}, the primary", promise="a primary")


def _read(subject: HealthSubject) -> None:
    try:
        subject.archiver, subject.clock = _timed(subject.server)
    except psycopg.OperationalError:
        # it may have been restarted since the last look
        subject.drop()
        subject.archiver, subject.clock = _timed(subject.server)
    if subject.archiver.in_recovery:
        return
    subject.place = found = read_place(subject.server)
    subject.memory.add(
        Sample(
            at=subject.archiver.now, timeline=found.timeline, lsn=found.lsn, next_xid=found.next_xid
        )
    )


def _timed(connection: psycopg.Connection) -> tuple[ArchiverFacts, ClockFacts]:
    """Read what the server says, and by how much this host's clock is ahead of its own."""
    before = datetime.now(UTC)
    began = time.monotonic()
    found = read_archiver(connection)
    took = time.monotonic() - began
    middle = before + timedelta(seconds=took / 2)
    return found, ClockFacts((middle - found.now).total_seconds(), took / 2)


@health_check(
    "clock",
    "server",
    passing="this host's clock and the server's are at most health.clock_seconds (10) apart",
    hint="see on both hosts whether the clock is set by NTP: `timedatectl`, `chronyc tracking`",
    example="this host's clock is 340 s ahead of the server's",
    cost="each look",
    needs=("server",),
)
def clock(subject: HealthSubject) -> Iterator[Answer]:
    """Compare the two clocks: ages are told by this host's, lag and archiving by the server's."""
    assert subject.clock is not None  # noqa: S101 - needs=("server",)
    yield judge_clock(subject.clock, subject.access.cluster.health.clock_seconds)


def judge_clock(found: ClockFacts, most: float = DEFAULTS.clock_seconds) -> Answer:
    """Judge by what they are apart at least: an answer that took long says little."""
    least = max(0.0, abs(found.ahead_seconds) - found.uncertain_seconds)
    late = least > most
    side = "ahead of" if found.ahead_seconds > 0 else "behind"
    return Answer(
        "warning" if late else "ok",
        f"this host's clock is {shown(round(least, 1))} {side} the server's"
        if late
        else f"at most {shown(round(least + 2 * found.uncertain_seconds, 1))} apart",
        "",
        f"at most {shown(most)} apart",
        least,
        most,
        "seconds",
        reason="clocks-apart" if late else "",
    )


def _lost(subject: HealthSubject) -> float | None:
    """Return what is lost if it stays gone: from the archived end to when it was last seen."""
    samples, wal = subject.memory.samples, subject.memory.wal
    if not samples or not wal.runs:
        return None
    timeline, _, last = max(wal.runs)
    if timeline != samples[-1].timeline:
        return None
    begun = begun_behind(samples, (last + 1) * wal.segment_bytes)
    return (samples[-1].at - begun.about).total_seconds() if begun.about else 0.0
