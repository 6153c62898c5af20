"""Vector columns of the restored cluster: each is looked at once for all checks.

Several are looked at at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import psycopg
from psycopg import sql

from pgdrill.baseline import Changes, DatabaseState, TableState
from pgdrill.checks.outcome import Outcome
from pgdrill.checks.outlived import ENDED, NotAskedAgain, asked_once
from pgdrill.postgres.relation_names import joined
from pgdrill.postgres.row_digests import horizon_on
from pgdrill.postgres.server_words import words_of
from pgdrill.vectors.columns import FoundColumn, Search, find_columns
from pgdrill.vectors.copy_stream import Field, stream
from pgdrill.vectors.index_pages import COPIED, Indexed, Sums, UnknownFormat, read_index, sums_of
from pgdrill.vectors.model import VectorState
from pgdrill.vectors.observation import Observed, Searched, observe
from pgdrill.vectors.types import Integers

if TYPE_CHECKING:
    from pgdrill.checks.base import Context
    from pgdrill.checks.cache import IndexKey


@dataclass(frozen=True)
class Look:
    """A vector column, what was seen of it, and what the baseline says of it."""

    context: Context
    column: FoundColumn
    seen: Observed | None  # None where the column could not be read
    trouble: str  # why it could not be read
    damaged: bool  # the trouble may be damage
    database: DatabaseState | None  # as the baseline has it
    seconds: float = 0.0  # that looking took

    @property
    def name(self) -> str:
        """The name of the column."""
        return self.column.name

    @property
    def key(self) -> str:
        """The name of the column as the baseline has it."""
        return joined(self.column.schema, self.column.table, self.column.column)

    @property
    def state(self) -> VectorState | None:
        """The column's state as the baseline has it; None where nothing was recorded."""
        state = self.database.vectors.get(self.key) if self.database else None
        if state is None or state.trouble:
            return None
        # with another number the column was dropped and added again
        return state if state.number in (0, self.column.number) else None

    @property
    def table(self) -> TableState | None:
        """The state of the column's table, as the baseline has it."""
        return (
            self.database.tables.get(joined(self.column.schema, self.column.table))
            if self.database
            else None
        )

    def changes(self) -> Changes | None:
        """Return what was written since the baseline, by the server's counters.

        None where they cannot be believed. They settle some seconds after the restore point: ask
        only where something has to be explained.
        """
        if self.database is None or not self.context.settle():
            return None
        return self.table.changes if self.table else None

    @property
    def rows_compared(self) -> str:
        """Words for an answer that could not compare: are the rows compared all the same?"""
        state = self.table
        if state and state.content and state.bracketed:
            return "its rows, vectors and all, are compared by table-content"
        return "its vectors were not compared"

    def unwritten(self) -> bool:
        """Return True if it is known that nobody wrote to the table since the baseline.

        Vacuum counts as a write here.
        """
        changes, table = self.changes(), self.table
        return (
            changes is not None
            and table is not None
            and not table.vacuumed
            and changes == Changes()
        )

    def habits(self) -> Iterator[tuple[str, VectorState]]:
        """Yield what the column was like on production at other instants, the cheapest first.

        With each comes the text that says when it was.
        """
        yield from self.context.habits(self.column)

    def rewritten(self) -> bool:
        """Return True if production rewrote the table before the restore point.

        VACUUM FULL, CLUSTER and ALTER do so. Then rows have other places.
        """
        table = self.table
        if table is None or table.read_filenode not in (0, table.filenode):
            return table is not None
        if not self.altered(self.column.oid):
            return False
        with self.context.system(self.column.database) as connection:
            row = connection.execute(
                "SELECT relfilenode::int8 FROM pg_class WHERE oid = %s", (self.column.oid,)
            ).fetchone()
        return row is not None and row[0] != table.filenode

    def altered(self, oid: int) -> bool:
        """Return True if an object was redefined between the baseline and its restore point."""
        return altered(self.context, self.column.database, oid)


def altered(context: Context, database: str, oid: int) -> bool:
    """Return True if a table or index was redefined between the baseline and its restore point."""
    context.settle_catalogs()
    if context.baseline is None or database not in context.baseline.databases:
        return False
    later = context.baseline.databases[database].schema_objects.later
    if any(f"{catalog}:{oid}" in later for catalog in ("pg_class", "pg_index", "pg_attribute")):
        return True
    # a change may have been made and be gone again before the baseline was settled
    with context.system(database) as connection:
        row = connection.execute(
            sql.SQL("SELECT {} FROM pg_class t WHERE oid = {}").format(
                context.baseline.span.holds_writer, sql.Literal(oid)
            )
        ).fetchone()
    return bool(row and row[0])


def looks(context: Context) -> list[Look]:
    """Return a look at every vector column.

    The first check that asks has them looked at, as many at a time as there are cores.
    """
    if context.cache.columns is None:
        found: list[tuple[FoundColumn, DatabaseState | None]] = []
        for name in context.databases:
            database = context.baseline.databases.get(name) if context.baseline else None
            with context.connect(name) as connection:
                found += [
                    (column, database) for column in find_columns(connection, name, context.cluster)
                ]
        started = time.monotonic()
        with ThreadPoolExecutor(
            max(1, min(len(found), len(os.sched_getaffinity(0)))), "vectors"
        ) as pool:
            context.cache.columns = list(pool.map(lambda one: _look(context, *one), found))
        context.cache.looking_seconds = time.monotonic() - started
    return context.cache.columns


def no_vectors(context: Context) -> bool:
    """Return True if there is no vector column, here, on production or in the configuration.

    What is known of production decides. Where nothing is, ``context.without_vectors`` does.
    """
    known = context.baseline or context.recorded
    if context.cluster.vectors or looks(context):
        return False
    if known is None:
        return context.without_vectors
    return not any(
        database.vectors for name, database in known.databases.items() if name in context.databases
    )


def _look(context: Context, column: FoundColumn, database: DatabaseState | None) -> Look:
    state = (
        database.vectors.get(joined(column.schema, column.table, column.column))
        if database
        else None
    )
    remembered = (
        {one.index: [place for place, _ in one.probes] for one in state.searches} if state else {}
    )
    started = time.monotonic()
    try:
        with (
            asked_once(context, column.database, column.oid),
            context.connect(column.database) as connection,
        ):
            connection.execute("SET row_security = off")
            line = horizon_on(connection, database.horizon) if database else None
            seen = observe(connection, column, line=line, whole=True, remembered=remembered)
    except (
        psycopg.errors.QueryCanceled,
        psycopg.errors.AdminShutdown,
        psycopg.errors.InsufficientPrivilege,
    ) as error:
        words = str(error) if isinstance(error, NotAskedAgain) else _words(error)
        return Look(context, column, None, words, False, database)
    except (psycopg.Error, ValueError) as error:
        return Look(context, column, None, _words(error), True, database)
    return Look(context, column, seen, "", False, database, time.monotonic() - started)


def _words(error: Exception) -> str:
    # details may hold values
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return f"{type(error).__name__}: {primary or str(error).strip()[:300]}"


def seen(context: Context) -> Iterator[tuple[Look, Observed]]:
    """Yield the columns that could be looked at, each with what was seen of it."""
    for look in looks(context):
        if look.seen:
            yield look, look.seen


def not_seen(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each column that a check could not be asked of."""
    for look in looks(context):
        if look.seen is None:
            yield Outcome("skip", look.name, message=f"could not be read: {look.trouble}")


def each_indexed(context: Context, ask: Callable[[Look, Searched], Outcome]) -> Iterator[Outcome]:
    """Ask of every search through an index, of all columns, and yield the answers."""
    yield from not_seen(context)
    for look, column in seen(context):
        yield from (_unless_ended(look, one, ask) for one in column.searches if one.search.index)


def _unless_ended(look: Look, one: Searched, ask: Callable[[Look, Searched], Outcome]) -> Outcome:
    """Ask, and turn a question that was ended into a skip, which concerns this table alone."""
    try:
        with asked_once(look.context, look.column.database, look.column.oid):
            return ask(look, one)
    except ENDED as error:
        return Outcome(
            "skip",
            f"{look.name} ({one.search.name})",
            message=f"could not be read: {words_of(error)}",
        )


NORMALIZES = (
    "SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = %s AND"
    " p.proname = 'l2_normalize'"
)


def indexed(look: Look, search: Search) -> Indexed:
    """Return what the pages of a column's index hold, read once."""
    known, key = look.context.cache.pages, _key(look, search)
    if key not in known:
        known[key] = _of_pages(look, search)
    return known[key]


def to_be_indexed(connection: psycopg.Connection, look: Look, search: Search) -> Indexed:
    """Return what a column's index has to hold of the rows that are there, read once.

    It is in the order of the rows' places.
    """
    known, key = look.context.cache.rows, _key(look, search)
    if key not in known:
        known[key] = _of_rows(connection, look, search)
    return known[key]


def let_go(look: Look, search: Search) -> None:
    """Forget what :func:`indexed` and :func:`to_be_indexed` keep of an index.

    For a large table they are large, too.
    """
    for known in (look.context.cache.pages, look.context.cache.rows):
        known.pop(_key(look, search), None)


def _key(look: Look, search: Search) -> IndexKey:
    assert search.index is not None  # noqa: S101 - callers have looked
    return look.column.database, search.index.oid


def _of_pages(look: Look, search: Search) -> Indexed:
    assert search.index is not None  # noqa: S101 - callers have looked
    with look.context.system(look.column.database) as connection:
        if (
            search.operator == "<=>"
            and connection.execute(NORMALIZES, (look.column.home,)).fetchone() is None
        ):
            raise UnknownFormat(
                "pgvector before 0.7 has no l2_normalize, by which vectors under cosine are"
                " compared"
            )
        connection.execute("CHECKPOINT")  # what recovery has replayed may not be in the files yet
        return read_index(connection, search.index, search.field.kind, search.field.dimensions)


def _of_rows(connection: psycopg.Connection, look: Look, search: Search) -> Indexed:
    field = search.field
    normalized = sql.SQL("{}({})").format(
        sql.Identifier(look.column.home, "l2_normalize"), sql.SQL(field.expression)
    )
    expression = normalized.as_string(connection) if search.operator == "<=>" else field.expression
    wanted = [Field(expression, field.kind, field.dimensions)] if field.kind in COPIED else []
    present = sql.SQL("({}) AND {} IS NOT NULL").format(
        sql.SQL(field.predicate or "true"), look.column.cell
    )
    places: list[Integers] = [np.empty(0, dtype=np.int64)]
    sums: list[Sums] = [np.empty(0, dtype=np.uint32)]
    for block in stream(connection, look.column.relation, wanted, where=present):
        if not wanted:
            places.append(block.places)
        elif isinstance(values := block.columns[0].values, np.ndarray):
            places.append(block.columns[0].of(block.places))
            sums.append(sums_of(values))
    every = np.concatenate(places)
    order = np.argsort(every)
    return Indexed(every[order], np.concatenate(sums)[order] if wanted else sums[0])
