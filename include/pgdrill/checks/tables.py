"""Rows: did every table come back, give or take what was written up to the restore point?"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from pgdrill.baseline import DatabaseState, TableState
from pgdrill.checks import copied
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.comparison import each_database, reading
from pgdrill.checks.cut import Server
from pgdrill.checks.large_objects import told_once
from pgdrill.checks.shares import Fate, agrees, bounds_of, fates_of, share_of
from pgdrill.checks.unread_rows import large_and_empty, missed, unknown_changes
from pgdrill.postgres.relation_names import apart
from pgdrill.postgres.row_digests import (
    Content,
    Horizon,
    SampleAnswer,
    columns_of,
    compare_sample,
    filenode_of,
    horizon_on,
    read_content,
)
from pgdrill.postgres.server_words import words_of
from pgdrill.reports.model import Share

logger = logging.getLogger(__name__)


@check(
    "table-content",
    "rows",
    compares=True,
    passing=(
        "every row that production held right before the restore point and right after it came back"
        " to the bit and at its place; no table has more or fewer rows than the server's own"
        " counters allow"
    ),
    hint="compare the table with production by key; the backup or its WAL is damaged or incomplete",
    example="agents.public.hc_appointments: 149, wanted 150 rows",
)
def table_content(context: Context) -> Iterator[Outcome]:
    """Yield one answer for each table that differs, and one for all that agree.

    A table that could not be compared has an answer of its own, too.
    """
    context.settle()
    context.cache.compared = None  # asked a second time, it is not counted twice

    yield from each_database(
        context, "tables", functools.partial(rows_as_recorded, context), rows=True
    )


def rows_as_recorded(
    context: Context, connection: psycopg.Connection, name: str, database: DatabaseState
) -> Iterator[Outcome]:
    """Yield an answer for each table of a database that differs, and one for all that agree."""
    with contextlib.ExitStack() as later:
        session = _Session(context, name, connection, later, Server.of(context, name, connection))
        yield from _database(context, session, name, database)


def _database(
    context: Context, session: _Session, name: str, database: DatabaseState
) -> Iterator[Outcome]:
    agreeing = rows = 0
    others: list[Outcome] = []
    session.settled()
    line = horizon_on(session.connection, database.horizon)
    for table, state in database.tables.items():
        altered = f"pg_attribute:{state.oid}" in database.schema_objects.later
        outcome, share, found_rows = session.ask(table, line, state, altered=altered)
        context.cache.add_compared(
            share, outcome.thing if outcome.status in ("warn", "skip") else ""
        )
        if outcome.status == "pass" and not state.code:
            agreeing, rows = agreeing + 1, rows + found_rows
        else:
            others.append(outcome)
    yield from told_once(context, name, session.connection, others)
    if agreeing:
        yield Outcome("pass", f"{name}: {agreeing} tables", rows, "as recorded", "rows in all")


@dataclass
class _Session:
    """The session that a database's tables are read in; another one where it ended."""

    context: Context
    database: str
    connection: psycopg.Connection
    later: contextlib.ExitStack
    server: Server

    def settled(self) -> None:
        """Let it see every row: a role that may not gets an error instead."""
        self.connection.execute("SET row_security = off")

    def ask(
        self, table: str, line: Horizon, state: TableState, *, altered: bool
    ) -> tuple[Outcome, Share, int]:
        """Return the answer for a table, what was compared of it, and how many rows it has.

        A session that ends over it says nothing yet: the table is read again by itself, and only a
        server that crashes over it is the backup's fault.
        """
        thing = f"{self.database}.{table}"
        for tries_left in (1, 0):
            self._opened()
            outcome, share, rows = _table(
                self.connection, thing, table, line, state, altered=altered
            )
            if outcome.status != "fail" or not self.connection.closed:
                break
            if tries_left:
                logger.warning("the session ended while %s was read: it is read again", thing)
                self.server.crashed()  # by now it may be back, whoever made it crash
            elif not self.server.crashed():
                words = f"the session was cut twice while it was read: {outcome.message}"
                outcome = Outcome("skip", thing, message=words)
        return outcome, share, rows

    def _opened(self) -> None:
        """Open another session where this one ended; where that fails, the table says so."""
        if self.connection.closed:
            with contextlib.suppress(psycopg.Error):
                self.connection = self.later.enter_context(reading(self.context, self.database))
                self.settled()


def _table(
    connection: psycopg.Connection,
    thing: str,
    table: str,
    line: Horizon,
    state: TableState,
    *,
    altered: bool,
) -> tuple[Outcome, Share, int]:
    """Return the answer for a table, what was compared, and how many rows of it were read.

    ``altered``: it was altered on production since the baseline began.
    """
    schema, plain = apart(table)
    found, share = None, Share.nothing(state.estimated_rows, state.bytes)
    try:
        if connection.closed:
            outcome = Outcome(
                "skip", thing, message="not read: the session ended while another table was read"
            )
        elif state.unread:
            outcome = Outcome("skip", thing, message=f"not recorded: {state.unread}")
        elif state.code and state.content is None:
            outcome, share = copied.answer(connection, thing, schema, plain, line, state)
        elif gone := _gone_columns(connection, schema, plain, state):
            outcome = _other_columns(thing, gone, state, altered=altered)
            if state.content is not None and outcome.status == "warn":
                left = [name for name in state.columns or () if name not in gone]
                found = read_content(connection, schema, plain, line, columns=left)
                outcome = (found and _number_of_rows(thing, state, found)) or outcome
                share = share_of(state, found, outcome, moved=False) if found else share
        else:
            # A table that was too large to be read on production is not read here, either. It is
            # only looked for.
            found = read_content(
                connection,
                schema,
                plain,
                line,
                whole=state.content is not None or bool(state.missed),
                columns=state.columns,
                parts=len(state.content.parts) if state.content else 1,
            )
            moved = (
                found is not None and filenode_of(connection, schema, plain) != state.read_filenode
            )
            sampled = None
            wanted = (
                state.newer
                if found and agrees(state, found, moved=moved)
                else state.sample | state.newer
            )
            if found and wanted and not moved:
                sampled = compare_sample(connection, schema, plain, line, wanted, state.columns)
            outcome = compare(thing, state, found, sampled, moved=moved)
            share = share_of(state, found, outcome, moved=moved)
    except psycopg.errors.InsufficientPrivilege as error:
        words = (
            f"{error.diag.message_primary}: GRANT SELECT ON {table} TO {connection.info.user} (and"
            " BYPASSRLS under row security)"
        )
        outcome = Outcome("skip", thing, message=words)
    except (
        psycopg.errors.QueryCanceled,
        psycopg.errors.AdminShutdown,
        psycopg.errors.InsufficientResources,
    ) as error:
        outcome = Outcome("skip", thing, message=f"could not be read: {error.diag.message_primary}")
    except psycopg.Error as error:
        outcome = Outcome(
            "fail", thing, type(error).__name__, "readable to the end", words_of(error)[:300]
        )
    return outcome, share, found.rows if found else 0


def _gone_columns(
    connection: psycopg.Connection, schema: str, table: str, state: TableState
) -> list[str]:
    """Return the columns that were read and that the restored table does not have.

    Empty where there is no such table.
    """
    try:
        with connection.transaction():
            there = columns_of(connection, schema, table)
    except psycopg.errors.UndefinedTable:
        return []
    return [name for name in state.columns or () if name not in there]


def _other_columns(table: str, gone: list[str], state: TableState, *, altered: bool) -> Outcome:
    """Return the outcome for a table that lacks columns.

    Production may have dropped or renamed them, unless it is known that it did not.
    """
    if state.bracketed and not altered:
        return Outcome(
            "fail", table, f"no column {', '.join(gone)}", "the columns of the restore point"
        )
    return Outcome(
        "warn",
        table,
        None,
        "",
        f"altered since the baseline (no column {', '.join(gone)}): its rows were not compared",
    )


def compare(
    table: str,
    state: TableState,
    found: Content | None,
    sampled: SampleAnswer | None,
    *,
    moved: bool = False,
) -> Outcome:
    """Compare a restored table with what was recorded; the first rule that applies answers.

    ``found`` None: no such table. ``moved``: it was rewritten on production between the reading and
    the restore point, so its rows have other places.
    """
    if found is None:
        if state.dropped and not state.bracketed:
            return Outcome("pass", table, "no such table", "production dropped it meanwhile")
        return Outcome("fail", table, "no such table", f"about {state.estimated_rows} rows")
    if (
        outcome := _lost_rows(table, sampled)
        or _number_of_rows(table, state, found)
        or _sample_alone(table, state, sampled)
    ):
        return outcome
    if agrees(state, found, moved=moved) and not _newer_unknown(state, found):
        return Outcome(
            "pass",
            table,
            found.rows,
            message="rows as a set: their places were changed meanwhile" if moved else "",
        )
    for rule in (_not_read, _around_restore_point, _unknown_changes, _untouched, _gone_rows):
        if outcome := rule(table, state, found, moved):
            return outcome
    return _by_sample(table, state, sampled)


def _newer_unknown(state: TableState, found: Content) -> bool:
    """Return True if rows are gone that were too new to be in the digest.

    Nothing else tells of them then.
    """
    recorded = state.content is not None and found.rows < state.content.rows
    return recorded and not state.bracketed and not state.newer and bounds_of(state) is None


def _lost_rows(table: str, sampled: SampleAnswer | None) -> Outcome | None:
    """Return a failure if sampled rows are changed or gone; else None.

    Production had them before the restore point and after it: all of them must be here.
    """
    wrong = [*sampled.changed, *sampled.gone] if sampled else []
    if not sampled or not wrong:
        return None
    first = min(wrong).partition("/")[0]
    return Outcome(
        "fail",
        table,
        len(wrong),
        "0 lost or changed rows",
        f"of {sampled.looked_at} sampled, first at {first}",
    )


def _number_of_rows(table: str, state: TableState, found: Content) -> Outcome | None:
    counted = bounds_of(state)
    if state.content is None or counted is None:
        return None
    fewest = max(0, state.content.rows - counted.deleted)
    most = state.content.rows + counted.inserted
    if fewest <= found.rows <= most:
        return None
    return Outcome(
        "fail", table, found.rows, f"{fewest} to {most} rows" if fewest < most else f"{most} rows"
    )


def _sample_alone(table: str, state: TableState, sampled: SampleAnswer | None) -> Outcome | None:
    """Return a pass by the sample alone for a table that was too large to be read whole.

    Whatever was done to it since: the sample was taken after the restore point.
    """
    return (
        Outcome("pass", table, sampled.looked_at, "sampled rows as recorded")
        if state.content is None and sampled
        else None
    )


def _not_read(table: str, state: TableState, found: Content, moved: bool) -> Outcome | None:
    return missed(table, state, found.rows) or large_and_empty(table, state, found)


def _around_restore_point(
    table: str, state: TableState, found: Content, moved: bool
) -> Outcome | None:
    """Judge each part of a table by the two snapshots around the restore point.

    All rows of the first snapshot have to be there but those that the second no longer saw.
    """
    if state.content is None or not state.bracketed:
        return None
    fates = fates_of(state, found, moved=moved)
    if wrong := fates.count(Fate.WRONG):
        fewest, most = (state.later or state.content).stable_rows, state.content.stable_rows
        gone, more = fewest - found.stable_rows, found.stable_rows - most
        value = (
            f"{gone} rows gone"
            if gone > 0
            else f"{more} rows too many"
            if more > 0
            else "other content"
        )
        return Outcome(
            "fail",
            table,
            value,
            (
                f"the {most} older rows of the restore point"
                if fewest == most
                else f"{fewest} to {most} older rows"
            ),
            f"{wrong} of {len(fates)} parts of it are not as they were right before and right"
            " after",
        )
    return Outcome(
        "pass",
        table,
        found.rows,
        "as at the restore point",
        f"{fates.count(Fate.OPEN)} of {len(fates)} parts of it were being written to at that"
        " instant",
    )


def _unknown_changes(table: str, state: TableState, found: Content, moved: bool) -> Outcome | None:
    if state.changes is not None and not moved:
        return None
    return unknown_changes(table, state, found)


def _untouched(table: str, state: TableState, found: Content, moved: bool) -> Outcome | None:
    if state.content is None or (state.changes and state.changes.rewritten_rows):
        return None
    return Outcome(
        "fail",
        table,
        "other content",
        "the recorded digest",
        "nobody updated or deleted a row of it",
    )


def _gone_rows(table: str, state: TableState, found: Content, moved: bool) -> Outcome | None:
    if state.content is None or state.changes is None:
        return None
    gone, most = state.content.stable_rows - found.stable_rows, state.changes.rewritten_rows
    if 0 <= gone <= most:
        return None
    return Outcome(
        "fail", table, gone, f"0 to {most} older rows gone", "more than were updated or deleted"
    )


def _by_sample(table: str, state: TableState, sampled: SampleAnswer | None) -> Outcome:
    """Return what the sample says where the digest says nothing."""
    if sampled is not None:
        return Outcome("pass", table, sampled.looked_at, "sampled rows as recorded")
    why = "written to" if state.content else "too large to read whole"
    return Outcome("warn", table, None, "", f"{why}, and not sampled: its rows were not compared")
