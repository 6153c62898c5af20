"""Connections for looking at production.

They are bounded in time, use one core, are ended with the job, and tell errors in words.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg

from pgdrill.access import Access
from pgdrill.baseline.server_facts import database_forms
from pgdrill.errors import (
    CouldNotVerify,
    Momentary,
    PgdrillError,
    StandbyConflict,
    TimedOut,
    Unreachable,
)
from pgdrill.host.process import Runner
from pgdrill.postgres.overdue import Overdue, ending_overdue
from pgdrill.postgres.server_words import words_of
from pgdrill.postgres.wal import parse_lsn

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05  # a standby announces no replayed position
REPLAY_SECONDS = 300.0
LOCK_SECONDS = 60
# Recovery on a standby ends queries in its way with these: serialization failure, deadlock.
CONFLICTS = ("40001", "40P01")
# With client_connection_check_interval, unknown before PostgreSQL 14, the server notices a killed
# client while its statement runs, and not at its end.
SESSION = """
SELECT set_config(name, value, false) FROM (VALUES
    ('statement_timeout', %(limit)s), ('lock_timeout', %(lock)s),
    ('max_parallel_workers_per_gather', '0'), ('jit', 'off'),
    ('client_connection_check_interval', '2s'), ('synchronous_commit', 'local')
) wanted (name, value) JOIN pg_settings USING (name)
"""


@dataclass
class Production:
    """The protected server, and the standby that stands in for it where one is configured."""

    access: Access
    runner: Runner = field(default_factory=Runner)
    at_work: str = ""  # what is being read, for an error that names it
    # the overdue statements of every session: an error of one is met in another, too
    overdue: list[Overdue] = field(default_factory=list)

    @contextlib.contextmanager
    def connection(
        self, database: str | None = None, *, standby: bool = False
    ) -> Iterator[psycopg.Connection]:
        """Yield an autocommit connection whose statement is cancelled when the job is stopped."""
        where = f"{'standby' if standby else 'server'} of cluster {self.access.cluster.name}"
        seconds = self.access.cluster.drill.statement_timeout_seconds
        with (
            self.access.connect(database, standby=standby) as connection,
            self.runner.ending(lambda: connection.cancel_safe(timeout=2.0)),
        ):
            try:
                connection.execute(
                    SESSION, {"limit": str(int(seconds * 1000)), "lock": f"{LOCK_SECONDS}s"}
                )
                again = functools.partial(self.access.connect, database, standby=standby)
                with ending_overdue(connection, seconds, again) as overdue:
                    self.overdue.append(overdue)
                    yield connection
            except psycopg.Error as error:
                if self.runner.stopped:
                    raise
                if ended := next((one for one in self.overdue if one.terminated), None):
                    raise _without_end(where, self.at_work, ended, seconds) from None
                raise _explained(where, connection, error, standby=standby) from None

    def catalogs(self, database: str) -> contextlib.AbstractContextManager[psycopg.Connection]:
        """Open a second connection to where :meth:`snapshot` reads.

        It sees the catalogs as they are now.
        """
        return self.connection(database, standby=self.access.has_standby)

    @contextlib.contextmanager
    def unless_dropped(self, database: str) -> Iterator[None]:
        """Suppress the error of a database that cannot be read because it is dropped meanwhile."""
        try:
            yield
        except CouldNotVerify:
            with self.connection() as connection:
                if database in database_forms(connection):
                    raise
            logger.info("database %s was dropped meanwhile", database)

    @contextlib.contextmanager
    def snapshot(self, database: str) -> Iterator[psycopg.Connection]:
        """Yield one repeatable-read, read-only snapshot of a database.

        It is on the standby where there is one.
        """
        with self.connection(database, standby=self.access.has_standby) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            with connection.transaction():
                # Rows hidden by row security would be counted as lost; a role that cannot see them
                # gets an error instead.
                connection.execute("SET LOCAL row_security = off")
                yield connection

    def follow(self, primary: psycopg.Connection) -> None:
        """Wait until the standby has replayed all that was committed on the primary until now.

        Without a standby there is nothing to wait for.
        """
        if not self.access.has_standby:
            return
        # A record of its own, for the end of WAL may be a page's head that is never replayed.
        row = primary.execute(
            "SELECT pg_logical_emit_message(true, 'pgdrill', 'baseline')::text"
        ).fetchone()
        with self.connection(standby=True) as standby:
            self._is_its_standby(primary, standby)
            wait_replayed(standby, str(row[0]) if row else "0/0", self.runner)

    def _is_its_standby(self, primary: psycopg.Connection, standby: psycopg.Connection) -> None:
        query = "SELECT system_identifier, pg_is_in_recovery() FROM pg_control_system()"
        expected, found = primary.execute(query).fetchone(), standby.execute(query).fetchone()
        if expected and found and (found[0] != expected[0] or not found[1]):
            raise CouldNotVerify(
                "wrong-standby",
                f"standby of cluster {self.access.cluster.name} (server.standby_dsn)",
                found=(
                    f"system identifier {found[0]},"
                    f" {'in recovery' if found[1] else 'no standby: it takes writes'}"
                ),
                expected=f"system identifier {expected[0]}, in recovery",
                hint="correct server.standby_dsn, or empty it",
            )


def wait_replayed(
    standby: psycopg.Connection, lsn: str, runner: Runner, seconds: float | None = None
) -> None:
    """Wait until a standby has replayed to an LSN.

    Raises :class:`TimedOut` after ``seconds``.
    """
    limit = REPLAY_SECONDS if seconds is None else seconds
    ends = time.monotonic() + limit
    while True:
        row = standby.execute(
            "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text, pg_is_wal_replay_paused()"
        ).fetchone()
        reached, paused = row or ("0/0", False)
        if parse_lsn(reached) >= parse_lsn(lsn):
            return
        if time.monotonic() > ends:
            raise TimedOut(
                "standby-behind",
                "standby (server.standby_dsn)",
                found=f"replayed to {reached} after {limit:.0f} s{', paused' if paused else ''}",
                expected=f"{lsn}",
                hint=(
                    "see what it waits for (pg_wal_replay_resume() if paused), or empty"
                    " server.standby_dsn"
                ),
            )
        runner.check()
        time.sleep(POLL_SECONDS)


def _without_end(where: str, at_work: str, overdue: Overdue, seconds: float) -> CouldNotVerify:
    look = (
        f"; pg_stat_activity says of backend {overdue.pid} what it waits for"
        if overdue.left
        else ""
    )
    return CouldNotVerify(
        "statement-without-end",
        f"{where}, {at_work}" if at_work else where,
        found=str(overdue),
        expected=f"an end after {seconds:g} s (drill.statement_timeout_seconds)",
        hint=(
            "look for a function that catches query_canceled, or for storage that does not"
            f" answer{look}"
        ),
    )


def _explained(
    where: str, connection: psycopg.Connection, error: psycopg.Error, *, standby: bool
) -> PgdrillError:
    """Return an error of the server in words that say what to do.

    Its details, which may hold values, are left out.
    """
    words = words_of(error)
    if standby and error.sqlstate in CONFLICTS:
        return StandbyConflict(
            "standby-conflict",
            where,
            found=words,
            expected="rows that stay readable while the baseline is taken",
            hint=(
                "on the standby set hot_standby_feedback = on, or max_standby_streaming_delay above"
                " the time a baseline takes (-1: without limit)"
            ),
        )
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return CouldNotVerify(
            "missing-privilege",
            where,
            found=words,
            expected=f"what the README's role may do, for {connection.info.user}",
            hint=(
                f"GRANT pg_monitor, pg_read_all_data TO {connection.info.user}; GRANT EXECUTE ON"
                " FUNCTION pg_create_restore_point(text), pg_switch_wal() TO"
                f" {connection.info.user}"
            ),
        )
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return Momentary(
            "production-locked",
            where,
            found=words,
            expected="tables that can be read",
            hint=(
                "see who holds the lock (pg_locks, pg_stat_activity), and try again when it is done"
            ),
        )
    if connection.broken or connection.closed:
        return Unreachable(
            "server-unreachable",
            where,
            found=words,
            expected="a connection that lasts",
            hint="check that it runs; try again",
        )
    return CouldNotVerify(
        "production-unreadable",
        where,
        found=f"{type(error).__name__}: {words}",
        expected="answers to pgdrill's questions",
        hint=(
            "see the server's log; raise drill.statement_timeout_seconds if it was cancelled for"
            " its time"
        ),
    )
