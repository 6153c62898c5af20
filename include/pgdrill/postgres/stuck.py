"""Statements that no timeout reaches: a damaged index can send a backend round in circles that look at no interrupt.

Without this a drill would not end, and would not tell which index it was. Only for a throw-away server: ending a backend
this way makes PostgreSQL restart, and the check that waits for it gets the error.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator

import psutil
import psycopg

from pgdrill.postgres.server import LocalServer

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5.0  # beyond the statement timeout, which every statement of a check has
POLL_SECONDS = 1.0
STUCK = """
SELECT pid FROM pg_stat_activity
WHERE state = 'active' AND backend_type = 'client backend' AND query_start < clock_timestamp() - make_interval(secs => %s)
"""


@contextlib.contextmanager
def ending_stuck(server: LocalServer, statement_timeout_seconds: float) -> Iterator[None]:
    """While inside, end every backend whose statement has outlived its timeout."""
    done = threading.Event()
    limit = statement_timeout_seconds + GRACE_SECONDS
    watcher = threading.Thread(target=_watch, args=(server, limit, done), name="pgdrill-stuck", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(server: LocalServer, limit_seconds: float, done: threading.Event) -> None:
    while not done.wait(POLL_SECONDS):
        try:
            with server.system() as connection:
                connection.execute("SET statement_timeout = '5s'")
                while not done.wait(POLL_SECONDS):
                    for (pid,) in connection.execute(STUCK, (limit_seconds,)).fetchall():
                        logger.error("ending backend %d: its statement outlived its timeout", pid)
                        if backend := server.backend(pid):
                            with contextlib.suppress(psutil.Error):
                                backend.send_signal(signal.SIGQUIT)
        except psycopg.Error:
            continue  # restarting, or ended: then there is nothing to end
