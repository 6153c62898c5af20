"""The proof that a migration kept the data.

Each table's rows and each column's values are compared, before and after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgdrill.logical import content
from pgdrill.logical.pg_restore import Restore
from pgdrill.postgres.reading_only import read_only
from pgdrill.postgres.relation_names import apart
from pgdrill.reports.model import CheckResult, CheckStatus

HINT = "mend the migration, or name the table as one that may change (--may-change)"


@dataclass(frozen=True, slots=True)
class Remembered:
    """A table before the migrations: rows, and a digest of each column's values with its type."""

    rows: int
    columns: dict[str, tuple[str, str]]


def remember(work: Restore) -> dict[str, Remembered]:
    """Read rows and column digests of every table of the database that is migrated."""
    database = work.manifest.databases[0]
    with work.roles().connect(database.name) as connection:
        read_only(connection)
        content.prepare(connection)
        return {
            name: _column_digests(connection, name, database.key)
            for name, table in database.tables.items()
            if table.columns
        }


def kept(
    work: Restore, before: dict[str, Remembered], may_change: Sequence[str]
) -> Iterator[CheckResult]:
    """Compare what is there with what was, each column by the values it holds.

    A dropped or retyped column is said.
    """
    database = work.manifest.databases[0]
    agreeing = 0
    with work.roles().connect(database.name) as connection:
        read_only(connection)
        content.prepare(connection)
        for name, was in before.items():
            worse: CheckStatus = (
                "warn"
                if name in may_change or name.removeprefix("public.") in may_change
                else "fail"
            )
            now = _column_digests(connection, name, database.key)
            if not now.columns and was.columns:
                yield _result(worse, name, "no such table", f"{was.rows} rows")
                continue
            if now.rows != was.rows:
                yield _result(worse, name, now.rows, f"{was.rows} rows")
                continue
            changed = [
                column
                for column, (kind, digest) in was.columns.items()
                if column in now.columns
                and now.columns[column][0] == kind
                and now.columns[column][1] != digest
            ]
            for column in changed:
                yield _result(worse, f"{name}.{column}", "other values", "as before")
            for column, (kind, _) in was.columns.items():
                if column not in now.columns:
                    yield _result(
                        "warn", f"{name}.{column}", "no such column", kind, "dropped or renamed"
                    )
                elif now.columns[column][0] != kind:
                    yield _result(
                        "warn",
                        f"{name}.{column}",
                        now.columns[column][0],
                        kind,
                        "retyped: values not compared",
                    )
            agreeing += not changed
    if agreeing:
        yield _result("pass", f"{agreeing} tables", agreeing, "rows and values as before")


def _column_digests(connection: psycopg.Connection, name: str, key: str) -> Remembered:
    schema, table = apart(name)
    quoted = sql.Identifier(schema, table).as_string(connection)
    there = connection.execute("SELECT to_regclass(%s)::oid", (quoted,)).fetchone()
    if not there or there[0] is None:
        return Remembered(0, {})
    cells = content.columns_of(connection, schema, table)
    types: dict[str, str] = dict(
        connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s"
            " AND attnum > 0 AND NOT attisdropped",
            (there[0],),
        ).fetchall()
    )
    sums = [
        sql.SQL("coalesce(sum({}), 0)::text").format(content.row_hash(key, [cell]))
        for cell in cells.values()
    ]
    row = connection.execute(
        sql.SQL("SELECT {} FROM ONLY {} t").format(
            sql.SQL(", ").join([sql.SQL("count(*)"), *sums]), sql.Identifier(schema, table)
        )
    ).fetchone()
    values = list(row or [0])
    return Remembered(
        values[0],
        {column: (types[column], digest) for column, digest in zip(cells, values[1:], strict=True)},
    )


def _result(
    status: CheckStatus, thing: str, value: int | str, threshold: str, message: str = ""
) -> CheckResult:
    return CheckResult(
        name="data-kept",
        family="migration",
        status=status,
        thing=thing,
        value=value,
        threshold=threshold,
        message=message,
        hint=HINT if status in ("fail", "warn") else "",
    )
