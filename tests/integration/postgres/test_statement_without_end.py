"""A statement on production that refuses to be cancelled is ended by pgdrill itself: that session,
and no other of the same role.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest

from pgdrill.access import Access
from pgdrill.baseline import take_baseline
from pgdrill.errors import CouldNotVerify
from pgdrill.postgres import overdue
from pgdrill_demo.stack import Stack

HOME = "endless"
SECONDS = 2.0
# A superuser added it to an extension: what an extension's function does is not followed, so the
# table is queried.
ENDLESS = """
CREATE EXTENSION vector;
CREATE FUNCTION public.yes() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF current_user = 'pgdrill' THEN
        LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
    END IF;
    RETURN true;
END $$;
ALTER EXTENSION vector ADD FUNCTION public.yes();
CREATE TABLE public.slow (id int); INSERT INTO public.slow SELECT generate_series(1, 100);
CREATE INDEX ON public.slow (id) WHERE public.yes();
CREATE TABLE public.quick (id int); INSERT INTO public.quick SELECT generate_series(1, 100);
GRANT SELECT ON public.slow, public.quick TO pgdrill;
"""


@pytest.fixture(scope="module")
def access(stack: Stack) -> Iterator[Access]:
    with stack.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {HOME}")
    with stack.connect(HOME) as connection:
        connection.execute(ENDLESS)
    cluster = stack.cluster
    server = cluster.server.model_copy(update={"databases": (HOME,)})
    drill = cluster.drill.model_copy(
        update={"statement_timeout_seconds": SECONDS, "state_tables": (), "heartbeat": ""}
    )
    yield Access(
        cluster.model_copy(update={"server": server, "drill": drill, "vectors": ()}),
        stack.credentials,
    )
    with stack.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {HOME} WITH (FORCE)")


def backends(stack: Stack) -> set[int]:
    """Sessions of pgdrill's role that are at work."""
    with stack.connect(HOME) as connection:
        query = (
            "SELECT pid FROM pg_stat_activity WHERE usename = 'pgdrill' AND state = 'active' AND"
            " pid <> pg_backend_pid()"
        )
        return {pid for (pid,) in connection.execute(query).fetchall()}


def test_a_backend_that_refuses_cancel_is_terminated_after_timeout_and_grace_and_no_other(
    access: Access, stack: Stack
) -> None:
    with access.connect(HOME) as bystander:  # of the same role, and busy for longer
        started = time.monotonic()
        with pytest.raises(CouldNotVerify) as raised:
            take_baseline(access)
        taken = time.monotonic() - started
        assert bystander.execute("SELECT 1").fetchone() == (1,)
    problem = raised.value.problem
    assert problem.reason == "statement-without-end"
    assert "reading public.slow" in problem.thing
    assert "was terminated" in problem.found
    assert taken < SECONDS + overdue.GRACE_SECONDS + 60
    assert backends(stack) == set()


def test_a_backend_that_cannot_be_ended_is_not_waited_for(
    access: Access, monkeypatch: pytest.MonkeyPatch, stack: Stack
) -> None:
    """As of a read that hangs in the kernel: what tells it to end is taken away here."""
    monkeypatch.setattr(overdue, "TERMINATE", "pid")
    monkeypatch.setattr(overdue, "TERMINATED_SECONDS", 2.0)
    with pytest.raises(CouldNotVerify) as raised:
        take_baseline(access)
    assert raised.value.problem.reason == "statement-without-end"
    assert "still runs there" in raised.value.problem.found
    for pid in backends(stack):
        with stack.connect(HOME) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))


def test_a_busy_session_of_short_statements_is_left_alone(access: Access) -> None:
    with (
        access.connect(HOME) as connection,
        overdue.ending_overdue(
            connection, -overdue.GRACE_SECONDS + 1.5, lambda: access.connect(HOME)
        ) as found,
    ):
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            connection.execute("SELECT pg_sleep(0.4)")
    assert not found.terminated


def test_an_idle_session_and_a_closed_one_are_left_alone(access: Access) -> None:
    with (
        access.connect(HOME) as connection,
        overdue.ending_overdue(
            connection, -overdue.GRACE_SECONDS, lambda: access.connect(HOME)
        ) as found,
    ):
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT FROM nothing")
        connection.close()
    assert not found.terminated
