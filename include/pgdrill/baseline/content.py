"""The rows of one database: read in a snapshot, and what was being written to at the restore point in the one right after it, too."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import psycopg

from pgdrill.baseline.bracket import Pair
from pgdrill.baseline.database import Looked
from pgdrill.baseline.model import TableState
from pgdrill.baseline.production import Production
from pgdrill.baseline.reading import COLUMNS, Columns, Reading
from pgdrill.baseline.tables import SAMPLE_BUDGET_ROWS, Table, in_order_of_sampling, list_tables, read_whole
from pgdrill.postgres.guarded import Guard
from pgdrill.postgres.relation_names import joined
from pgdrill.postgres.row_digests import horizon
from pgdrill.vectors.snapshot import read_vectors


def read_rows_of(
    production: Production, name: str, looked: Looked, before: psycopg.Connection, pair: Pair | None = None,
    oldest_xid: int | None = None, *, spent_bytes: int = 0, counted: Callable[[psycopg.Connection], bool] = lambda _: True,
) -> None:  # fmt: skip
    """Fill in a database's tables and vectors; ``spent_bytes`` of the budget went to other databases.

    ``counted`` tells whether the counters hold by now all that was written before the second snapshot. Else all is read a
    second time and not only what they tell of.
    """
    after, kept = (pair.after, {joined(one.schema, one.plain) for one in pair.kept}) if pair else (None, set[str]())
    line = horizon(before, secrets.token_hex(16), oldest_xid)
    with production.catalogs(name) as catalogs:
        listed = [looked.counted(table) for table in list_tables(before, gone=pair is not None)]
        whole, guard = read_whole(listed, production.access.cluster.drill, spent_bytes), Guard(catalogs)
        reading = Reading(before, production, looked, line, whole, guard, after, _columns(before, listed))
        tables: dict[str, TableState] = {}
        left = SAMPLE_BUDGET_ROWS if after is not None else 0
        for table in sorted(in_order_of_sampling(listed, whole), key=lambda one: one.name not in kept):
            production.runner.check()
            if pair and table.name not in kept:
                pair.release()
            tables[table.name] = state = reading.table(table, left)
            left -= len(state.sample) + len(state.newer) + (len(state.copied.hashes) if state.copied else 0)
            if table.name in kept:
                reading.again(table, state, left)
                reading.copied_again(table, state)
                left -= len(state.sample)
        if pair:
            pair.release()
        # A guard of their own: what it comes to know would keep the other from asking, when tables are read a second time.
        production.at_work = "searching its vector columns"
        vectors, settings = read_vectors(before, name, production.access.cluster, line, whole, Guard(catalogs), production.runner.check)
        state_of = looked.state
        state_of.horizon, state_of.tables, state_of.vectors, state_of.search_settings = line, tables, vectors, settings
        production.at_work = ""
        if after is not None:
            _bracket(reading, [table for table in listed if table.name not in kept], tables, left, counted)


def _columns(connection: psycopg.Connection, tables: list[Table]) -> dict[int, Columns]:
    found: dict[int, Columns] = {}
    for oid, number, name, kind in connection.execute(COLUMNS, ([table.oid for table in tables],)).fetchall():
        found.setdefault(oid, {})[number] = (name, kind)
    return found


def _bracket(
    reading: Reading, listed: list[Table], tables: dict[str, TableState], left: int, counted: Callable[[psycopg.Connection], bool]
) -> None:
    """Which of the tables lost rows between the two snapshots: those that nobody wrote to did not."""
    assert reading.after is not None  # noqa: S101 - the caller has looked
    production, connection = reading.production, reading.connection
    with production.connection(connection.info.dbname) as primary:
        complete = counted(primary)
        now = {table.oid: table for table in list_tables(primary, sizes=False)}
    still = {table.oid for table in list_tables(reading.after, sizes=False)}
    written = reading.looked.written(now)
    for table in sorted(listed, key=lambda one: one.bytes):
        state = tables.get(table.name)
        if state is None or table.oid not in still:
            continue
        if complete and table.oid in now and table.oid not in written:
            state.bracketed = state.content is not None or state.copied is not None
            continue
        production.runner.check()
        reading.again(table, state, left)
        reading.copied_again(table, state)
        left -= len(state.sample)
    for state in tables.values():
        if not state.bracketed:
            state.newer.clear()
