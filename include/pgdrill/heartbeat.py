"""Heartbeats: rows that something writes all the time, which tell of a restored cluster what instant it is of.

A heartbeat's time is the server's own. A restore that is older than it says it is brings back an old newest heartbeat,
and nothing in the backup can make it newer.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pgdrill.access import Access
from pgdrill.config import Cluster
from pgdrill.errors import CouldNotVerify, Unreachable
from pgdrill.postgres.session import PUBLIC_PATH

logger = logging.getLogger(__name__)

TABLE = "pgdrill_heartbeat"  # the command's own; what it needs is a column with a default and the right to INSERT
STATEMENT_TIMEOUT = "SET statement_timeout = '10s'"


@dataclass(frozen=True, slots=True)
class HeartbeatColumn:
    """A timestamptz column of production that something writes all the time."""

    database: str
    schema: str
    table: str
    column: str

    @classmethod
    def of(cls, cluster: Cluster) -> HeartbeatColumn | None:
        """The configured one (``drill.heartbeat``); None where nothing writes heartbeats."""
        if not cluster.drill.heartbeat:
            return None
        named = conninfo_to_dict(cluster.server.dsn).get("dbname") if cluster.server.dsn else None
        database = (*cluster.server.databases, str(named or "postgres"))[0]
        return cls(database, *cluster.drill.heartbeat.split("."))

    def __str__(self) -> str:
        return f"{self.database}: {self.schema}.{self.table}.{self.column}"

    def newest(self, connection: psycopg.Connection, until: datetime | None = None) -> datetime | None:
        """The newest heartbeat, or the newest up to an instant; None where there is none."""
        row = connection.execute(
            sql.SQL("SELECT max({c})::timestamptz FROM {t} WHERE {c} <= coalesce(%s::timestamptz, 'infinity')").format(
                c=sql.Identifier(self.column), t=sql.Identifier(self.schema, self.table)
            ),
            (until,),
        ).fetchone()
        return row[0] if row else None


def beat(access: Access) -> None:
    """Write one heartbeat into ``pgdrill_heartbeat``."""
    with access.connect(search_path=PUBLIC_PATH) as connection:
        _insert(connection, access)


def keep_beating(access: Access, every_seconds: float, stopped: threading.Event) -> int:
    """Write one every so many seconds until told to stop, through restarts and failovers; gives how many were written."""
    written = 0
    while not stopped.is_set():
        try:
            with access.connect(search_path=PUBLIC_PATH) as connection:
                connection.execute(STATEMENT_TIMEOUT)
                while not stopped.is_set():
                    _insert(connection, access)
                    written += 1
                    stopped.wait(every_seconds)
        except (Unreachable, psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
            logger.warning("no heartbeat: %s", " ".join(str(error).split()))
            stopped.wait(every_seconds)
    return written


def _insert(connection: psycopg.Connection, access: Access) -> None:
    try:
        connection.execute(sql.SQL("INSERT INTO {} DEFAULT VALUES").format(sql.Identifier(TABLE)))
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege, psycopg.errors.NotNullViolation) as error:
        raise CouldNotVerify(
            "no-heartbeat-table", f"table {TABLE} of cluster {access.cluster.name}", found=str(error).strip().splitlines()[0],
            expected=f"CREATE TABLE {TABLE} (at timestamptz NOT NULL DEFAULT clock_timestamp())",
            mend="create it in the database that server.dsn names, as docs/recovery.md shows, and grant INSERT on it",
        ) from None  # fmt: skip
