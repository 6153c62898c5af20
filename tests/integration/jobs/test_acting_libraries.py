"""Libraries that act, on Debian's PostgreSQL 15: production preloads them, a restored copy of it
does not.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import check_stage, destroy_stage, new_drill_id, restore_stage
from pgdrill.postgres.binaries import Binaries
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import NOT_ASKED, Report
from pgdrill_demo import stack as stacks
from pgdrill_demo.stack import Stack, preferred_tool
from tests.conftest import need

FOLDER = Path("/usr/lib/postgresql/15")
ACTING = {
    "bgw_replstatus": "bgw-replstatus",
    "pg_cron": "cron",
    "powa": "powa",
    "pg_wait_sampling": "pg-wait-sampling",
}
FAMILIES = ("recovery", "schema", "rows", "integrity")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def acting() -> Iterator[tuple[Stack, int]]:
    """Production with jobs, snapshots and a listener, and the port of the latter."""
    missing = [
        f"postgresql-15-{package}"
        for name, package in ACTING.items()
        if not (FOLDER / "lib" / f"{name}.so").exists()
    ]
    if not (FOLDER / "bin" / "initdb").exists() or missing:
        pytest.skip(f"not installed here (Debian 12): {', '.join(missing) or 'postgresql-15'}")
    need(preferred_tool())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacks, "binaries", lambda: Binaries(FOLDER / "bin"))
        stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
        port = free_port()
        try:
            stack.create(sample=False)
            libraries = (
                "pg_stat_statements,pg_qualstats,bgw_replstatus,pg_cron,powa,pg_wait_sampling"
            )
            options = {
                "shared_preload_libraries": libraries,
                "cron.database_name": "agents",
                "powa.frequency": "5s",
                "bgw_replstatus.bind": "127.0.0.1",
                "bgw_replstatus.port": str(port),
            }
            stack.primary = replace(stack.primary, options={**stack.primary.options, **options})
            stack.start()
            with stack.connect() as connection:
                connection.execute("CREATE EXTENSION pg_cron")
                connection.execute("CREATE TABLE ticks AS SELECT now() AS at")
                connection.execute(
                    "SELECT cron.schedule('* * * * *', 'INSERT INTO ticks SELECT now()')"
                )
                connection.execute("CREATE DATABASE powa")
            with stack.connect("powa") as connection:
                connection.execute("CREATE EXTENSION powa CASCADE")
            take_backup(stack.access)
            yield stack, port
        finally:
            stack.remove()


@contextlib.contextmanager
def restored(access: Access) -> Iterator[tuple[Report, psutil.Process, psycopg.Connection]]:
    """A drill with all its checks, its running server and a connection to it."""
    drill_id = new_drill_id()
    try:
        report = restore_stage(access, drill_id)
        assert report.restore.status == "ok", report.restore.trouble
        report = check_stage(access, drill_id, families=FAMILIES)
        server = Workspace.of(access, drill_id).server(access)
        process = server.process()
        assert process
        with server.connect("agents") as connection:
            yield report, process, connection
    finally:
        destroy_stage(access, drill_id)


def answers(report: Report, name: str) -> dict[str, tuple[str, object, str]]:
    return {
        result.thing: (result.status, result.value, result.message)
        for result in report.results
        if result.name == name
    }


def test_a_restored_copy_loads_none_of_them_and_says_so_by_name(acting: tuple[Stack, int]) -> None:
    stack, port = acting
    with socket.create_connection(("127.0.0.1", port)) as listener:
        assert listener.recv(10).startswith(b"MASTER")
    with restored(stack.access) as (report, process, connection):
        assert connection.execute("SHOW shared_preload_libraries").fetchone() == (
            "pg_stat_statements,pg_qualstats",
        )
        family = [process, *process.children(recursive=True)]
        assert not [
            one
            for one in family
            if any(name in " ".join(one.cmdline()) for name in (*ACTING, "cron", "replstatus"))
        ]
        assert not [c for one in family for c in one.net_connections("inet")]
        assert not [result for result in report.results if result.status == "fail"], report.results
        libraries = answers(report, "preload-libraries")
    for name in ACTING:
        status, value, message = libraries[f"{name} (shared_preload_libraries)"]
        assert (status, value) == ("skip", NOT_ASKED)
        assert f'drill.allowed_libraries = ["{name}"]' in message
    assert (
        "not judged without it: agents.cron.job, agents.cron.job_run_details"
        in libraries["pg_cron (shared_preload_libraries)"][2]
    )
    assert libraries["pg_stat_statements (shared_preload_libraries)"][:2] == ("pass", "loaded")
    assert not [
        result
        for result in report.results
        if result.required and result.status == "skip" and "cron" in result.thing
    ]


def test_what_the_configuration_allows_is_loaded(acting: tuple[Stack, int]) -> None:
    stack, _ = acting
    cluster = stack.cluster
    drill = cluster.drill.model_copy(update={"allowed_libraries": ("pg_cron",)})
    access = Access(cluster.model_copy(update={"drill": drill}), stack.credentials)
    with restored(access) as (report, _process, connection):
        assert connection.execute("SHOW shared_preload_libraries").fetchone() == (
            "pg_stat_statements,pg_qualstats,pg_cron",
        )
        assert answers(report, "preload-libraries")["pg_cron (shared_preload_libraries)"][:2] == (
            "pass",
            "loaded",
        )
        assert "warn" in {status for status, _, _ in answers(report, "harmless").values()}


def test_what_looks_broken_without_its_library_is_no_answer(acting: tuple[Stack, int]) -> None:
    """A table whose trigger, type, schema or ancestor is the library's, and one that has nothing to
    do with it.
    """
    stack, _ = acting
    with stack.connect() as connection:
        connection.execute("CREATE TABLE triggered (n int)")
        connection.execute(
            "CREATE TRIGGER t AFTER INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION"
            " cron.job_cache_invalidate()"
        )
        connection.execute("CREATE TABLE heir () INHERITS (triggered)")
        connection.execute("INSERT INTO heir VALUES (1)")
        connection.execute('CREATE TABLE "of its own" (n int)')
    take_backup(stack.access)
    with restored(stack.access) as (report, _process, _connection):
        message = answers(report, "preload-libraries")["pg_cron (shared_preload_libraries)"][2]
    for name in ("agents.public.triggered", "agents.public.heir", "agents.cron.job_run_details"):
        assert name in message
    assert "of its own" not in message
    assert "agents.public.ticks" not in message
