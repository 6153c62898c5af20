"""Waiting until the server's counters hold all that was written before the restore point."""

from __future__ import annotations

import time

import psycopg

from pgdrill.host.process import Runner

# A backend that goes idle keeps its counters back for up to ten seconds (PGSTAT_IDLE_INTERVAL), a
# busy one for one (PGSTAT_MIN_INTERVAL), and inside a transaction nothing is reported.
IDLE_SECONDS = 10.5
MOST_SECONDS = 11.0
LONGEST_TRANSACTION_SECONDS = 60.0
POLL_SECONDS = 0.25  # nothing announces that a backend has reported its counters

# Backends that may hold counters back: those that have gone idle lately, and those in a transaction
# that began after the baseline did and before the first second after the restore point was over. A
# role without pg_read_all_stats is told nothing of other roles' backends.
HOLDING = """
SELECT count(*) FILTER (
           WHERE state IS NULL
              OR state = 'idle'
                 AND state_change > clock_timestamp() - make_interval(secs => %(idle)s)
                 AND state_change > clock_timestamp() - make_interval(secs => %(taken)s)),
       count(*) FILTER (
           WHERE state <> 'idle'
             AND xact_start BETWEEN clock_timestamp() - make_interval(secs => %(taken)s)
                                AND clock_timestamp() - make_interval(secs => %(marked)s - 1))
FROM pg_stat_activity
WHERE pid <> pg_backend_pid()
  AND backend_type IN (
      'client backend', 'background worker', 'autovacuum worker', 'logical replication worker')
  AND application_name <> 'pgdrill'
"""


def await_counters(
    connection: psycopg.Connection, taken_seconds: float, marked_seconds: float, runner: Runner
) -> None:
    """Wait until no backend can hold counters back.

    On a quiet server that is at once, else so long after the restore point. ``taken_seconds`` and
    ``marked_seconds``: how long ago the baseline began and the restore point was made.
    """
    started = time.monotonic()
    while not all_reported(
        connection,
        taken_seconds + time.monotonic() - started,
        marked_seconds + time.monotonic() - started,
    ):
        runner.check()
        time.sleep(POLL_SECONDS)


def all_reported(
    connection: psycopg.Connection, taken_seconds: float, marked_seconds: float
) -> bool:
    """Return True if the counters hold all that was written before the restore point."""
    ages = {"taken": taken_seconds, "marked": marked_seconds, "idle": IDLE_SECONDS}
    row = connection.execute(HOLDING, ages).fetchone()
    idle, working = row or (0, 0)
    return (not idle or marked_seconds > MOST_SECONDS) and (
        not working or marked_seconds > LONGEST_TRANSACTION_SECONDS
    )
