"""What one database of production holds, read in one repeatable-read snapshot."""

from __future__ import annotations

import secrets
from typing import Any

import psycopg
from psycopg import sql

from pgdrill.access import Access
from pgdrill.baseline.model import Changes, DatabaseState, TableState
from pgdrill.digests import SAMPLE_ROWS, Horizon, horizon, read_content, read_sample
from pgdrill.fingerprint import read_fingerprint

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


def read_database(access: Access, name: str, *, samples: bool) -> DatabaseState:
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
