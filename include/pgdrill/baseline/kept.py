"""Tables that production fills anew all the time, kept from it until they have been read.

TRUNCATE, and dropping a table to make it anew, take the rows from snapshots that saw them. So such
tables are locked as any reader locks them *before* both snapshots are taken, are read first, and
are let go: production's job waits that long. Their file shows which tables they are: it is another
one than when the table was made, or than it was just now.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgdrill.baseline.tables import Table

MOST_TABLES = 100
MOST_BLOCKS = 4096  # in all, which are read in a moment
# It is below deadlock_timeout: where production's job waits for us as well, we give way.
LOCK_MILLISECONDS = 150
TRIES = 3
MOST_SECONDS = 3.0
SAVEPOINT = "pgdrill_kept"
ORDINARY = """
SELECT c.oid::int8, n.nspname, c.relname, c.relfilenode::int8, greatest(c.relpages, 0)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  AND NOT row_security_active(c.oid)
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A table by its name."""

    schema: str
    plain: str
    blocks: int  # how large it was when that was last looked at


def filled_anew(connection: psycopg.Connection, listed: Mapping[int, Table]) -> list[Place]:
    """Return the tables that are filled anew, small ones alone.

    Their file is another one than when they were made, or than it was when ``listed``.
    """
    found = []
    for oid, schema, plain, filenode, pages in connection.execute(ORDINARY).fetchall():
        known = listed.get(oid)
        if known is None or filenode not in (0, known.filenode) or filenode != oid:
            found.append(Place(schema, plain, max(pages, known.blocks if known else 0)))
    chosen: list[Place] = []
    for place in sorted(found, key=lambda one: one.blocks)[:MOST_TABLES]:
        if sum(one.blocks for one in chosen) + place.blocks <= MOST_BLOCKS:
            chosen.append(place)
    return chosen


def keep(connections: Sequence[psycopg.Connection], places: Sequence[Place]) -> list[Place]:
    """Lock tables in transactions that have no snapshot yet; return those that could be locked.

    Where one could not, all are let go before the next try: the session that has it may wait for
    another one of them.
    """
    left, tries, ends = list(places), Counter[Place](), time.monotonic() + MOST_SECONDS
    while left:
        for connection in connections:
            connection.execute(f"SAVEPOINT {SAVEPOINT}")
        refused = next((place for place in left if not _locked(connections, place)), None)
        if refused is None:
            return left
        release(connections)
        tries[refused] += 1
        if time.monotonic() > ends:
            return []
        if tries[refused] == TRIES:
            left.remove(refused)
    return []


def _locked(connections: Sequence[psycopg.Connection], place: Place) -> bool:
    # LOCK TABLE is the one statement about a table that takes no snapshot.
    statement = sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(
        sql.Identifier(place.schema, place.plain)
    )
    try:
        for connection in connections:
            connection.execute(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'")
            connection.execute(statement)
    except (
        psycopg.errors.LockNotAvailable,
        psycopg.errors.DeadlockDetected,
        psycopg.errors.UndefinedTable,
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.WrongObjectType,
        psycopg.errors.InsufficientPrivilege,
    ):
        return False
    return True


def release(connections: Sequence[psycopg.Connection]) -> None:
    """Let the tables go; snapshots that were taken meanwhile last."""
    for connection in connections:
        connection.execute(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
        connection.execute(f"RELEASE SAVEPOINT {SAVEPOINT}")
