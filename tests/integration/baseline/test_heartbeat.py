"""Heartbeats are written with the least rights, through a server's restart, and read as they were
written.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import psycopg
import pytest

from pgdrill.baseline.heartbeat import HeartbeatColumn, beat, keep_beating
from pgdrill.errors import CouldNotVerify
from pgdrill.postgres.clock import measure
from pgdrill.recovery.planning import read_heartbeats
from pgdrill_demo.stack import Stack


@pytest.fixture
def heartbeats(stack: Stack) -> Iterator[Callable[[], list[datetime]]]:
    """Every heartbeat, oldest first; none before the test and none afterwards."""

    def read() -> list[datetime]:
        with stack.connect() as connection:
            return [
                row[0]
                for row in connection.execute(
                    "SELECT at FROM pgdrill_heartbeat ORDER BY at"
                ).fetchall()
            ]

    with stack.connect() as connection:
        connection.execute("TRUNCATE pgdrill_heartbeat")
    yield read
    with stack.connect() as connection:
        connection.execute("TRUNCATE pgdrill_heartbeat")


def until(reached: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "not reached in time"
        time.sleep(0.05)


def test_the_command_writes_one_row_by_the_servers_clock_with_the_right_to_insert_alone(
    stack: Stack, heartbeats: Callable[[], list[datetime]]
) -> None:
    with stack.connect() as connection:
        rights = connection.execute(
            "SELECT array_agg(privilege_type::text) FROM information_schema.table_privileges"
            " WHERE table_name = 'pgdrill_heartbeat' AND grantee = 'pgdrill'"
        ).fetchone()
        (before,) = connection.execute("SELECT clock_timestamp()").fetchone() or ()
        assert rights == (["INSERT"],)
        words = [
            sys.executable,
            "-c",
            "from pgdrill.cli import main; main()",
            "heartbeat",
            "agents",
            "--json",
        ]
        done = subprocess.run(
            words,
            env={**os.environ, **stack.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        (after,) = connection.execute("SELECT clock_timestamp()").fetchone() or ()
    assert (done.returncode, done.stdout) == (0, '{"cluster": "agents", "written": 1}\n'), (
        done.stderr
    )
    assert stack.passwords["pgdrill"] not in done.stderr + " ".join(words)
    (at,) = heartbeats()
    assert before < at < after


def test_the_command_goes_on_until_it_is_told_to_stop(
    stack: Stack, heartbeats: Callable[[], list[datetime]]
) -> None:
    words = [
        sys.executable,
        "-c",
        "from pgdrill.cli import main; main()",
        "heartbeat",
        "agents",
        "--every",
        "0.1",
    ]
    process = subprocess.Popen(
        words, env={**os.environ, **stack.environment}, stdout=subprocess.PIPE, text=True
    )
    try:
        until(lambda: len(heartbeats()) > 2)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, told) == (0, f"{len(heartbeats())} written\n")


def test_heartbeats_go_on_when_the_server_is_back(
    stack: Stack, heartbeats: Callable[[], list[datetime]]
) -> None:
    stopped = threading.Event()
    thread = threading.Thread(target=keep_beating, args=(stack.access, 0.1, stopped))
    thread.start()
    try:
        until(lambda: len(heartbeats()) > 0)
        with stack.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgdrill'"
            )
            connection.execute("ALTER ROLE pgdrill NOLOGIN")
        before = len(heartbeats())
        with stack.connect() as connection:
            connection.execute("ALTER ROLE pgdrill LOGIN")
        until(lambda: len(heartbeats()) > before)
    finally:
        stopped.set()
        thread.join(10)
    assert not thread.is_alive()


def test_without_the_table_or_the_right_the_mend_is_said(stack: Stack, heartbeats: object) -> None:
    with stack.connect() as connection:
        connection.execute("REVOKE INSERT ON pgdrill_heartbeat FROM pgdrill")
    try:
        with pytest.raises(CouldNotVerify) as caught:
            beat(stack.access)
    finally:
        with stack.connect() as connection:
            connection.execute("GRANT INSERT ON pgdrill_heartbeat TO pgdrill")
    assert caught.value.problem.reason == "no-heartbeat-table"
    assert "CREATE TABLE pgdrill_heartbeat" in caught.value.problem.expected


def test_the_newest_up_to_an_instant_is_read(
    stack: Stack, heartbeats: Callable[[], list[datetime]]
) -> None:
    for _ in range(3):
        beat(stack.access)
    first, second, third = heartbeats()
    column = HeartbeatColumn.of(stack.cluster)
    assert column
    with stack.access.connect(column.database) as connection:
        assert column.newest(connection) == third
        assert column.newest(connection, second) == second
        assert column.newest(connection, second - (second - first) / 2) == first
        assert column.newest(connection, datetime(2000, 1, 1, tzinfo=first.tzinfo)) is None
    seen = read_heartbeats(stack.access, second)
    assert seen
    assert (seen.newest_at, seen.at_target) == (third, second)


def test_a_column_that_is_not_there_is_told_and_stops_nothing(stack: Stack) -> None:
    wrong = stack.cluster.drill.model_copy(update={"heartbeat": "public.nothing.at"})
    access = type(stack.access)(
        stack.cluster.model_copy(update={"drill": wrong}), stack.credentials
    )
    seen = read_heartbeats(access)
    assert seen
    assert seen.trouble.startswith("UndefinedTable")


def test_the_clock_of_a_server_on_this_host_is_ours(stack: Stack) -> None:
    with psycopg.connect(stack.conninfo()) as connection:
        found = measure(connection)
    assert abs(found.offset_seconds) <= found.uncertainty_seconds + 0.05
    assert found.uncertainty_seconds < 1
