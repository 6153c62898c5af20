"""The baseline: what production held at a known LSN, without any row content.

Row counts come from one repeatable-read snapshot per database. What may have changed between that snapshot and the
restore point is bounded by the server's own counters, read once before the snapshot and once after the restore point.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict

from pgdrill.access import Access
from pgdrill.archiving import check_server, wait_archived
from pgdrill.fingerprint import Fingerprint, read_fingerprint
from pgdrill.postgres.wal import Segment, parse_lsn

# A backend that goes idle keeps its counters back for up to ten seconds (PGSTAT_IDLE_INTERVAL).
COUNTERS_SETTLE_SECONDS = 11.0

# Permanent tables and materialized views that hold rows themselves; unlogged ones are empty after any recovery.
TABLES = """
SELECT n.nspname || '.' || c.relname, c.oid::int8, n.nspname, c.relname, c.relfilenode::int8,
       pg_total_relation_size(c.oid), coalesce(s.n_tup_ins, 0), coalesce(s.n_tup_del, 0)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND n.nspname <> 'information_schema'
  AND n.nspname !~ '^pg_' AND (c.relkind = 'r' OR c.relispopulated)
ORDER BY 1
"""
EXTENSIONS = "SELECT extname, extversion FROM pg_extension ORDER BY 1"
SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
KEPT_SETTINGS = ["server_version", "shared_preload_libraries", "data_checksums", "wal_segment_size", "archive_timeout"]
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"


class Model(BaseModel):
    """A part of the baseline as JSON."""

    model_config = ConfigDict(extra="forbid")


class TableState(Model):
    """A table at the snapshot, and the counters that bound what came after. ``rows`` is None where it was not counted."""

    rows: int | None
    bytes: int
    filenode: int
    inserted: int
    deleted: int
    inserted_later: int | None = None
    deleted_later: int | None = None
    rewritten: bool = False

    def allowed_rows(self) -> tuple[int, int] | None:
        """Fewest and most rows at the restore point; None where nothing can be said."""
        if self.rows is None or self.rewritten or self.inserted_later is None or self.deleted_later is None:
            return None
        return max(0, self.rows - self.deleted_later), self.rows + self.inserted_later


class DatabaseState(Model):
    """One database."""

    extensions: dict[str, str]
    tables: dict[str, TableState]
    schema_objects: Fingerprint


class Baseline(Model):
    """What production held. ``restore_point`` and ``lsn`` name the instant a drill recovers to."""

    version: int = 1
    cluster: str
    taken_at: datetime
    system_identifier: int
    timeline: int
    settings: dict[str, str]
    shared_objects: Fingerprint
    databases: dict[str, DatabaseState]
    seconds: float = 0.0
    next_xid: int = 0
    wal_lsn: str = ""
    restore_point: str = ""
    lsn: str = ""
    restore_point_at: datetime | None = None

    @property
    def lsn_position(self) -> int:
        """The restore point as a byte position."""
        return parse_lsn(self.lsn)


def take_baseline(access: Access, *, restore_point: str = "") -> Baseline:
    """Look at production; with ``restore_point``, end with a named one and wait until its WAL is archived."""
    started = time.monotonic()
    drill = access.cluster.drill
    with access.connect() as connection:
        connection.execute(
            sql.SQL("SET statement_timeout = {}").format(sql.Literal(int(drill.statement_timeout_seconds * 1000)))
        )
        identifier = check_server(connection, access)
        timeline, lsn, next_xid = _position(connection)
        settings: dict[str, str] = dict(connection.execute(SETTINGS, (KEPT_SETTINGS,)).fetchall())
        names = access.cluster.server.databases or [row[0] for row in connection.execute(DATABASES).fetchall()]
        baseline = Baseline(
            cluster=access.cluster.name, taken_at=datetime.now(UTC), system_identifier=identifier, timeline=timeline,
            settings=settings, shared_objects=read_fingerprint(connection, shared=True),
            databases={name: _database(access, name) for name in names},
            next_xid=next_xid, wal_lsn=lsn,
        )  # fmt: skip
        if restore_point:
            _mark(connection, access, baseline, restore_point)
    baseline.seconds = time.monotonic() - started
    return baseline


def settle(access: Access, baseline: Baseline) -> None:
    """Read counters and catalogs again, late enough that the counters hold all that was written before the restore point.

    What changed meanwhile is allowed to be in either state.
    """
    with access.connect() as connection:
        baseline.shared_objects.settle(read_fingerprint(connection, shared=True))
    since = baseline.restore_point_at or baseline.taken_at
    remaining = COUNTERS_SETTLE_SECONDS - (datetime.now(UTC) - since).total_seconds()
    if remaining > 0:
        time.sleep(remaining)  # nothing announces that a backend has reported its counters
    for name, database in baseline.databases.items():
        with access.connect(name) as connection:
            now = {row[0]: row for row in connection.execute(TABLES).fetchall()}
            database.schema_objects.settle(read_fingerprint(connection, shared=False))
        for table, state in database.tables.items():
            row = now.get(table)
            if row is None or row[4] != state.filenode or row[6] < state.inserted or row[7] < state.deleted:
                state.rewritten = True  # dropped, truncated, rewritten, or counters reset: no bound holds
                continue
            state.inserted_later, state.deleted_later = row[6] - state.inserted, row[7] - state.deleted


def _position(connection: psycopg.Connection) -> tuple[int, str, int]:
    row = connection.execute(
        "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_current_wal_lsn()::text,"
        " pg_snapshot_xmax(pg_current_snapshot())::text"
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate-free SELECT without FROM has one row
    return int(row[0], 16), row[1], int(row[2])


def _database(access: Access, name: str) -> DatabaseState:
    drill = access.cluster.drill
    with access.connect(name, autocommit=False) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        timeout = sql.SQL("SET LOCAL statement_timeout = {}").format(
            sql.Literal(int(drill.statement_timeout_seconds * 1000))
        )
        connection.execute(timeout)
        # Counters first: what is counted twice only widens the bound, what is missed would narrow it.
        listed = connection.execute(TABLES).fetchall()
        connection.rollback()
        connection.execute(timeout)
        # Rows hidden by row security would be counted as lost; a role that cannot see them gets an error instead.
        connection.execute("SET LOCAL row_security = off")
        extensions = extension_versions(connection)
        objects = read_fingerprint(connection, shared=False)
        tables = {row[0]: _table(connection, row, drill.baseline_table_bytes) for row in listed}
    counted = {name: state for name, state in tables.items() if state is not None}
    return DatabaseState(extensions=extensions, tables=counted, schema_objects=objects)


def _table(connection: psycopg.Connection, row: tuple[Any, ...], limit_bytes: int) -> TableState | None:
    _, _, schema, table, filenode, size, inserted, deleted = row
    rows = None
    if size <= limit_bytes:
        rows = count_rows(connection, schema, table)
        if rows is None:
            return None  # dropped since it was listed
    return TableState(rows=rows, bytes=size, filenode=filenode, inserted=inserted, deleted=deleted)


def extension_versions(connection: psycopg.Connection) -> dict[str, str]:
    """Every installed extension of a database: name -> version."""
    return {row[0]: row[1] for row in connection.execute(EXTENSIONS).fetchall()}


def count_rows(connection: psycopg.Connection, schema: str, table: str) -> int | None:
    """Rows of a table by a full scan; None if there is no such table."""
    try:
        with connection.transaction():
            found = connection.execute(
                sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, table))
            ).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return int(found[0]) if found else None


def _mark(connection: psycopg.Connection, access: Access, baseline: Baseline, name: str) -> None:
    """Create the restore point and have its segment archived now instead of after ``archive_timeout``."""
    row = connection.execute("SELECT pg_create_restore_point(%s)::text", (name,)).fetchone()
    baseline.restore_point, baseline.restore_point_at = name, datetime.now(UTC)
    baseline.lsn = str(row[0]) if row else ""
    connection.execute("SELECT pg_switch_wal()")
    segment = Segment.holding(baseline.lsn_position - 1, baseline.timeline, segment_bytes(baseline))
    wait_archived(connection, access, segment, access.cluster.backup.archive_wait_seconds)


def segment_bytes(baseline: Baseline) -> int:
    """Size of production's WAL segments (``pg_settings`` gives it in bytes)."""
    return int(baseline.settings.get("wal_segment_size", 16 * 2**20))

