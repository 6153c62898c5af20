"""Reading a table in a snapshot, and in the one right after the restore point as well."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import psycopg

from pgdrill.baseline.copied import KEPT_HASHES, NotCopied, read_copied
from pgdrill.baseline.database import Looked
from pgdrill.baseline.model import TableState
from pgdrill.baseline.production import LOCK_SECONDS, Production
from pgdrill.baseline.tables import Table, read_whole, sample_size
from pgdrill.postgres.catalog_fingerprint import FIRST_USER_OID
from pgdrill.postgres.foreign_code import hold
from pgdrill.postgres.guarded import Guard, RunsCode
from pgdrill.postgres.row_digests import (
    SAMPLE_ROWS,
    Horizon,
    Shares,
    compare_sample,
    filenode_of,
    horizon,
    parts_for,
    read_content,
    read_sample,
    sees_later_rows,
)
from pgdrill.vectors.model import VectorState
from pgdrill.vectors.snapshot import read_vectors

logger = logging.getLogger(__name__)

# As the snapshot has them, and as they are now.
COLUMNS = """
SELECT attrelid::int8, attnum::int, attname, atttypid::int8 FROM pg_attribute
WHERE attnum > 0 AND NOT attisdropped AND attrelid = ANY (%s::oid[]) ORDER BY attrelid, attnum
"""
Columns = dict[int, tuple[str, int]]  # by number: name and type
HELD_TOO_LONG = (
    f"another session had it for itself for {LOCK_SECONDS} s: try again when it is done (pg_locks"
    " and pg_stat_activity tell who)"
)
MISSED = "truncated, refreshed or altered right after the restore point, before it could be read"
DROPPED = (
    "dropped, or replaced by another of its name, right after the restore point, before it could be"
    " read"
)


@dataclass
class Reading:
    """A snapshot that tables are read in. ``after``: the one right after the restore point."""

    connection: psycopg.Connection
    production: Production
    looked: Looked
    line: Horizon
    guard: Guard
    after: psycopg.Connection | None = None
    left_rows: int = 0  # of single rows that may still be noted
    whole: set[str] = field(default_factory=set)
    columns: dict[int, Columns] = field(default_factory=dict)
    not_held: set[int] = field(default_factory=set)

    def choose(self, tables: Sequence[Table], spent_bytes: int) -> None:
        """Choose the tables that are read whole, with ``spent_bytes`` of the budget spent.

        The columns that the snapshot shows are read here, too.
        """
        self.whole |= read_whole(tables, self.production.access.cluster.drill, spent_bytes)
        for oid, number, name, kind in self.connection.execute(
            COLUMNS, ([table.oid for table in tables],)
        ).fetchall():
            self.columns.setdefault(oid, {})[number] = (name, kind)

    @cached_property
    def line_after(self) -> Horizon:
        """The horizon of the same rows, seen from the second snapshot."""
        assert self.after is not None  # noqa: S101 - callers have looked
        return horizon(self.after, self.line.key, self.line.oldest_xid)

    def table(self, table: Table) -> TableState:
        """Read a table once."""
        state = TableState(
            content=None,
            oid=table.oid,
            bytes=table.bytes,
            filenode=table.filenode,
            counters=table.counters,
            vacuums=table.vacuums,
            unread=table.unread,
            estimated_rows=table.estimated_rows,
        )
        if state.unread:
            return state
        self.production.at_work = f"reading {table.name}"
        try:
            # Large objects are a catalog: nobody's functions stand on it.
            if table.oid >= FIRST_USER_OID:
                self._hold(table)
                state.code = self.guard.why_not(
                    self.connection, table.schema, table.plain, table.oid
                )
            if not state.code:
                try:
                    with self.guard.watching(self.connection, table.oid):
                        self._queried(table, state)
                except RunsCode as added:
                    state.code = str(added)
            if state.code:
                self._copied(table, state)
        except psycopg.errors.UndefinedTable:
            self._missed(table, state, DROPPED)
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
            self._not_read(table, state, error)
        return state

    def vectors(self, tables: Sequence[Table]) -> tuple[dict[str, VectorState], dict[str, str]]:
        """Read the vector columns in these tables, and the settings that searches run with."""
        production = self.production
        production.at_work = "searching its vector columns"
        # A guard of their own: what it comes to know would keep the other from asking, when tables
        # are read a second time.
        guard, only = Guard(self.guard.catalogs), {table.oid for table in tables}
        found = read_vectors(
            self.connection,
            production.access.cluster,
            self.line,
            self.whole,
            guard,
            production.runner.check,
            only,
        )
        production.at_work = ""
        return found

    def _hold(self, table: Table) -> None:
        """Lock a table in both transactions, one right after the other.

        Whoever wants to alter the table in between waits for the first one, and lets the second one
        wait: not for long.
        """
        hold(self.connection, table.schema, table.plain)
        if self.after is None:
            return
        try:
            with self.after.transaction():
                self.after.execute("SET LOCAL lock_timeout = '1s'")
                hold(self.after, table.schema, table.plain)
                self.after.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        except psycopg.errors.LockNotAvailable:
            self.not_held.add(table.oid)
            logger.warning("%s is read once only: somebody waits to alter it", table.name)

    def _not_read(self, table: Table, state: TableState, error: psycopg.Error) -> None:
        """Note why a table's content was not read; the digests of other tables stand."""
        if self.production.runner.stopped:
            raise error
        state.content = state.later = None
        way_out = (
            HELD_TOO_LONG
            if isinstance(error, psycopg.errors.LockNotAvailable)
            else "raise drill.statement_timeout_seconds, or lower drill.baseline_table_bytes"
        )
        state.unread = f"could not be read: {error.diag.message_primary}; {way_out}"
        logger.warning("%s %s", table.name, state.unread)

    def _queried(self, table: Table, state: TableState) -> None:
        """Read a table's digest, or a sample with rows by their places.

        It is read by the columns that the table had at the snapshot and still has.
        """
        names = self._columns_now(table)
        state.columns = list(names)
        state.read_filenode = filenode_of(self.connection, table.schema, table.plain)
        if table.name in self.whole:
            content = read_content(
                self.connection,
                table.schema,
                table.plain,
                self.line,
                parts=parts_for(table.estimated_rows),
                columns=list(names.values()),
            )
            if content is None:
                raise psycopg.errors.UndefinedTable(table.name)
            if state.read_filenode != state.filenode and (
                not content.rows or sees_later_rows(self.connection, table.schema, table.plain)
            ):
                self._missed(table, state, MISSED)
                return
            state.content, state.estimated_rows = content, content.stable_rows
            newer = content.rows - content.stable_rows
            if newer and self.after is not None and state.read_filenode == state.filenode:
                share = Shares(1.0, min(1.0, min(SAMPLE_ROWS, self.left_rows) / newer))
                state.newer = self._noted(
                    read_sample(
                        self.connection,
                        table.schema,
                        table.plain,
                        self.line,
                        share,
                        list(names.values()),
                        newer=True,
                    )
                )
        elif self.after is not None and table.oid not in self.not_held:
            state.sample = self._sample(self.after, table, state)

    def _missed(self, table: Table, state: TableState, why: str) -> None:
        """Note about how many rows there were before; the rows there now were put there later.

        It is the lesser of the server's two figures: the counter takes rows twice that a VACUUM saw
        before their writer reported them. Neither tells of a file that was not there yet.
        """
        known = self.looked.listed.get(table.oid, table)
        counted = (
            (known.live_rows, known.estimated_rows) if known.filenode == table.filenode else ()
        )
        figures = [rows for rows in counted if rows]
        state.missed, state.estimated_rows, state.bytes = why, min(figures, default=0), known.bytes

    def again(self, table: Table, state: TableState) -> None:
        """Read a table in the second snapshot.

        Where less is left of it, single rows are noted as well.
        """
        if (
            self.after is None
            or state.columns is None
            or state.content is None
            or table.oid in self.not_held
        ):
            return
        self.production.at_work = f"reading {table.name} again"
        try:
            with self.guard.watching(self.after, table.oid):
                line = self.line_after
                later = read_content(
                    self.after,
                    table.schema,
                    table.plain,
                    line,
                    parts=len(state.content.parts),
                    columns=list(self._columns_now(table).values()),
                )
                state.bracketed = later is not None
                if state.newer:
                    seen = compare_sample(
                        self.after,
                        table.schema,
                        table.plain,
                        line,
                        state.newer,
                        list(self._columns_now(table).values()),
                    )
                    for place in (*seen.changed, *seen.gone):
                        del state.newer[place]
                if (
                    state.bracketed
                    and later
                    and (later.stable_rows, later.loose)
                    != (state.content.stable_rows, state.content.loose)
                ):
                    state.later = later
                    state.sample = self._sample(self.after, table, state)
        except (RunsCode, psycopg.errors.UndefinedTable):
            state.bracketed, state.later = False, None
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
            if self.production.runner.stopped:
                raise
            logger.warning("%s was not read again: %s", table.name, error.diag.message_primary)

    def copied_again(self, table: Table, state: TableState) -> None:
        """Read a table that is copied in the second snapshot."""
        if self.after is None or state.copied is None or table.oid in self.not_held:
            return
        try:
            later = read_copied(
                self.after, table.schema, table.plain, self.line.key, like=state.copied
            )
            state.bracketed = later is not None
            state.copied_later = later if later != state.copied else None
        except (psycopg.Error, NotCopied) as error:
            if self.production.runner.stopped:
                raise
            logger.warning("%s was not read again: %s", table.name, error)

    def _sample(
        self, connection: psycopg.Connection, table: Table, state: TableState
    ) -> dict[str, str]:
        estimated = state.content.stable_rows if state.content else table.estimated_rows
        wanted = sample_size(estimated or (0 if state.content else table.blocks), self.left_rows)
        if not wanted:
            return {}
        with self.guard.watching(connection, table.oid):
            return self._noted(
                read_sample(
                    connection,
                    table.schema,
                    table.plain,
                    self.line_after,
                    Shares.of(table.blocks, estimated, wanted),
                    list(self._columns_now(table).values()),
                )
            )

    def _noted(self, rows: dict[str, str]) -> dict[str, str]:
        self.left_rows = max(0, self.left_rows - len(rows))
        return rows

    def _columns_now(self, table: Table) -> dict[str, str]:
        """Return the columns at the snapshot that are still the same.

        They are given by their names then, with the names that they have now.
        """
        rows = self.guard.catalogs.execute(COLUMNS, ([table.oid],)).fetchall()
        now = {number: (name, kind) for _, number, name, kind in rows}
        then = self.columns.get(table.oid, {})
        return {
            name: now[number][0]
            for number, (name, kind) in then.items()
            if number in now and now[number][1] == kind
        }

    def _copied(self, table: Table, state: TableState) -> None:
        """Read the table's rows without a query.

        Where that is not to be had, ``state.code`` says so, too.
        """
        if table.name not in self.whole:
            state.code = f"{state.code}, and it is too large to be copied whole"
            return
        # whose rows these are, COPY does not tell
        if filenode_of(self.connection, table.schema, table.plain) != state.filenode:
            self._missed(table, state, MISSED)
            return
        try:
            state.copied = read_copied(
                self.connection,
                table.schema,
                table.plain,
                self.line.key,
                most=min(KEPT_HASHES, self.left_rows),
            )
            self.left_rows -= len(state.copied.hashes) if state.copied else 0
        except NotCopied as error:
            state.code = f"{state.code}; {error}"
