"""Statements that leave nothing behind: each in a READ ONLY transaction that is rolled back.

What users wrote into tables runs in them, with the rights of whoever asks. By a setting of the
session alone it could make the next statement a writing one, or have it find other functions. What
it sets inside of a transaction goes with that, and inside of a READ ONLY one nothing can make it
write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import pq, sql

OWN = (b"SET ", b"SELECT pg_catalog.set_config(")  # our own settings are to stay


class Reading(psycopg.Cursor[Any]):
    """A cursor of an autocommit connection; inside of a transaction block it is as any other."""

    def execute(self, query: Any, params: Any = None, **more: Any) -> Reading:
        """Run one statement, whose rows are all fetched by then."""
        with self._rolled_back(query):
            return super().execute(query, params, **more)

    def stream(self, query: Any, params: Any = None, **more: Any) -> Iterator[Any]:
        """Yield a statement's rows one by one."""
        with self._rolled_back(query):
            yield from super().stream(query, params, **more)

    @contextlib.contextmanager
    def copy(self, statement: Any, params: Any = None, **more: Any) -> Iterator[psycopg.Copy]:
        """Run a COPY up to its end."""
        with self._rolled_back(statement), super().copy(statement, params, **more) as copy:
            yield copy

    def _rolled_back(self, query: Any) -> contextlib.AbstractContextManager[Any]:
        if not _outside(self.connection) or _text(query, self.connection).startswith(OWN):
            return contextlib.nullcontext()
        return self.connection.transaction()


def read_only(connection: psycopg.Connection) -> None:
    """Make a connection one that only reads, and whose transactions are all rolled back."""
    connection.autocommit = True
    connection.read_only = True
    connection.cursor_factory = Reading
    begin = connection.transaction

    def transaction(
        savepoint_name: str | None = None, force_rollback: bool = False
    ) -> contextlib.AbstractContextManager[psycopg.Transaction]:
        return begin(savepoint_name, force_rollback or _outside(connection))

    setattr(connection, "transaction", transaction)  # noqa: B010 - a method of this one connection


def _outside(connection: psycopg.Connection) -> bool:
    """Return True if the connection is outside of any transaction."""
    return connection.autocommit and connection.info.transaction_status == pq.TransactionStatus.IDLE


def _text(query: Any, connection: psycopg.Connection) -> bytes:
    if isinstance(query, sql.Composable):
        return query.as_bytes(connection).lstrip()
    return query.lstrip() if isinstance(query, bytes) else str(query).lstrip().encode()
