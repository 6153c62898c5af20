"""The rows of one database, read in a snapshot.

What was being written to at the restore point is read in the snapshot right after it, too.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import psycopg

from pgdrill.baseline.bracket import Pair
from pgdrill.baseline.database import Looked
from pgdrill.baseline.model import DatabaseState, TableState
from pgdrill.baseline.production import Production
from pgdrill.baseline.reading import Reading
from pgdrill.baseline.tables import SAMPLE_BUDGET_ROWS, Table, in_order_of_sampling, list_tables
from pgdrill.postgres.guarded import Guard
from pgdrill.postgres.row_digests import horizon


def read_rows_of(
    production: Production,
    looked: Looked,
    before: psycopg.Connection,
    pair: Pair | None = None,
    oldest_xid: int | None = None,
    *,
    spent_bytes: int = 0,
    counted: Callable[[psycopg.Connection], bool] = lambda _: True,
) -> None:
    """Fill in a database's tables and vectors.

    ``spent_bytes`` of the budget went to other databases. ``counted`` tells whether the counters
    hold by now all that was written before the second snapshot. If not, all is read a second time
    and not only what they tell of.
    """
    after, line = pair.after if pair else None, horizon(before, secrets.token_hex(16), oldest_xid)
    with production.catalogs(before.info.dbname) as catalogs:
        reading = Reading(
            before,
            production,
            looked,
            line,
            Guard(catalogs),
            after,
            0 if after is None else SAMPLE_BUDGET_ROWS,
        )
        state_of = looked.state
        state_of.horizon, state_of.tables, state_of.vectors = line, {}, {}
        if pair and pair.kept:
            # A session that holds another table may wait for one of these, so nothing else is asked
            # for until they are let go.
            found = list_tables(
                before, only=[(one.schema, one.plain) for one in pair.kept], gone=True
            )
            _read(reading, found, state_of, spent_bytes, twice=True)
            pair.release()
            spent_bytes += sum(table.bytes for table in found)
        every = list_tables(before, gone=pair is not None)
        listed = [table for table in every if table.name not in state_of.tables]
        _read(reading, listed, state_of, spent_bytes)
        if after is not None:
            _bracket(reading, listed, state_of.tables, counted)


def _read(
    reading: Reading,
    listed: list[Table],
    state_of: DatabaseState,
    spent_bytes: int,
    *,
    twice: bool = False,
) -> None:
    """Fill in tables, and the vectors in them.

    ``twice``: as the second snapshot shows them, too.
    """
    counted = [reading.looked.counted(table) for table in listed]
    reading.choose(counted, spent_bytes)
    for table in in_order_of_sampling(counted, reading.whole):
        reading.production.runner.check()
        state_of.tables[table.name] = state = reading.table(table)
        if twice:
            reading.again(table, state)
            reading.copied_again(table, state)
    vectors, state_of.search_settings = reading.vectors(counted)
    state_of.vectors |= vectors


def _bracket(
    reading: Reading,
    listed: list[Table],
    tables: dict[str, TableState],
    counted: Callable[[psycopg.Connection], bool],
) -> None:
    """Read again the tables that may have lost rows between the two snapshots.

    Those that nobody wrote to did not.
    """
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
        reading.again(table, state)
        reading.copied_again(table, state)
    for state in tables.values():
        if not state.bracketed:
            state.newer.clear()
