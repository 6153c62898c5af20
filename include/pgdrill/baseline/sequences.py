"""Positions of sequences, as the primary has them: a standby shows what WAL holds ahead of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from pgdrill.baseline.model import DatabaseState, SequenceState
from pgdrill.baseline.production import Production

AT_ONCE = 200  # sequences a statement; each is a relation to open

SEQUENCES = """
SELECT n.nspname, c.relname, c.oid::int8, c.relfilenode::int8, s.seqincrement, s.seqcache, s.seqcycle
FROM pg_sequence s
JOIN pg_class c ON c.oid = s.seqrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'p' AND (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) = %s
ORDER BY 1, 2
"""


def read_sequences(connection: psycopg.Connection) -> dict[str, SequenceState]:
    """Every permanent sequence that the role may read."""
    found: dict[str, SequenceState] = {}
    listed = connection.execute(SEQUENCES, (True,)).fetchall()
    for first in range(0, len(listed), AT_ONCE):
        rows = listed[first : first + AT_ONCE]
        positions = _positions(connection, rows)
        for schema, name, oid, filenode, increment, cache, cycles in rows:
            if oid in positions:  # neither dropped since it was listed, nor damaged: then it has no row
                value, called = positions[oid]
                found[f"{schema}.{name}"] = SequenceState(
                    value=value, called=called, increment=increment, cache=cache, cycles=cycles, filenode=filenode
                )
    return found


def _positions(connection: psycopg.Connection, rows: list[tuple[Any, ...]]) -> dict[int, tuple[int, bool]]:
    """Value and whether it was given out, by number; one by one where a sequence was dropped meanwhile."""
    query = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}::int8, last_value, is_called FROM {}").format(sql.Literal(row[2]), sql.Identifier(row[0], row[1]))
        for row in rows
    )
    try:
        with connection.transaction():
            return {row[0]: (row[1], row[2]) for row in connection.execute(query).fetchall()}
    except psycopg.errors.UndefinedTable:
        if len(rows) == 1:
            return {}
        return {oid: value for row in rows for oid, value in _positions(connection, [row]).items()}


def unread_sequences(connection: psycopg.Connection) -> list[str]:
    """Those that it may not read."""
    return [f"{row[0]}.{row[1]}" for row in connection.execute(SEQUENCES, (False,)).fetchall()]


@contextlib.contextmanager
def around(production: Production, databases: dict[str, DatabaseState]) -> Iterator[None]:
    """Positions just before and just after the restore point, which is made inside.

    Farther apart, a sequence could be set back and run on past its old position, and nothing would tell.
    """
    with contextlib.ExitStack() as stack:
        connections = {}
        for name in databases:
            with production.unless_dropped(name):
                connections[name] = stack.enter_context(production.connection(name))
        for name, connection in connections.items():
            databases[name].sequences = read_sequences(connection)
        yield
        for name, connection in connections.items():
            _note_later(databases[name].sequences, read_sequences(connection))


def _note_later(before: dict[str, SequenceState], now: dict[str, SequenceState]) -> None:
    """For those that nobody restarted meanwhile."""
    for name, state in before.items():
        again = now.get(name)
        same = again is not None and (again.filenode, again.increment) == (state.filenode, state.increment)
        state.later = again.value if again and same else None
