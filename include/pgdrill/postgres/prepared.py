"""Prepared transactions (``PREPARE TRANSACTION``) that nobody ended.

Their locks last, over restarts and in a restored copy, too.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import psycopg

from pgdrill.errors import CouldNotVerify

WAITED_SECONDS = 60  # a younger one may be about to be committed
# Their locks have no process. The lock on the transaction's own number ties them together.
HELD = """
SELECT p.gid, p.owner::text, p.prepared, p.database::text, l.relation::int8, l.mode,
       coalesce((SELECT c.oid::regclass::text FROM pg_class c
                 WHERE c.oid = l.relation AND p.database = current_database()), '')
FROM pg_prepared_xacts p
JOIN pg_locks t ON t.pid IS NULL AND t.locktype = 'transactionid'
  AND t.transactionid = p.transaction AND t.mode = 'ExclusiveLock'
JOIN pg_locks l ON l.pid IS NULL AND l.virtualtransaction = t.virtualtransaction
WHERE l.locktype = 'relation' AND l.granted AND l.mode = ANY(%s)
ORDER BY p.prepared, p.gid, l.relation
"""
WAITING = """
SELECT transaction::text::int8,
       'prepared transaction ' || quote_literal(gid) || ' in database ' || quote_ident(database),
       left(md5(concat_ws(' ', quote_literal(gid), quote_ident(owner), quote_ident(database))), 16)
FROM pg_prepared_xacts
"""
AGED = "SELECT clock_timestamp() - make_interval(secs => %s)"
ALL = "AccessExclusiveLock"  # not even reading goes on beside it
# the modes that SHARE waits for
WRITING = (
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    ALL,
)


@dataclass(frozen=True, slots=True)
class Held:
    """A relation that a prepared transaction has locked."""

    gid: str
    owner: str
    prepared_at: datetime
    database: str
    oid: int
    mode: str
    name: str  # empty where it is another database's, or not there for others

    def __str__(self) -> str:
        return (
            f"prepared transaction {self.gid!r} of {self.owner}, since"
            f" {self.prepared_at:%Y-%m-%d %H:%M:%S} UTC"
        )

    @property
    def hint(self) -> str:
        """The hint on what ends it."""
        gid = self.gid.replace("'", "''")
        return (
            f"as {self.owner} or a superuser, in database {self.database} of production: COMMIT"
            f" PREPARED '{gid}', or ROLLBACK PREPARED '{gid}'; the transaction manager that left it"
            " knows which"
        )


def held(connection: psycopg.Connection, modes: Collection[str] = WRITING) -> list[Held]:
    """Return what prepared transactions have locked in such modes, in every database.

    The oldest come first.
    """
    return [Held(*row) for row in connection.execute(HELD, (list(modes),)).fetchall()]


def waiting(connection: psycopg.Connection) -> list[tuple[int, str, str]] | None:
    """Return what waits to be committed or rolled back: transaction number, name and digest.

    None: in recovery, which does not tell.
    """
    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    return None if row and row[0] else connection.execute(WAITING).fetchall()


def check_readable(connection: psycopg.Connection, databases: Collection[str]) -> None:
    """Raise where a prepared transaction keeps everybody from reading.

    Whoever reads would wait for it until his time is over.
    """
    row = connection.execute(AGED, (WAITED_SECONDS,)).fetchone()
    for one in held(connection, (ALL,)):
        # without a name here, the transaction itself made the relation, which nobody sees yet
        known_here = one.name or one.database != connection.info.dbname
        if row and one.prepared_at < row[0] and one.database in databases and known_here:
            raise CouldNotVerify(
                "prepared-transaction",
                str(one),
                found=(
                    f"{one.name or f'relation {one.oid}'} of database {one.database} locked against"
                    " everybody who would read it"
                ),
                expected="tables that can be read",
                hint=one.hint,
            )
