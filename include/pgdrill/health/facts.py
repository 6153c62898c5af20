"""What one look reads of a server: values only, each judged elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from pgdrill.postgres.wal import parse_lsn

BASIC = """
SELECT pg_is_in_recovery() AS in_recovery, clock_timestamp() AS now,
       current_setting('server_version') AS version,
       current_setting('archive_mode') AS archive_mode,
       pg_size_bytes(current_setting('wal_segment_size')) AS segment_bytes,
       a.archived_count, a.last_archived_wal, a.last_archived_time,
       a.failed_count, a.last_failed_wal, a.last_failed_time, a.stats_reset
FROM pg_stat_archiver a
"""
# the number of the next transaction is that of a snapshot's end
PLACE = """
SELECT pg_current_wal_insert_lsn()::text,
       substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),
       pg_snapshot_xmax(pg_current_snapshot())::text
"""
# A promotion writes the history of its timeline into pg_wal.
WAL_DIRECTORY = """
SELECT (SELECT sum(size) FROM pg_ls_waldir())::int8,
       (SELECT modification FROM pg_ls_waldir() WHERE name = %(history)s),
       ready.count, ready.name, ready.oldest
FROM (SELECT count(*) AS count, (array_agg(name ORDER BY modification))[1] AS name,
             min(modification) AS oldest
      FROM pg_ls_archive_statusdir() WHERE name LIKE '%%.ready') ready
"""
SLOTS = """
SELECT slot_name, slot_type, active, wal_status, safe_wal_size,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 AS held_bytes
FROM pg_replication_slots WHERE NOT temporary ORDER BY 1
"""
RECEIVER = """
SELECT pg_is_in_recovery() AS in_recovery, current_setting('server_version') AS version,
       pg_last_wal_replay_lsn()::text AS replayed, pg_last_wal_receive_lsn()::text AS received,
       coalesce((SELECT status FROM pg_stat_wal_receiver), '') AS receiver,
       CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS paused,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier
"""


@dataclass(frozen=True, slots=True)
class ArchiverFacts:
    """The server's role, and what its archiver says of itself. Times are by the server's clock."""

    in_recovery: bool
    now: datetime
    version: str
    archive_mode: str
    segment_bytes: int
    archived_count: int
    last_archived_wal: str | None
    last_archived_time: datetime | None
    failed_count: int
    last_failed_wal: str | None
    last_failed_time: datetime | None
    stats_reset: datetime | None


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """How far this host's clock is ahead of the server's, give or take ``uncertain_seconds``."""

    ahead_seconds: float
    uncertain_seconds: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where the primary's WAL is."""

    lsn: int
    timeline: int
    next_xid: int


@dataclass(frozen=True, slots=True)
class WalDirectory:
    """What lies in ``pg_wal``. ``promoted_at``: when this timeline began, where it is known."""

    total_bytes: int
    promoted_at: datetime | None
    ready: int
    oldest_ready: str | None
    oldest_ready_at: datetime | None


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot. ``safe_wal_size``: bytes until it is lost; None: no limit is set."""

    slot_name: str
    slot_type: str
    active: bool
    wal_status: str | None
    safe_wal_size: int | None
    held_bytes: int | None


@dataclass(frozen=True, slots=True)
class ReceiverFacts:
    """What a standby says of itself. ``receiver``: its WAL receiver's state, empty without one."""

    in_recovery: bool
    version: str
    replayed: str | None
    received: str | None
    receiver: str
    paused: bool
    system_identifier: str


def read_archiver(connection: psycopg.Connection) -> ArchiverFacts:
    """Read role, clock and archiver."""
    found = connection.cursor(row_factory=class_row(ArchiverFacts)).execute(BASIC).fetchone()
    assert found is not None  # noqa: S101 - it has always one row
    return found


def read_place(connection: psycopg.Connection) -> Place:
    """Read where a primary's WAL is. A server in recovery refuses that."""
    lsn, timeline, xid = _one(connection.execute(PLACE).fetchone())
    return Place(parse_lsn(lsn), int(timeline, 16), int(xid))


def read_wal_directory(connection: psycopg.Connection, timeline: int) -> WalDirectory:
    """Read what lies in ``pg_wal``, and what of it waits to be archived."""
    row = connection.execute(WAL_DIRECTORY, {"history": f"{timeline:08X}.history"}).fetchone()
    return WalDirectory(*_one(row))


def read_slots(connection: psycopg.Connection) -> list[Slot]:
    """Read the replication slots that outlive a session."""
    return connection.cursor(row_factory=class_row(Slot)).execute(SLOTS).fetchall()


def read_receiver(connection: psycopg.Connection) -> ReceiverFacts:
    """Read how a standby receives and replays."""
    found = connection.cursor(row_factory=class_row(ReceiverFacts)).execute(RECEIVER).fetchone()
    assert found is not None  # noqa: S101 - a SELECT without FROM has one row
    return found


def _one(row: Any) -> Any:
    assert row is not None  # noqa: S101 - a SELECT without a condition has one row
    return row
