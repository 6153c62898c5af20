"""The baseline: what production held at a known LSN, without any row content.

Content comes from one repeatable-read snapshot per database (see :mod:`pgdrill.digests`). What may have changed between
that snapshot and the restore point is bounded by the server's own counters, read once before the snapshot and once after
the restore point.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict

from pgdrill.access import Access
from pgdrill.archiving import check_server, wait_archived
from pgdrill.digests import SAMPLE_ROWS, Content, Horizon, horizon, read_content, read_sample
from pgdrill.fingerprint import Fingerprint, read_fingerprint
from pgdrill.postgres.wal import Segment, parse_lsn

# A backend that goes idle keeps its counters back for up to ten seconds (PGSTAT_IDLE_INTERVAL).
COUNTERS_SETTLE_SECONDS = 11.0
SAMPLE_BUDGET_ROWS = 400_000  # over all tables of a database: some forty megabytes

# Permanent tables and materialized views that hold rows themselves, and the large objects; unlogged tables are empty
# after any recovery. Most written first: they get their share of the sample before it is used up.
TABLES = """
SELECT n.nspname || '.' || c.relname, c.oid::int8, n.nspname, c.relname, c.relfilenode::int8,
       pg_total_relation_size(c.oid), coalesce(s.n_tup_ins, 0), coalesce(s.n_tup_upd, 0), coalesce(s.n_tup_del, 0),
       greatest(c.reltuples, 0)::int8
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE (c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND n.nspname <> 'information_schema'
       AND n.nspname !~ '^pg_' AND (c.relkind = 'r' OR c.relispopulated))
   OR c.oid = 'pg_catalog.pg_largeobject'::regclass
ORDER BY coalesce(s.n_tup_upd + s.n_tup_del, 0) DESC, 1
"""
EXTENSIONS = "SELECT extname, extversion FROM pg_extension ORDER BY 1"
SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
KEPT_SETTINGS = ["server_version", "shared_preload_libraries", "data_checksums", "wal_segment_size", "archive_timeout"]
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"


class Model(BaseModel):
    """A part of the baseline as JSON."""

    model_config = ConfigDict(extra="forbid")


class Changes(Model):
    """Rows inserted, updated and deleted, as the server counts them."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def rewritten_rows(self) -> int:
        """Row versions that are not where they were: updated or deleted ones."""
        return self.updated + self.deleted


class TableState(Model):
    """A table at the snapshot. ``content`` is None where the table was too large to read whole.

    ``sample`` holds single rows (see :func:`pgdrill.digests.read_sample`) until settling shows that the digest will do.
    ``counters`` are as of before the snapshot; ``changes``, once settled, bound what was written up to the restore point;
    None where no bound holds, because the table was truncated or rewritten or its counters were reset.
    """

    content: Content | None
    bytes: int
    filenode: int
    estimated_rows: int
    sample: dict[str, str] = {}
    counters: Changes
    changes: Changes | None = None


class DatabaseState(Model):
    """One database."""

    extensions: dict[str, str]
    horizon: Horizon
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
    """Look at production; with ``restore_point``, end with a named one and wait until its WAL is archived.

    Only then are single rows sampled: they tell change from damage up to that point and mean nothing later.
    """
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
            databases={name: _database(access, name, samples=bool(restore_point)) for name in names},
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
            state.changes = _changes(state, row) if row else None
            if state.content and state.changes and not state.changes.rewritten_rows:
                state.sample.clear()  # the digest says it all


def _changes(state: TableState, row: tuple[Any, ...]) -> Changes | None:
    """What the counters say was written since; None where they cannot be believed."""
    now = dict(zip(Changes.model_fields, row[6:9], strict=True))
    since = {name: now[name] - getattr(state.counters, name) for name in now}
    if row[4] != state.filenode or min(since.values()) < 0:
        return None
    return Changes(**since)


def _position(connection: psycopg.Connection) -> tuple[int, str, int]:
    row = connection.execute(
        "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_current_wal_lsn()::text,"
        " pg_snapshot_xmax(pg_current_snapshot())::text"
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate-free SELECT without FROM has one row
    return int(row[0], 16), row[1], int(row[2])


def _database(access: Access, name: str, *, samples: bool) -> DatabaseState:
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
        line = horizon(connection, secrets.token_hex(16))
        objects = read_fingerprint(connection, shared=False)
        tables: dict[str, TableState] = {}
        budget = SAMPLE_BUDGET_ROWS if samples else 0
        for row in listed:
            state = _table(connection, row, line, drill.baseline_table_bytes, budget)
            if state is not None:
                tables[row[0]] = state
                budget -= len(state.sample)
        extensions = extension_versions(connection)
    return DatabaseState(extensions=extensions, horizon=line, tables=tables, schema_objects=objects)


def _table(
    connection: psycopg.Connection, row: tuple[Any, ...], line: Horizon, limit_bytes: int, budget: int
) -> TableState | None:
    """Read a table once, and a sample of its rows; None if it was dropped since it was listed."""
    _, _, schema, table, filenode, size, inserted, updated, deleted, estimated = row
    content = None
    if size <= limit_bytes:
        content = read_content(connection, schema, table, line)
        if content is None:
            return None
        estimated = content.stable_rows
    wanted = min(SAMPLE_ROWS, budget, estimated)
    sample = read_sample(connection, schema, table, line, share=wanted / estimated) if wanted > 0 else {}
    return TableState(
        content=content, bytes=size, filenode=filenode, estimated_rows=estimated, sample=sample,
        counters=Changes(inserted=inserted, updated=updated, deleted=deleted),
    )  # fmt: skip


def extension_versions(connection: psycopg.Connection) -> dict[str, str]:
    """Every installed extension of a database: name -> version."""
    return {row[0]: row[1] for row in connection.execute(EXTENSIONS).fetchall()}


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

