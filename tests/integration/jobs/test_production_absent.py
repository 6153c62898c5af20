"""Production that is not there, and production that refuses: what a drill says of each, and when it
stops being green.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import drill
from pgdrill.errors import Gone, Refused, Unreachable
from pgdrill.recovery.presence import absence
from pgdrill.reports.model import Report
from pgdrill_demo.stack import Stack, preferred_tool

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack with a base backup and an instant after it."""
    made = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool(), canary_rows=20)
    try:
        made.create(scale=0.1)
        made.start()
        take_backup(made.access)
        with made.connect() as connection:
            connection.execute("INSERT INTO pgdrill_heartbeat DEFAULT VALUES")
            connection.execute("SELECT pg_switch_wal()")
        yield made
    finally:
        made.remove()


@contextmanager
def altered(stack: Stack, change: str, back: sql.Composable) -> Iterator[None]:
    """The role as an administrator changed it, and as it was before."""
    with stack.connect() as connection:
        connection.execute(sql.SQL("ALTER ROLE pgdrill {}").format(sql.SQL(change)))  # type: ignore[arg-type]
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER ROLE pgdrill {}").format(back))


def rotated(stack: Stack) -> object:
    """Another password than the configuration brings."""
    return altered(
        stack,
        "PASSWORD 'rotated'",
        sql.SQL("PASSWORD {}").format(sql.Literal(stack.passwords["pgdrill"])),
    )


def elsewhere(access: Access, allowed: int) -> Access:
    """The same cluster with an address at which nobody listens."""
    server = access.cluster.server.model_copy(update={"dsn": "host=127.0.0.1 port=1 dbname=agents"})
    drilling = access.cluster.drill.model_copy(update={"without_production": allowed})
    return replace(
        access, cluster=access.cluster.model_copy(update={"server": server, "drill": drilling})
    )


@pytest.mark.parametrize("target", ["latest", "random"])
def test_a_production_that_refuses_the_login_is_never_drilled_without(
    stack: Stack, target: str
) -> None:
    with rotated(stack):  # type: ignore[attr-defined]
        report = drill(stack.access, target=target)
    assert report.verdict == "could not verify"
    assert report.restore.trouble
    assert report.restore.trouble.reason == "login-refused"
    assert "password authentication failed" in report.restore.trouble.found
    assert "PGPASSWORD" in report.restore.trouble.hint
    assert not report.worth_another_try
    assert not report.without_production


def test_the_command_says_so_too(stack: Stack) -> None:
    with rotated(stack):  # type: ignore[attr-defined]
        done = subprocess.run(
            [sys.executable, "-c", "from pgdrill.cli import main; main()", "drill", "agents"],
            env={**os.environ, **stack.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 2
    assert "login-refused" in done.stdout + done.stderr
    assert stack.passwords["pgdrill"] not in done.stdout + done.stderr


def test_a_production_without_a_free_connection_is_neither_gone_nor_refusing_but_asked_again(
    stack: Stack,
) -> None:
    with (
        altered(stack, "CONNECTION LIMIT 0", sql.SQL("CONNECTION LIMIT -1")),
        pytest.raises(Unreachable) as caught,
    ):
        absence(stack.access)
    assert not isinstance(caught.value, Gone)
    assert caught.value.retryable


def test_what_a_server_or_none_answers_is_told_apart(stack: Stack) -> None:
    access = stack.access
    assert absence(access) == ""
    assert "refused" in absence(elsewhere(access, 3))
    without_host = access.cluster.server.model_copy(
        update={"dsn": f"host={stack.home}/nowhere port=5432 dbname=agents"}
    )
    assert absence(
        replace(access, cluster=access.cluster.model_copy(update={"server": without_host}))
    )
    missing = access.cluster.server.model_copy(
        update={"databases": ("nowhere",), "dsn": f"host={stack.home} port=5432"}
    )
    with pytest.raises(Refused, match="nowhere"):
        absence(replace(access, cluster=access.cluster.model_copy(update={"server": missing})))
    with stack.connect() as connection, pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert absence(access) == ""


def test_a_production_that_is_gone_is_said_in_the_verdict_and_not_green_for_ever(
    stack: Stack,
) -> None:
    access = elsewhere(stack.access, allowed=1)
    first, second = drill(access), drill(access)
    assert first.verdict == "passed", first.reason
    assert "Production was not there, for the 1st drill in a row" in first.summary
    assert asked(first) == ("warn", "gone for 1 drill in a row")
    assert second.verdict == "could not verify"
    assert "production" in second.reason
    assert "for the 2nd drill in a row" in second.summary
    assert asked(second) == ("skip", "gone for 2 drills in a row")
    again = drill(stack.access)
    assert (again.verdict, again.without_production) == ("passed", ""), again.reason
    assert "Production was not there" not in again.summary
    afterwards = drill(access)
    assert asked(afterwards) == ("warn", "gone for 1 drill in a row"), "it was there in between"


def asked(report: Report) -> tuple[str, object]:
    """What the drill answered about production's presence."""
    (found,) = [result for result in report.results if result.name == "production"]
    return found.status, found.value
