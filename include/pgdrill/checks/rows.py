"""Rows: did every table come back as it was, give or take what was written up to the restore point?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from pgdrill.baseline import DatabaseState, TableState
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.digests import (
    Content,
    Horizon,
    SampleAnswer,
    compare_sample,
    gone_at_most,
    horizon_on,
    read_content,
)


@check(
    "table-content", "rows",
    passing="every row that production's snapshot held came back to the bit, except those that the server's own counters "
    "say were updated or deleted before the restore point; no table has more or fewer rows than they allow",
    mend="compare the table with production by key; the backup or its WAL is damaged or incomplete",
    example="agents.public.hc_appointments: 149, wanted 150 rows",
)  # fmt: skip
def table_content(context: Context) -> Iterator[Outcome]:
    """One answer for each table that differs or could not be compared, and one for all that agree."""
    if context.baseline is None:
        yield Outcome("skip", "tables", message="no baseline to compare with")
        return
    context.settle()
    for name, database in context.baseline.databases.items():
        with context.connect(name) as connection:
            connection.execute("SET row_security = off")
            yield from _database(connection, name, database)


def _database(connection: psycopg.Connection, name: str, database: DatabaseState) -> Iterator[Outcome]:
    agreeing = rows = 0
    line = horizon_on(connection, database.horizon)
    for table, state in database.tables.items():
        schema, _, plain = table.partition(".")
        try:
            found = read_content(connection, schema, plain, line)
        except psycopg.Error as error:
            yield Outcome("fail", f"{name}.{table}", type(error).__name__, "readable to the end", str(error).strip()[:300])
            continue
        outcome = compare(f"{name}.{table}", state, found, _sampled(connection, schema, plain, line, state, found))
        if outcome.status == "pass":
            agreeing, rows = agreeing + 1, rows + (found.rows if found else 0)
        else:
            yield outcome
    if agreeing:
        yield Outcome("pass", f"{name}: {agreeing} tables", rows, "as recorded", "rows in all")


def _sampled(
    connection: psycopg.Connection, schema: str, table: str, line: Horizon, state: TableState, found: Content | None
) -> SampleAnswer | None:
    """Look sampled rows up where the digest cannot decide."""
    if found is None or not state.sample or (state.content and state.content.digest == found.digest):
        return None
    return compare_sample(connection, schema, table, line, state.sample)


def compare(table: str, state: TableState, found: Content | None, sampled: SampleAnswer | None) -> Outcome:
    """A restored table against what was recorded; ``found`` None: no such table. The first rule that applies answers."""
    if found is None:
        return Outcome("fail", table, "no such table", f"about {state.estimated_rows} rows")
    for rule in (_changed_rows, _number_of_rows, _same_digest, _unknown_changes, _untouched, _gone_rows):
        if outcome := rule(table, state, found, sampled):
            return outcome
    return _by_sample(table, state, sampled)


def _changed_rows(table: str, state: TableState, found: Content, sampled: SampleAnswer | None) -> Outcome | None:
    """A row at its place, by its writer, with other content: no statement does that."""
    if not sampled or not sampled.changed:
        return None
    first = sampled.changed[0].partition("/")[0]
    return Outcome("fail", table, len(sampled.changed), "0 changed rows", f"of {sampled.looked_at} sampled, first at {first}")


def _unknown_changes(table: str, state: TableState, found: Content, sampled: SampleAnswer | None) -> Outcome | None:
    if state.changes is not None:
        return None
    return Outcome("warn", table, found.rows, "", "what was written since the baseline is not known: not compared")


def _number_of_rows(table: str, state: TableState, found: Content, sampled: SampleAnswer | None) -> Outcome | None:
    if state.content is None or state.changes is None:
        return None
    fewest, most = max(0, state.content.rows - state.changes.deleted), state.content.rows + state.changes.inserted
    if fewest <= found.rows <= most:
        return None
    return Outcome("fail", table, found.rows, f"{fewest} to {most} rows" if fewest < most else f"{most} rows")


def _same_digest(table: str, state: TableState, found: Content, sampled: SampleAnswer | None) -> Outcome | None:
    recorded = state.content
    if recorded and (found.stable_rows, found.digest) == (recorded.stable_rows, recorded.digest):
        return Outcome("pass", table, found.rows)
    return None


def _untouched(table: str, state: TableState, found: Content, sampled: SampleAnswer | None) -> Outcome | None:
    if state.content is None or (state.changes and state.changes.rewritten_rows):
        return None
    return Outcome("fail", table, "other content", "the recorded digest", "nobody updated or deleted a row of it")


def _gone_rows(table: str, state: TableState, found: Content, sampled: SampleAnswer | None) -> Outcome | None:
    if state.content is None or state.changes is None:
        return None
    gone, most = state.content.stable_rows - found.stable_rows, state.changes.rewritten_rows
    if 0 <= gone <= most:
        return None
    return Outcome("fail", table, gone, f"0 to {most} older rows gone", "more than were updated or deleted")


def _by_sample(table: str, state: TableState, sampled: SampleAnswer | None) -> Outcome:
    """What the sample says where the digest says nothing."""
    if sampled is None:
        why = "written to" if state.content else "too large to read whole"
        return Outcome("warn", table, None, "", f"{why}, and not sampled: content not compared")
    stable = state.content.stable_rows if state.content else state.estimated_rows
    most = gone_at_most(sampled.looked_at, stable, state.changes.rewritten_rows if state.changes else 0)
    if sampled.gone <= most:
        return Outcome("pass", table, sampled.looked_at, "sampled rows as recorded")
    return Outcome("fail", table, sampled.gone, f"<= {most} of {sampled.looked_at} sampled rows gone",
                   "more than were updated or deleted")  # fmt: skip
