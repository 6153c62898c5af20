"""Ending a session on production whose statement outlives its timeout, and nobody else's.

``statement_timeout`` cancels, and code may refuse to be cancelled. Terminated, a session ends all
the same, and a role may do that to its own. One that cannot be ended either (a read that hangs in
the kernel) is left to the server, and not waited for. Production is asked only when this side has
waited that long: where all is well it is asked nothing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psycopg
from psycopg import pq

from pgdrill.postgres.answered import hang_up

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5.0  # beyond the statement timeout
TERMINATED_SECONDS = 10.0  # for one that was told to end
POLL_SECONDS = 1.0
# The start is asked for as well: a number alone is another session's by and by, and behind a pooler
# it is nobody's.
SELF = (
    "SELECT pid, backend_start FROM pg_catalog.pg_stat_activity WHERE pid ="
    " pg_catalog.pg_backend_pid()"
)
TERMINATE = "pg_catalog.pg_terminate_backend(pid)"
OVERDUE = """
SELECT {} FROM pg_catalog.pg_stat_activity
WHERE pid = %s AND backend_start = %s AND usename = current_user AND state = 'active'
  AND query_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %s)
"""


@dataclass
class Overdue:
    """The fate of a session whose statement may outlive its timeout."""

    pid: int = 0
    terminated: bool = False  # it was told to end
    left: bool = False  # it went on all the same

    def __str__(self) -> str:
        words = (
            "a statement went on after it was cancelled for its time, and its session (backend"
            f" {self.pid}) was terminated"
        )
        return f"{words}, which did not end it: it still runs there" if self.left else words


@contextlib.contextmanager
def ending_overdue(
    connection: psycopg.Connection,
    timeout_seconds: float,
    another: Callable[[], AbstractContextManager[psycopg.Connection]],
) -> Iterator[Overdue]:
    """End the session, inside this block, if a statement outlives its timeout.

    ``another`` connects as the same role.
    """
    row = connection.execute(SELF).fetchone()
    found, done = Overdue(pid=int(row[0]) if row else 0), threading.Event()
    if row is None:  # a pooler answers for it
        yield found
        return
    arguments = (connection, (*row, timeout_seconds + GRACE_SECONDS), another, found, done)
    watcher = threading.Thread(target=_watch, args=arguments, name="pgdrill-overdue", daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


def _watch(
    connection: psycopg.Connection,
    session: tuple[object, ...],
    another: Callable[[], AbstractContextManager[psycopg.Connection]],
    found: Overdue,
    done: threading.Event,
) -> None:
    limit, waited = float(str(session[-1])), 0.0
    while not done.wait(POLL_SECONDS):
        waited = (
            waited + POLL_SECONDS
            if connection.info.transaction_status == pq.TransactionStatus.ACTIVE
            else 0.0
        )
        if found.terminated and waited > TERMINATED_SECONDS:
            found.left = True
            logger.error("backend %d of production does not end; it is not waited for", found.pid)
            hang_up(connection)
            return
        if not found.terminated and waited > limit:
            _terminate(session, another, found)
            waited = 0.0 if found.terminated else waited


def _terminate(
    session: tuple[object, ...],
    another: Callable[[], AbstractContextManager[psycopg.Connection]],
    found: Overdue,
) -> None:
    """Terminate the session if it was the same statement all the while.

    What is found is noted first: whoever waits for the statement learns of its end at once.
    """
    try:
        with another() as connection:
            if connection.execute(OVERDUE.format("true"), session).fetchone() is not None:
                found.terminated = True
                logger.error(
                    "terminating backend %d of production, our own: its statement outlived its"
                    " timeout",
                    found.pid,
                )
                connection.execute(OVERDUE.format(TERMINATE), session)
    except Exception as error:  # the trouble that keeps from looking may pass
        logger.warning(
            "whether a statement outlives its timeout is not known: %s", type(error).__name__
        )
