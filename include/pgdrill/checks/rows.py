"""Rows: did every table come back as it was, give or take what was written up to the restore point?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from pgdrill.baseline import DatabaseState, TableState
from pgdrill.checks import copied
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.compared import each_database
from pgdrill.digests import Content, Horizon, SampleAnswer, compare_sample, horizon_on, read_content


@check(
    "table-content", "rows", compares=True,
    passing="every row that production's snapshot held came back to the bit and at its place, except those that the server's own "
    "counters say were updated or deleted before the restore point; no table has more or fewer rows than they allow",
    mend="compare the table with production by key; the backup or its WAL is damaged or incomplete",
    example="agents.public.hc_appointments: 149, wanted 150 rows",
)  # fmt: skip
def table_content(context: Context) -> Iterator[Outcome]:
    """One answer for each table that differs or could not be compared, and one for all that agree."""
    context.settle()

    def ask(connection: psycopg.Connection, name: str, state: DatabaseState) -> Iterator[Outcome]:
        connection.execute("SET row_security = off")
        yield from _database(connection, name, state)

    yield from each_database(context, "tables", ask, rows=True)


def _database(connection: psycopg.Connection, name: str, database: DatabaseState) -> Iterator[Outcome]:
    agreeing = rows = 0
    line = horizon_on(connection, database.horizon)
    for table, state in database.tables.items():
        outcome, found_rows = _table(connection, f"{name}.{table}", table, line, state)
        if outcome.status == "pass" and not state.code:
            agreeing, rows = agreeing + 1, rows + found_rows
        else:
            yield outcome
    if agreeing:
        yield Outcome("pass", f"{name}: {agreeing} tables", rows, "as recorded", "rows in all")


def _table(
    connection: psycopg.Connection, thing: str, table: str, line: Horizon, state: TableState
) -> tuple[Outcome, int]:
    """The answer for a table, and how many rows of it were looked at."""
    schema, _, plain = table.partition(".")
    if state.unread:
        return Outcome("skip", thing, message=f"not recorded: {state.unread}"), 0
    if state.code and state.content is None:
        return copied.answer(connection, thing, schema, plain, line, state), 0
    try:
        # What was too large to be read on production is not read here, either: only whether it is there.
        found = read_content(connection, schema, plain, line, whole=state.content is not None)
        sampled = None
        if found and state.sample and not (state.content and state.content.digest == found.digest):
            sampled = compare_sample(connection, schema, plain, line, state.sample)
    except psycopg.errors.InsufficientPrivilege as error:
        words = f"{error.diag.message_primary}: GRANT SELECT ON {table} TO {connection.info.user} (and BYPASSRLS under row security)"
        return Outcome("skip", thing, message=words), 0
    except (psycopg.errors.QueryCanceled, psycopg.errors.InsufficientResources) as error:
        return Outcome("skip", thing, message=f"could not be read: {error.diag.message_primary}"), 0
    except psycopg.Error as error:
        words = error.diag.message_primary or str(error).strip().partition("\n")[0]
        return Outcome("fail", thing, type(error).__name__, "readable to the end", words[:300]), 0
    return compare(thing, state, found, sampled), found.rows if found else 0


def compare(table: str, state: TableState, found: Content | None, sampled: SampleAnswer | None) -> Outcome:
    """A restored table against what was recorded; ``found`` None: no such table. The first rule that applies answers."""
    if found is None:
        if state.dropped:
            return Outcome("pass", table, "no such table", "production dropped it meanwhile")
        return Outcome("fail", table, "no such table", f"about {state.estimated_rows} rows")
    for rule in (_lost_rows, _number_of_rows, _same_digest, _unknown_changes, _untouched, _gone_rows):
        if outcome := rule(table, state, found, sampled):
            return outcome
    return _by_sample(table, state, sampled)


def _lost_rows(table: str, state: TableState, found: Content, sampled: SampleAnswer | None) -> Outcome | None:
    """Settling left those rows in the sample that production still had after the restore point: all of them must be here."""
    wrong = [*sampled.changed, *(sampled.gone if state.settled else ())] if sampled else []
    if not sampled or not wrong:
        return None
    first = min(wrong).partition("/")[0]
    return Outcome("fail", table, len(wrong), "0 lost or changed rows", f"of {sampled.looked_at} sampled, first at {first}")


def _unknown_changes(table: str, state: TableState, found: Content, sampled: SampleAnswer | None) -> Outcome | None:
    if state.changes is not None:
        return None
    seen = f"{sampled.looked_at} sampled rows are as they were, the rest was" if sampled else "it was"
    return Outcome("warn", table, found.rows if state.content else None, "",
                   f"what was written since the baseline is not known (altered, rewritten, or counters reset): {seen} not compared")  # fmt: skip


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
    if sampled is not None:
        return Outcome("pass", table, sampled.looked_at, "sampled rows as recorded")
    why = "written to" if state.content else "too large to read whole"
    what = f"all {state.sampled_rows} sampled rows were rewritten meanwhile" if state.sampled_rows else "not sampled"
    return Outcome("warn", table, None, "", f"{why}, and {what}: content not compared")
