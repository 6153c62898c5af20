"""Is the primary there, and is it one?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from pgdrill.errors import Gone
from pgdrill.health.answer import Answer
from pgdrill.health.check import health_check
from pgdrill.health.facts import read_archiver, read_place
from pgdrill.health.memory import Sample, begun_behind
from pgdrill.health.subject import HealthSubject

ASKED_OF_IT = (
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
        subject.archiver = read_archiver(subject.server)
    except psycopg.OperationalError:
        # it may have been restarted since the last look
        subject.drop()
        subject.archiver = read_archiver(subject.server)
    if subject.archiver.in_recovery:
        return
    subject.place = found = read_place(subject.server)
    subject.memory.add(
        Sample(
            at=subject.archiver.now, timeline=found.timeline, lsn=found.lsn, next_xid=found.next_xid
        )
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
