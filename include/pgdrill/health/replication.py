"""Would a standby do: is it there, does it receive, how far behind is what it has replayed?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import psycopg

from pgdrill.baseline.heartbeat import HeartbeatColumn
from pgdrill.config import Health
from pgdrill.errors import StandbyUnreachable
from pgdrill.health.answer import Answer, not_asked, unknown
from pgdrill.health.check import health_check
from pgdrill.health.facts import ReceiverFacts, read_receiver
from pgdrill.health.memory import begun_behind
from pgdrill.health.subject import HealthSubject
from pgdrill.postgres.presence import listens
from pgdrill.postgres.wal import format_lsn, parse_lsn
from pgdrill.reports.terminal import seconds as shown
from pgdrill.reports.terminal import size

DEFAULTS = Health()
NO_STANDBY = "server.standby_dsn names no standby"


@health_check(
    "heartbeat",
    "server",
    passing="heartbeats are written on the primary, as often as drill.heartbeat_seconds says",
    hint="run `pgdrill heartbeat CLUSTER --every 5` as a service",
    example="agents: public.pgdrill_heartbeat.at: the newest is 4 min old, promised every 5 s",
    cost="each look",
    needs=("server",),
)
def heartbeat(subject: HealthSubject) -> Iterator[Answer]:
    """Ask for the age of the newest on the primary, by the primary's own clock."""
    column = HeartbeatColumn.of(subject.access.cluster)
    if column is None:
        yield not_asked("drill.heartbeat names no column", "no-heartbeat")
        return
    with subject.beside(column.database) as connection, connection.transaction():
        if why := column.runs(connection):
            yield unknown(f"not read, for {why}", "heartbeat-runs-code", thing=f"{column}")
            return
        newest = column.newest(connection)
    yield judge_heartbeat(
        f"{column}", newest, subject.facts.now, subject.access.cluster.drill.heartbeat_seconds
    )


def judge_heartbeat(thing: str, newest: datetime | None, now: datetime, every: float) -> Answer:
    """Judge the writer alone: a dead one says nothing about the standby."""
    allowed = 3 * every
    promise = f"one every {shown(every)}"
    if newest is None:
        return Answer("warning", "nobody wrote any", thing, promise, reason="no-heartbeats")
    age = max(0.0, (now - newest).total_seconds())
    late = age > allowed
    return Answer(
        "warning" if late else "ok",
        f"the newest is {shown(age)} old",
        thing,
        promise,
        age,
        allowed,
        "seconds",
        reason="heartbeat-stopped" if late else "",
    )


@health_check(
    "standby",
    "replication",
    passing="the standby at server.standby_dsn lets in, and is a standby of this primary",
    hint="see on its host whether it runs, and what its server log says",
    example="standby of cluster agents, host=db2: connection refused",
    cost="each look",
    needs=("server",),
    hides=("standby-receiving", "replay-lag", "standby-fit"),
)
def standby(subject: HealthSubject) -> Iterator[Answer]:
    """Log in and ask whose it is."""
    if not subject.access.has_standby:
        yield not_asked(NO_STANDBY, "no-standby")
        return
    thing = _place(subject)
    try:
        found = _read(subject)
    except StandbyUnreachable as error:
        words = error.problem
        gone = not listens(subject.access.conninfo(standby=True))
        status = "critical" if gone else "unknown"
        yield Answer(
            status,  # type: ignore[arg-type]
            words.found,
            thing,
            "a standby that lets in",
            reason="standby-gone" if gone else words.reason,
        )
        return
    if not found.in_recovery:
        yield Answer(
            "critical",
            "a primary: it was promoted, or never was a standby",
            thing,
            "a standby of this primary",
            hint=(
                "make sure that one alone is written to; make the other anew as its standby, and"
                " let server.dsn and server.standby_dsn lead to them"
            ),
            reason="standby-promoted",
        )
        return
    subject.receiver = found
    yield Answer("ok", f"PostgreSQL {found.version}, a standby", thing, "a standby")


def _read(subject: HealthSubject) -> ReceiverFacts:
    try:
        return read_receiver(subject.standby)
    except psycopg.OperationalError:
        subject.drop_standby()
        return read_receiver(subject.standby)


def _place(subject: HealthSubject) -> str:
    words = subject.access.conninfo(standby=True)
    return f"{words.get('host', '')}:{words.get('port', '5432')}"


@health_check(
    "standby-receiving",
    "replication",
    passing="the standby's WAL receiver is connected and streams",
    hint="read the standby's server log: primary_conninfo, a slot that is lost, pg_hba.conf",
    example="db2:5432: receives nothing, 48 MB behind the primary",
    cost="each look",
    needs=("standby",),
    hides=("replay-lag",),
)
def receiving(subject: HealthSubject) -> Iterator[Answer]:
    """Ask the receiver itself: what has replayed all that it received may receive nothing."""
    if subject.receiver is None:
        yield not_asked(NO_STANDBY, "no-standby")
        return
    yield judge_receiving(subject.receiver, subject.position.lsn, _place(subject))


def judge_receiving(found: ReceiverFacts, primary_lsn: int, thing: str) -> Answer:
    """Judge whether WAL arrives."""
    received = parse_lsn(found.received) if found.received else None
    behind = None if received is None else max(0, primary_lsn - received)
    words = f"{size(behind)} behind the primary" if behind is not None else "nothing received"
    streams = found.receiver == "streaming"
    return Answer(
        "ok" if streams else "critical",
        f"streams, {words}" if streams else f"receives nothing, {words}",
        thing,
        "a WAL receiver that streams",
        None if behind is None else float(behind),
        unit="" if behind is None else "bytes",
        reason="" if streams else "receives-nothing",
    )


@dataclass(frozen=True, slots=True)
class Beats:
    """Heartbeats of both servers, by the primary's clock.

    ``replayed``: the newest that the standby has. ``next_one``: the first that it lacks.
    """

    now: datetime
    replayed: datetime | None
    next_one: datetime | None


@health_check(
    "replay-lag",
    "replication",
    passing="what was committed health.replay_lag_seconds (30) ago can be seen on the standby",
    hint=(
        "see on the standby what holds replay up: `SELECT pg_is_wal_replay_paused()`, long queries"
        " (max_standby_streaming_delay), its disk"
    ),
    example="db2:5432: 95 s behind, replay is paused, promised at most 30 s",
    cost="each look",
    needs=("standby", "standby-receiving"),
    after=("heartbeat",),
)
def lag(subject: HealthSubject) -> Iterator[Answer]:
    """Look for the first heartbeat that the standby lacks, and how long ago it was written."""
    if subject.receiver is None:
        yield not_asked(NO_STANDBY, "no-standby")
        return
    thing = _place(subject)
    column = HeartbeatColumn.of(subject.access.cluster)
    if column is None:
        yield _by_position(subject, subject.receiver, thing)
        return
    with subject.beside(column.database, standby=True) as connection, connection.transaction():
        if why := column.runs(connection):
            yield unknown(f"not read, for {why}", "heartbeat-runs-code", thing=thing)
            return
        replayed = column.newest(connection)
    with subject.beside(column.database) as connection, connection.transaction():
        if column.runs(connection):
            yield unknown("heartbeats cannot be read", "heartbeat-runs-code", thing=thing)
            return
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        now: datetime = row[0] if row else subject.facts.now
        newest, first = column.newest(connection), column.first_after(connection, replayed)
    every, most = subject.access.cluster.drill.heartbeat_seconds, _most(subject)
    stopped = newest is None or (now - newest).total_seconds() > max(3 * every, most)
    if stopped and first is None:  # the standby lacks none, which then says nothing
        yield unknown(
            "no heartbeat is written, so none can be missed", "heartbeat-stopped", thing=thing
        )
        return
    yield judge_lag(Beats(now, replayed, first), subject.receiver, thing, most)


def judge_lag(
    beats: Beats, found: ReceiverFacts, thing: str, most: float = DEFAULTS.replay_lag_seconds
) -> Answer:
    """Judge by the first heartbeat that was not replayed: an idle primary's are replayed, too."""
    behind = 0.0 if beats.next_one is None else (beats.now - beats.next_one).total_seconds()
    return _judged(max(0.0, behind), most, found, thing, "by heartbeat")


def _by_position(subject: HealthSubject, found: ReceiverFacts, thing: str) -> Answer:
    """Judge by where the primary's WAL was at earlier looks: idle, it stands still, and so may
    replay.
    """
    if found.replayed is None:
        return unknown("the standby has replayed nothing", "nothing-replayed", thing=thing)
    position = parse_lsn(found.replayed)
    memory = subject.memory
    if position >= subject.position.lsn:
        return _judged(0.0, _most(subject), found, thing, "by LSN")
    begun = begun_behind(memory.samples, position)
    least = (subject.facts.now - begun.latest).total_seconds() if begun.latest else 0.0
    if begun.earliest is None and least <= _most(subject):
        return unknown(
            f"behind, at {format_lsn(position)}; for how long tells a later look",
            "first-look",
            thing=thing,
        )
    return _judged(max(0.0, least), _most(subject), found, thing, "by LSN, at least")


def _most(subject: HealthSubject) -> float:
    return subject.access.cluster.health.replay_lag_seconds


def _judged(behind: float, most: float, found: ReceiverFacts, thing: str, how: str) -> Answer:
    paused = ", replay is paused" if found.paused else ""
    late = behind > most
    return Answer(
        "critical" if late else "ok",
        f"{shown(round(behind, 1))} behind ({how}){paused}",
        thing,
        f"at most {shown(most)}",
        behind,
        most,
        "seconds",
        reason="replay-lags" if late else "",
    )
