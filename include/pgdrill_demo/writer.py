"""Goes on changing the sample while backups run, as an application would: short transactions over
several tables.

Every vector written is the embedding of the text beside it, so a restored cluster can be checked at
any instant.
"""

from __future__ import annotations

import argparse
import random
import signal
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.errors import LockNotAvailable, QueryCanceled

from pgdrill_demo.changes import CHANGES
from pgdrill_demo.embedder import Embedder
from pgdrill_demo.fill import TENANTS
from pgdrill_demo.texts import pick

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

STOP_SECONDS = 5.0
"""stop() returns within this, whatever the server does."""
_SESSION = "SET statement_timeout = '2s'; SET lock_timeout = '1s'"


@dataclass(frozen=True, slots=True)
class WriterTotals:
    """What a writer did: rows by kind of change, transactions committed, and those given up as too
    slow.
    """

    transactions: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    given_up: int = 0


class Writer:
    """Changes rows in a background thread until stopped; a context manager.

    :param conninfo: a database with the sample in it; the tenant is set in every transaction, so
        ``agents_service`` will do.
    :param rate_per_second: transactions to aim for; a slow server gets fewer.
    :param seed: what is drawn; what it meets depends on the rows there.
    """

    def __init__(self, conninfo: str, *, rate_per_second: float = 50, seed: int = 20260907) -> None:
        self._conninfo = conninfo
        self._pause_seconds = 1 / rate_per_second
        self._rng = random.Random(seed)
        self._embedder = Embedder(384)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._error: Exception | None = None
        self._totals = WriterTotals()

    @property
    def totals(self) -> WriterTotals:
        """What was committed so far."""
        return self._totals

    @property
    def running(self) -> bool:
        """Whether the thread is still at work; false too after an error, which stop() raises."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> Writer:
        """Start writing; returns at once."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="pgdrill-demo-writer", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> WriterTotals:
        """Stop, within STOP_SECONDS, and return the totals; raises what ended the writer early."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS - 1)
            if self._thread.is_alive() and self._connection is not None:
                # Hung in the network: closing the socket under it is the only way to be back in
                # time.
                self._connection.close()
                self._thread.join(1)
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._totals

    def __enter__(self) -> Writer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            with psycopg.connect(self._conninfo, autocommit=True, connect_timeout=3) as connection:
                self._connection = connection
                connection.execute(_SESSION)
                register_vector(connection)
                self._embedder.embed(["warm up"])
                self._write(connection)
        except Exception as error:  # whatever it is, stop() raises it in the thread that asked
            self._error = error

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            # Late by much: go on from now, rather than in a burst.
            due = max(due, time.monotonic() - 1) + self._pause_seconds
            tenant = pick(self._rng, TENANTS)
            change = pick(self._rng, CHANGES[tenant.vertical])
            done = self._totals
            try:
                with connection.transaction():
                    connection.execute(
                        "SELECT set_config('app.tenant_id', %s, true)", (str(tenant.id),)
                    )
                    inserted, updated, deleted = change(
                        connection, tenant, self._rng, self._embedder
                    )
            except (QueryCanceled, LockNotAvailable):
                # A checkpoint or a lock held us up past the timeouts: an application would try
                # again.
                self._totals = replace(done, given_up=done.given_up + 1)
                continue
            self._totals = replace(
                done,
                transactions=done.transactions + 1,
                inserted=done.inserted + inserted,
                updated=done.updated + updated,
                deleted=done.deleted + deleted,
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write until SIGTERM or SIGINT, or until the time is up; prints the totals."""
    parser = argparse.ArgumentParser(prog="python -m pgdrill_demo.writer", description=__doc__)
    parser.add_argument(
        "--dsn",
        required=True,
        help="libpq connection string, without the password (use PGPASSWORD)",
    )
    parser.add_argument(
        "--rate", type=float, default=50, help="transactions a second (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=20260907)
    parser.add_argument(
        "--seconds", type=float, default=None, help="stop by itself after this long"
    )
    options = parser.parse_args(arguments)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    until = time.monotonic() + options.seconds if options.seconds else float("inf")
    writer = Writer(options.dsn, rate_per_second=options.rate, seed=options.seed).start()
    while writer.running and time.monotonic() < until and not over.wait(0.2):
        pass
    print(writer.stop())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
