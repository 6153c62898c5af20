"""Positions of sequences, as the primary has them: a standby shows what WAL holds ahead of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg

from pgdrill.baseline.model import DatabaseState, SequenceState
from pgdrill.baseline.production import Production
from pgdrill.postgres.relation_names import joined

SEQUENCES = """
SELECT n.nspname, c.relname, c.oid::int8, c.relfilenode::int8,
       s.seqincrement, s.seqcache, s.seqcycle
FROM pg_sequence s
JOIN pg_class c ON c.oid = s.seqrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'p'
  AND (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) = %s
ORDER BY 1, 2
"""
# Positions are read by number, because a name may be that of somebody's view by the time it is
# read. Before 18 a sequence that was not used since it was made, or set, is told by its start.
POSITIONS = (
    "SELECT o::int8, last_value, is_called FROM unnest(%s::oid[]) o CROSS JOIN LATERAL"
    " pg_get_sequence_data(o)"
)
POSITIONS_BEFORE_18 = """
SELECT seqrelid::int8, coalesce(pg_sequence_last_value(seqrelid), seqstart),
       pg_sequence_last_value(seqrelid) IS NOT NULL
FROM pg_sequence WHERE seqrelid = ANY (%s::oid[])
"""


def read_sequences(connection: psycopg.Connection) -> dict[str, SequenceState]:
    """Read every permanent sequence that the role may read."""
    found: dict[str, SequenceState] = {}
    listed = connection.execute(SEQUENCES, (True,)).fetchall()
    positions = _positions(connection, [row[2] for row in listed])
    for schema, name, oid, filenode, increment, cache, cycles in listed:
        if oid in positions:  # neither dropped since it was listed, nor damaged
            value, called = positions[oid]
            found[joined(schema, name)] = SequenceState(
                value=value,
                called=called,
                increment=increment,
                cache=cache,
                cycles=cycles,
                filenode=filenode,
            )
    return found


def _positions(connection: psycopg.Connection, oids: list[int]) -> dict[int, tuple[int, bool]]:
    """Read value and whether it was given out, by number.

    They are read one by one where a sequence was dropped meanwhile, or is damaged.
    """
    query = POSITIONS if connection.info.server_version >= 180000 else POSITIONS_BEFORE_18
    try:
        with connection.transaction():
            return {
                row[0]: (row[1], row[2])
                for row in connection.execute(query, (oids,)).fetchall()
                if row[1] is not None
            }
    except (psycopg.errors.UndefinedTable, psycopg.errors.InternalError_):
        if len(oids) == 1:
            return {}
        return {oid: value for one in oids for oid, value in _positions(connection, [one]).items()}


def unread_sequences(connection: psycopg.Connection) -> list[str]:
    """Return the sequences that the role may not read."""
    return [joined(row[0], row[1]) for row in connection.execute(SEQUENCES, (False,)).fetchall()]


@contextlib.contextmanager
def around(production: Production, databases: dict[str, DatabaseState]) -> Iterator[None]:
    """Read positions just before and just after the restore point, which is made inside.

    Farther apart, a sequence could be set back and run on past its old position, and nothing would
    tell.
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
    """Note the later position of each sequence that nobody restarted meanwhile."""
    for name, state in before.items():
        again = now.get(name)
        same = again is not None and (again.filenode, again.increment) == (
            state.filenode,
            state.increment,
        )
        state.later = again.value if again and same else None
