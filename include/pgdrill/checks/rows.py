"""Rows: is every table there, with as many rows as production had?"""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.baseline import DatabaseState, TableState, count_rows
from pgdrill.checks.base import Context, Outcome, check


@check(
    "row-counts", "rows",
    passing="every recorded table has the rows it had, give or take what the server's counters say was written since",
    mend="compare the table with production by key; if rows are gone, the backup or its WAL is incomplete",
)  # fmt: skip
def row_counts(context: Context) -> Iterator[Outcome]:
    """One answer for each table that differs, and one for all that agree."""
    if context.baseline is None:
        yield Outcome("skip", "tables", message="no baseline to compare with")
        return
    context.settle()
    for name, database in context.baseline.databases.items():
        yield from _database(context, name, database)


def _database(context: Context, name: str, database: DatabaseState) -> Iterator[Outcome]:
    agreeing, rows = 0, 0
    with context.connect(name) as connection:
        connection.execute("SET row_security = off")
        for table, state in database.tables.items():
            schema, _, plain = table.partition(".")
            found = count_rows(connection, schema, plain)
            outcome = compare(f"{name}.{table}", state, found)
            if outcome.status == "pass":
                agreeing, rows = agreeing + 1, rows + (found or 0)
            else:
                yield outcome
    if agreeing:
        yield Outcome("pass", f"{name}: {agreeing} tables", rows, "as recorded", "rows in all")


def compare(table: str, state: TableState, found: int | None) -> Outcome:
    """A table's restored row count (None: no such table) against what was recorded."""
    if found is None:
        return Outcome("fail", table, "no such table", f"{state.rows} rows")
    allowed = state.allowed_rows()
    if allowed is None:
        why = "too large to count" if state.rows is None else "rewritten or its counters unknown since the snapshot"
        return Outcome("warn", table, found, "", f"not compared: {why}")
    fewest, most = allowed
    wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return Outcome("pass" if fewest <= found <= most else "fail", table, found, wanted)
