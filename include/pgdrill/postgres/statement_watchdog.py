"""Ending statements that no timeout reaches.

A stranger's function may refuse to be cancelled, and a damaged index can send a backend round in
circles that look at no interrupt. Without this a drill would not end, and would not tell which
table it was. Terminated, a backend ends alone: no function can catch that, and whoever asked gets
``AdminShutdown``. Only one that goes on all the same is ended by SIGQUIT, which makes PostgreSQL
restart: only for a throw-away server.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import psycopg

from pgdrill.postgres.server import LocalServer

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5.0  # beyond the statement timeout, which every statement of a check has
TERMINATED_SECONDS = 10.0  # for a backend that was asked to end
POLL_SECONDS = 1.0
STUCK = """
SELECT pid FROM pg_stat_activity
WHERE state = 'active' AND backend_type = 'client backend'
  AND query_start < clock_timestamp() - make_interval(secs => %s)
"""


@dataclass
class Stuck:
    """The numbers of what had to be done about statements."""

    terminated: int = 0
    restarts: int = 0  # of the whole server


@contextlib.contextmanager
def ending_stuck(
    server: LocalServer, statement_timeout_seconds: float, stuck: Stuck | None = None
) -> Iterator[None]:
    """End every backend whose statement has outlived its timeout, inside this block."""
    done = threading.Event()
    limit = statement_timeout_seconds + GRACE_SECONDS
    watcher = threading.Thread(
        target=_watch,
        args=(server, limit, done, stuck or Stuck()),
        name="pgdrill-stuck",
        daemon=True,
    )
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(server: LocalServer, limit_seconds: float, done: threading.Event, stuck: Stuck) -> None:
    told: dict[int, float] = {}
    while not done.wait(POLL_SECONDS):
        try:
            with server.system() as connection:
                connection.execute("SET statement_timeout = '5s'")
                while not done.wait(POLL_SECONDS):
                    found = [
                        pid for (pid,) in connection.execute(STUCK, (limit_seconds,)).fetchall()
                    ]
                    told = {pid: at for pid, at in told.items() if pid in found}
                    for pid in found:
                        _end(server, connection, pid, told, stuck)
        except psycopg.Error:
            continue  # the server restarts, or has ended: then there is nothing to end


def _end(
    server: LocalServer,
    connection: psycopg.Connection,
    pid: int,
    told: dict[int, float],
    stuck: Stuck,
) -> None:
    if pid not in told:
        told[pid] = time.monotonic()
        stuck.terminated += 1
        logger.error("terminating backend %d: its statement outlived its timeout", pid)
        connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
    elif time.monotonic() - told[pid] > TERMINATED_SECONDS and (backend := server.backend(pid)):
        told[pid] = float("inf")
        stuck.restarts += 1
        logger.error(
            "ending backend %d, which does not end when it is told to: the restored server"
            " restarts",
            pid,
        )
        with contextlib.suppress(psutil.Error):
            backend.send_signal(signal.SIGQUIT)
