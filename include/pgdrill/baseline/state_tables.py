"""State tables: exactly what they held at the restore point.

Nobody can read a table at the very instant of a restore point. So two snapshots are taken, one on
either side and a few milliseconds apart, and read at leisure afterwards: what both of them see was
there.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import psycopg
from psycopg import sql

from pgdrill.baseline.copied import NotCopied, columns_of, hashed_rows
from pgdrill.baseline.model import StateTable
from pgdrill.baseline.production import Production
from pgdrill.baseline.tables import Table, list_tables
from pgdrill.postgres.guarded import Guard, RunsCode
from pgdrill.postgres.relation_names import apart
from pgdrill.postgres.row_digests import Horizon, horizon, read_rows
from pgdrill.postgres.row_digests import columns_of as columns_of_table

# Two megabytes in the baseline. Of a larger table that did not change a digest is kept.
LISTED_ROWS = 50_000
READ_ROWS = 1_000_000  # a table with more is no state table


def read_at(
    production: Production, databases: Sequence[str], mark: Callable[[], None]
) -> dict[str, dict[str, StateTable]]:
    """Read the state tables of every database in two snapshots, and call ``mark`` between them.

    ``mark`` makes the restore point.
    """
    configured = production.access.cluster.drill.state_tables
    if not configured:
        mark()
        return {}
    with contextlib.ExitStack() as stack:
        guards = {
            name: Guard(stack.enter_context(production.connection(name))) for name in databases
        }
        before = {
            name: stack.enter_context(_snapshot(production, name, configured)) for name in databases
        }
        after = {name: stack.enter_context(_waiting(production, name)) for name in databases}
        lines = {
            name: horizon(connection, secrets.token_hex(16))
            for name, (connection, _) in before.items()
        }
        mark()
        for connection in after.values():
            connection.execute("SELECT pg_current_snapshot()")
        return {
            name: {
                table.name: _read(before[name][0], after[name], table, lines[name], guards[name])
                for table in before[name][1]
            }
            for name in databases
        }


@contextlib.contextmanager
def _waiting(production: Production, database: str) -> Iterator[psycopg.Connection]:
    """Yield a transaction on the primary that has not taken its snapshot yet."""
    with production.connection(database) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            connection.execute("SET LOCAL row_security = off")
            yield connection


@contextlib.contextmanager
def _snapshot(
    production: Production, database: str, configured: Sequence[str]
) -> Iterator[tuple[psycopg.Connection, list[Table]]]:
    """Yield a connection and the wanted tables (without a schema in ``public``).

    The tables are locked against being rewritten or dropped, and only then seen.
    """
    with production.connection(database) as connection:
        wanted = list_tables(connection, only=[apart(name) for name in configured], sizes=False)
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            connection.execute("SET LOCAL row_security = off")
            for table in wanted:
                if not table.grant:
                    place = sql.Identifier(table.schema, table.plain)
                    connection.execute(
                        sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(place)
                    )
            yield connection, wanted


def _read(
    before: psycopg.Connection, after: psycopg.Connection, table: Table, line: Horizon, guard: Guard
) -> StateTable:
    if table.grant:
        return _unread(line, table.unread)
    try:
        code = guard.why_not(before, table.schema, table.plain, table.oid)
        if not code:
            with guard.watching(before, table.oid), guard.watching(after, table.oid):
                return _queried(before, after, table, line)
    except RunsCode as added:
        code = str(added)
    except psycopg.errors.UndefinedTable:
        return _unread(line, "another relation has its name now")
    return _copied(before, after, table, line, code)


def _copied(
    before: psycopg.Connection, after: psycopg.Connection, table: Table, line: Horizon, code: str
) -> StateTable:
    """Read a table by the hashes of its rows alone, for a query would run somebody's function."""
    try:
        columns, _ = columns_of(before, table.oid)
        first, second = (
            hashed_rows(connection, table.schema, table.plain, line.key, columns)
            for connection in (before, after)
        )
    except NotCopied as error:
        return _unread(line, f"{code}; {error}")
    if first.total() > READ_ROWS:
        return _unread(
            line,
            f"{first.total()} rows: more than {READ_ROWS} are no state table; take it out of"
            " drill.state_tables",
        )
    earlier, later = (
        {place: (place, True, False) for place in numbered(rows)} for rows in (first, second)
    )
    found = bracket(earlier, later, line)
    return found.model_copy(update={"code": code, "columns": columns})


def numbered(rows: Counter[int]) -> list[str]:
    """Return a name for each row of a set in which some are alike."""
    return [f"{one:016x}/{number}" for one, count in rows.items() for number in range(count)]


def _queried(
    before: psycopg.Connection, after: psycopg.Connection, table: Table, line: Horizon
) -> StateTable:
    count = sql.SQL("SELECT count(*) FROM ONLY {}").format(
        sql.Identifier(table.schema, table.plain)
    )
    rows = int((before.execute(count).fetchone() or (0,))[0])
    if rows > READ_ROWS:
        return _unread(
            line,
            f"{rows} rows: more than {READ_ROWS} are no state table; take it out of"
            " drill.state_tables",
        )
    columns = columns_of_table(before, table.schema, table.plain)
    first, second = (
        read_rows(connection, table.schema, table.plain, line, columns)
        for connection in (before, after)
    )
    return bracket(first, second, line).model_copy(update={"columns": columns})


def bracket(
    first: dict[str, tuple[str, bool, bool]],
    second: dict[str, tuple[str, bool, bool]],
    line: Horizon,
) -> StateTable:
    """Return what two snapshots say of the instant between them.

    Rows are given as :func:`pgdrill.postgres.row_digests.read_rows` returns them.
    """
    firm: dict[str, str] = {}
    either: dict[str, str] = {}
    for place in first.keys() | second.keys():
        one, two = first.get(place), second.get(place)
        row = two or one
        if row is None:
            continue
        quiet = (
            one is not None and two is not None and one[0] == two[0] and not one[2] and not two[2]
        )
        (firm if quiet else either)[place] = row[0]
    short = len(firm) <= LISTED_ROWS
    if not short and either:
        return _unread(
            line,
            f"{len(firm)} rows and written to at the restore point: only up to {LISTED_ROWS} can be"
            " kept",
        )
    return StateTable(
        rows=len(firm),
        digest=digest_of(firm),
        horizon=line,
        firm=firm if short else None,
        either=either,
    )


def digest_of(rows: dict[str, str]) -> str:
    """Return a digest of rows with their places."""
    text = "\n".join(f"{place} {digest}" for place, digest in sorted(rows.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _unread(line: Horizon, why: str) -> StateTable:
    return StateTable(rows=0, digest="", horizon=line, firm={}, unread=why)
