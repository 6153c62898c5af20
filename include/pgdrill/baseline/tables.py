"""The tables of a database: which may be read, which are read whole, and which are sampled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import psycopg

from pgdrill.baseline.model import Changes
from pgdrill.config import Drill
from pgdrill.postgres.held import HELD
from pgdrill.postgres.relation_names import joined
from pgdrill.postgres.row_digests import SAMPLE_ROWS

SAMPLE_BUDGET_ROWS = 400_000  # over all tables of a database: some forty megabytes

# Lists permanent tables and materialized views that hold rows themselves, and the large objects.
# Unlogged tables are empty after any recovery. Without a right to them, large objects count only
# where there are some.
TABLES = """
SELECT c.oid::int8, n.nspname, c.relname, c.relfilenode::int8,
       {sizes},
       greatest(c.reltuples, 0)::int8,
       coalesce(s.n_tup_ins, 0), coalesce(s.n_tup_upd, 0), coalesce(s.n_tup_del, 0),
       coalesce(s.vacuum_count + s.autovacuum_count, 0)
         + coalesce(toast.vacuum_count + toast.autovacuum_count, 0),
       CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE')
            THEN format('GRANT USAGE ON SCHEMA %%I TO %%I', n.nspname, current_user)
            WHEN NOT has_table_privilege(c.oid, 'SELECT')
            THEN format('GRANT SELECT ON %%I.%%I TO %%I', n.nspname, c.relname, current_user)
            WHEN row_security_active(c.oid) THEN format('ALTER ROLE %%I BYPASSRLS', current_user)
            ELSE '' END, CASE WHEN c.relkind = 'r' THEN coalesce(s.n_live_tup, 0) ELSE 0 END
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
LEFT JOIN pg_stat_all_tables toast ON toast.relid = c.reltoastrelid
WHERE ((c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND n.nspname <> 'information_schema'
        AND n.nspname !~ '^pg_' AND (c.relkind = 'r' OR c.relispopulated))
    OR (c.oid IN ('pg_catalog.pg_largeobject'::regclass,
                  'pg_catalog.pg_largeobject_metadata'::regclass)
        AND (has_table_privilege(c.oid, 'SELECT')
             OR EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata))))
  AND (%(schemas)s::text[] IS NULL
       OR (n.nspname, c.relname) IN (
           SELECT * FROM unnest(%(schemas)s::text[], %(tables)s::text[])))
ORDER BY n.nspname, c.relname
"""
# These functions wait for whoever holds a table, and for whoever waits until our own reading lets
# it go. Of a table that is held already, its last VACUUM tells.
SIZES = """
       CASE WHEN c.oid IN (SELECT held.oid FROM held)
            THEN c.relpages * current_setting('block_size')::int8
            ELSE pg_table_size(c.oid) END,
       CASE WHEN c.oid IN (SELECT held.oid FROM held) THEN c.relpages::int8
            ELSE pg_relation_size(c.oid) / current_setting('block_size')::int8 END"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the server lists it."""

    name: str
    oid: int
    schema: str
    plain: str
    filenode: int
    bytes: int
    blocks: int
    estimated_rows: int
    counters: Changes
    vacuums: int
    grant: str  # SQL for what the role lacks to read it; empty if nothing
    # how many rows it has, as the server counts: known at once after a TRUNCATE, estimated when it
    # is analyzed; 0 for a materialized view, of which the count comes a second after it was made
    # anew
    live_rows: int = 0

    def with_counters(self, counters: Changes, vacuums: int, live_rows: int) -> Table:
        """Return the table with other counters: a snapshot, or a standby, has none of its own."""
        return replace(self, counters=counters, vacuums=vacuums, live_rows=live_rows)

    @property
    def unread(self) -> str:
        """The reason why it cannot be read; empty if it can."""
        return f"permission denied: {self.grant}" if self.grant else ""


def list_tables(
    connection: psycopg.Connection,
    *,
    only: Sequence[tuple[str, str]] | None = None,
    sizes: bool = True,
    gone: bool = False,
) -> list[Table]:
    """List every table that a baseline is about, with its counters as of now.

    ``only`` those of these schemas and names. Without ``sizes`` nobody's lock is waited for.
    ``gone``: also those that a snapshot shows though they were dropped since.
    """
    query = TABLES.replace("{sizes}", SIZES if sizes else "0, 0")
    if sizes:
        query = f"WITH {HELD} {query}"
    wanted = (
        {"schemas": None, "tables": None}
        if only is None
        else {"schemas": [one for one, _ in only], "tables": [one for _, one in only]}
    )
    return [
        Table(
            joined(schema, plain),
            oid,
            schema,
            plain,
            filenode,
            size or 0,
            blocks or 0,
            rows,
            Changes(inserted=inserted, updated=updated, deleted=deleted),
            vacuums,
            grant,
            live,
        )
        for (
            oid,
            schema,
            plain,
            filenode,
            size,
            blocks,
            rows,
            inserted,
            updated,
            deleted,
            vacuums,
            grant,
            live,
        ) in connection.execute(query, wanted).fetchall()
        if gone or (size is not None and blocks is not None)
    ]


def read_whole(tables: Iterable[Table], drill: Drill, spent_bytes: int = 0) -> set[str]:
    """Return the tables small enough to be read to the end.

    The smallest come first, until the budget of bytes is spent.
    """
    chosen = set()
    for table in sorted((t for t in tables if not t.grant), key=lambda t: (t.bytes, t.name)):
        spent_bytes += table.bytes
        if table.bytes > drill.baseline_table_bytes or spent_bytes > drill.baseline_bytes:
            break
        chosen.add(table.name)
    return chosen


def in_order_of_sampling(tables: Iterable[Table], whole: set[str]) -> list[Table]:
    """Return the tables in the order in which they get their share of the sample.

    Those that nothing else tells of come first, then the most written, before the budget is used
    up.
    """
    return sorted(tables, key=lambda t: (t.name in whole, -t.counters.rewritten_rows, t.name))


def sample_size(estimated_rows: int, left_rows: int) -> int:
    """Return how many rows of a table to sample, out of what is left of the database's budget."""
    return max(0, min(SAMPLE_ROWS, left_rows, estimated_rows))
