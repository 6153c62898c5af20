"""Heartbeats: rows that something writes all the time, which tell a restored cluster's instant.

A heartbeat's time is the server's own. A restore that is older than it says brings back an old
newest heartbeat, and nothing in the backup can make it newer.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pgdrill.access import BRIEF_SECONDS, GRACE_SECONDS, Access
from pgdrill.config import Cluster
from pgdrill.errors import CouldNotVerify, Refused, Unreachable
from pgdrill.postgres.answered import answered_within
from pgdrill.postgres.foreign_code import foreign_code, hold

logger = logging.getLogger(__name__)

# The command's own table. It needs a column with a default, and the right to INSERT.
TABLE = "pgdrill_heartbeat"
TABLE_OID = (
    "SELECT c.oid::int8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE"
    " n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'm', 'p')"
)
# Finds the table in whichever schema it was made: that of drill.heartbeat, else public, else the
# first.
OWN_TABLE = """
SELECT n.nspname, c.oid::int8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %(table)s AND c.relkind IN ('r', 'p')
ORDER BY n.nspname <> %(schema)s, n.nspname <> 'public', 1 LIMIT 1
"""
DESCENDANTS = """
WITH RECURSIVE below (relid) AS (
    SELECT %(table)s::oid
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN below ON i.inhparent = relid
)
SELECT relid::int8 FROM below
"""
STATEMENT_TIMEOUT = f"SET statement_timeout = '{BRIEF_SECONDS}s'"


@dataclass(frozen=True, slots=True)
class HeartbeatColumn:
    """A timestamptz column of production that something writes all the time."""

    database: str
    schema: str
    table: str
    column: str

    @classmethod
    def of(cls, cluster: Cluster) -> HeartbeatColumn | None:
        """Return the configured column (``drill.heartbeat``).

        None where nothing writes heartbeats.
        """
        if not cluster.drill.heartbeat:
            return None
        named = conninfo_to_dict(cluster.server.dsn).get("dbname") if cluster.server.dsn else None
        database = (*cluster.server.databases, str(named or "postgres"))[0]
        return cls(database, *cluster.drill.heartbeat.split("."))

    def __str__(self) -> str:
        return f"{self.database}: {self.schema}.{self.table}.{self.column}"

    def runs(self, connection: psycopg.Connection) -> str:
        """Return in words whose function asking for the newest would run; empty if nobody's.

        Holds the table in the transaction.
        """
        hold(connection, self.schema, self.table)
        row = connection.execute(TABLE_OID, (self.schema, self.table)).fetchone()
        return _runs_any(connection, row[0]) if row else "it is no table"

    def newest(
        self, connection: psycopg.Connection, until: datetime | None = None
    ) -> datetime | None:
        """Return the newest heartbeat, or the newest up to an instant; None where there is none."""
        row = connection.execute(
            sql.SQL(
                "SELECT max({c})::timestamptz FROM {t} WHERE {c} <= coalesce(%s::timestamptz,"
                " 'infinity')"
            ).format(c=sql.Identifier(self.column), t=sql.Identifier(self.schema, self.table)),
            (until,),
        ).fetchone()
        return row[0] if row else None

    def first_after(
        self, connection: psycopg.Connection, instant: datetime | None
    ) -> datetime | None:
        """Return the first heartbeat after an instant, or of all; None where there is none."""
        row = connection.execute(
            sql.SQL(
                "SELECT min({c})::timestamptz FROM {t} WHERE {c} > coalesce(%s::timestamptz,"
                " '-infinity')"
            ).format(c=sql.Identifier(self.column), t=sql.Identifier(self.schema, self.table)),
            (instant,),
        ).fetchone()
        return row[0] if row else None


def _runs_any(connection: psycopg.Connection, oid: int, *, writing: bool = False) -> str:
    """Return in words whose function reading or writing the table would run; empty if nobody's.

    The tables that are read and written with it count, too: its partitions, and what inherits from
    it.
    """
    with_it = [row[0] for row in connection.execute(DESCENDANTS, {"table": oid}).fetchall()]
    return min(foreign_code(connection, with_it, writing=writing).values(), default="")


def beat(access: Access) -> None:
    """Write one heartbeat into ``pgdrill_heartbeat``."""
    with access.briefly() as connection:
        _insert(connection, access)


def keep_beating(access: Access, every_seconds: float, stopped: threading.Event) -> int:
    """Write a heartbeat every so many seconds until told to stop; return how many were written.

    It goes on through restarts and failovers.
    """
    written = 0
    while not stopped.is_set():
        try:
            with access.connect() as connection:
                while not stopped.is_set():
                    with answered_within(connection, BRIEF_SECONDS + GRACE_SECONDS):
                        connection.execute(STATEMENT_TIMEOUT)
                        _insert(connection, access)
                    written += 1
                    stopped.wait(every_seconds)
        except (
            Unreachable,
            Refused,
            psycopg.OperationalError,
            psycopg.errors.ReadOnlySqlTransaction,
        ) as error:
            logger.warning("no heartbeat: %s", " ".join(str(error).split()))
            stopped.wait(every_seconds)
    return written


def _insert(connection: psycopg.Connection, access: Access) -> None:
    """Write one heartbeat, if that runs nobody's function.

    The table is locked as an INSERT locks it, so that nobody can add an index, a trigger or a
    default between the look and the row.
    """
    wanted = {"table": TABLE, "schema": access.cluster.drill.heartbeat.partition(".")[0]}
    schema, oid = connection.execute(OWN_TABLE, wanted).fetchone() or ("public", 0)
    table = sql.Identifier(schema, TABLE)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(table))
            if connection.execute(OWN_TABLE, wanted).fetchone() != (schema, oid):
                raise _no_table(access, f"{schema}.{TABLE} is another relation now")
            if why := _runs_any(connection, oid, writing=True):
                raise _runs(access, f"{schema}.{TABLE}", why)
            connection.execute(sql.SQL("INSERT INTO {} DEFAULT VALUES").format(table))
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.NotNullViolation,
    ) as error:
        raise _no_table(access, str(error).strip().splitlines()[0]) from None


def _runs(access: Access, table: str, why: str) -> CouldNotVerify:
    return CouldNotVerify(
        "heartbeat-runs-code",
        f"table {table} of cluster {access.cluster.name}",
        found=why,
        expected="a table that a row can be written to without running anybody's function",
        hint=(
            "drop what calls it, or make a table of its own for heartbeats, as"
            " docs/explanation/recovery.md shows"
        ),
    )


def _no_table(access: Access, found: str) -> CouldNotVerify:
    return CouldNotVerify(
        "no-heartbeat-table",
        f"table {TABLE} of cluster {access.cluster.name}",
        found=found,
        expected=f"CREATE TABLE {TABLE} (at timestamptz NOT NULL DEFAULT clock_timestamp())",
        hint=(
            "create it in the database that server.dsn names, as docs/explanation/recovery.md"
            " shows, and grant INSERT on it"
        ),
    )
