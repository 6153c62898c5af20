"""Taking the baseline: look at every database, then mark the instant that a drill recovers to."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from pgdrill.access import Access
from pgdrill.archiving import check_server, wait_archived
from pgdrill.baseline.database import read_database
from pgdrill.baseline.model import Baseline
from pgdrill.clock import measure
from pgdrill.fingerprint import read_fingerprint
from pgdrill.postgres.leftovers import read_only_roles, server_settings
from pgdrill.postgres.wal import Segment

SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
KEPT_SETTINGS = [
    "server_version", "shared_preload_libraries", "data_checksums", "wal_segment_size", "archive_timeout",
    "session_preload_libraries", "local_preload_libraries",
]  # fmt: skip
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"


def take_baseline(access: Access, *, restore_point: str = "", content: bool = True) -> Baseline:
    """Look at production; with ``restore_point``, end with a named one and wait until its WAL is archived.

    Only then are single rows sampled: they tell change from damage up to that point and mean nothing later. Without
    ``content`` no database is read: a drill to an instant of the past has nothing to compare with today's rows.
    """
    started = time.monotonic()
    drill = access.cluster.drill
    with access.connect() as connection:
        connection.execute(
            sql.SQL("SET statement_timeout = {}").format(sql.Literal(int(drill.statement_timeout_seconds * 1000)))
        )
        identifier = check_server(connection, access)
        timeline, lsn, next_xid = _position(connection)
        clock = measure(connection)
        settings: dict[str, str] = dict(connection.execute(SETTINGS, (KEPT_SETTINGS,)).fetchall())
        names = access.cluster.server.databases or [row[0] for row in connection.execute(DATABASES).fetchall()]
        baseline = Baseline(
            cluster=access.cluster.name, taken_at=datetime.now(UTC), system_identifier=identifier, timeline=timeline,
            settings={**server_settings(connection), **settings}, read_only=read_only_roles(connection),
            shared_objects=read_fingerprint(connection, shared=True),
            databases={n: read_database(access, n, samples=bool(restore_point)) for n in names if content},
            next_xid=next_xid, wal_lsn=lsn, clock_offset_seconds=clock.offset_seconds,
            clock_uncertainty_seconds=clock.uncertainty_seconds,
        )  # fmt: skip
        if restore_point:
            _mark(connection, access, baseline, restore_point)
    baseline.seconds = time.monotonic() - started
    return baseline


def _position(connection: psycopg.Connection) -> tuple[int, str, int]:
    row = connection.execute(
        "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_current_wal_lsn()::text,"
        " pg_snapshot_xmax(pg_current_snapshot())::text"
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate-free SELECT without FROM has one row
    return int(row[0], 16), row[1], int(row[2])


def _mark(connection: psycopg.Connection, access: Access, baseline: Baseline, name: str) -> None:
    """Create the restore point and have its segment archived now instead of after ``archive_timeout``."""
    row = connection.execute("SELECT pg_create_restore_point(%s)::text", (name,)).fetchone()
    baseline.restore_point, baseline.restore_point_at = name, datetime.now(UTC)
    baseline.lsn = str(row[0]) if row else ""
    connection.execute("SELECT pg_switch_wal()")
    segment = Segment.holding(baseline.lsn_position - 1, baseline.timeline, baseline.segment_bytes)
    wait_archived(connection, access, segment, access.cluster.backup.archive_wait_seconds)
