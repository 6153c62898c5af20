"""Whole drills: healthy ones pass, killed ones leave nothing, restored clusters can do no harm."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import destroy_stage, drill, new_drill_id, restore_stage
from pgdrill.errors import ConfigError, CouldNotVerify
from pgdrill.host import lock
from pgdrill.host.process import Runner, Stopped
from pgdrill.postgres.wal import Segment, format_lsn, parse_lsn
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import Report
from pgdrill.reports.store import load_report, report_file
from pgdrill.repository.archiver import wait_archived
from pgdrill_demo.stack import Stack
from pgdrill_demo.writer import Writer
from tests.conftest import TOOLS, need
from tests.integration.conftest import Copy, Relay, nothing_left, once, processes_in


def _drill_in_a_process(access: Access, drill_id: str, target: str) -> None:
    drill(access, drill_id=drill_id, target=target)


@contextlib.contextmanager
def drilling(
    access: Access, drill_id: str, target: str
) -> Iterator[multiprocessing.process.BaseProcess]:
    """A drill by a process of its own, as the CLI is one."""
    process = multiprocessing.get_context("spawn").Process(
        target=_drill_in_a_process, args=(access, drill_id, target)
    )
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def until_no_process(folder: Path, name: str, seconds: float = 6) -> None:
    """Wait until no process of that name has to do with the folder."""
    end = time.monotonic() + seconds
    while found := [line for line in processes_in(folder) if name in line]:
        assert time.monotonic() < end, found
        time.sleep(0.05)


def until(reached: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that only a file tells of."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait half a minute for a busy cluster."""
    monkeypatch.setitem(lock.ClusterLock.hold.__wrapped__.__kwdefaults__, "wait_seconds", 0.5)  # type: ignore[attr-defined]


def slow_part(repository: Copy) -> str:
    return rf"GET \S*{repository.part.name.split('.')[0]}"


def test_a_drill_killed_in_its_fetch_takes_the_tool_along_and_the_next_one_clears_up(
    repository: Copy, relay: Relay, quick: None
) -> None:
    relay.misbehave(slow_part(repository), "trickle")
    access = repository.access(repository={"endpoint_url": relay.endpoint_url})
    first = new_drill_id()
    tool = {"wal-g": "wal-g", "barman-cloud": "barman-cloud-restore"}[repository.golden.stack.tool]
    with drilling(access, first, "name:mark1") as process:
        assert relay.matched.wait(180)
        # Meanwhile nobody else gets in.
        with pytest.raises(CouldNotVerify) as caught:
            restore_stage(repository.access(), new_drill_id(), target="name:mark1")
        assert caught.value.problem.reason == "busy"
        assert any(tool in line for line in processes_in(repository.work))
        process.kill()
        process.join()
    until_no_process(repository.work, tool)
    assert Workspace.of(access, first).directory.exists()
    report = repository.drill(target="name:mark1")
    assert report.restore.status == "ok"
    nothing_left(access, first)


def test_a_drill_killed_in_its_replay_is_cleared_up_by_the_next(
    repository: Copy, relay: Relay, quick: None
) -> None:
    once(repository)
    relay.misbehave(rf"(GET|HEAD) \S*{repository.golden.marks[0].segment.name}", "hang")
    access = repository.access(repository={"endpoint_url": relay.endpoint_url})
    first = new_drill_id()
    workspace = Workspace.of(access, first)
    with drilling(access, first, f"lsn:{format_lsn(repository.golden.marks[0].lsn)}") as process:
        # WAL is fetched ahead: the server may not even have been started
        assert relay.matched.wait(180)
        until(
            lambda: (
                workspace.log_file.exists()
                and "starting backup recovery" in workspace.log_file.read_text()
            )
        )
        assert any(
            "pgdrill.recovery.wal_prefetch" in line for line in processes_in(repository.work)
        )
        assert workspace.server(access).process() is not None
        process.kill()  # the server's keeper may see that at once, or within seconds
        process.join()
    until_no_process(repository.work, "pgdrill.recovery.wal_prefetch")
    with pytest.raises(ConfigError):
        repository.drill(target="name:never")
    nothing_left(access, first)


def test_a_stopped_drill_is_gone_within_airflows_five_seconds(
    repository: Copy, relay: Relay
) -> None:
    relay.misbehave(slow_part(repository), "trickle")
    access = repository.access(repository={"endpoint_url": relay.endpoint_url})
    runner, drill_id, seconds = Runner(), new_drill_id(), []

    def stop() -> None:
        relay.matched.wait(180)
        started = time.monotonic()
        runner.stop()
        seconds.append(time.monotonic() - started)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped):
        repository.drill(access, target="name:mark1", runner=runner, drill_id=drill_id)
    stopper.join()
    assert seconds[0] < 4.5
    report = load_report(access, drill_id)
    assert (report.verdict, report.cleanup.status) == ("could not verify", "ok")


def test_destroying_twice_or_without_anything_there_is_fine(repository: Copy) -> None:
    access, drill_id = repository.access(), new_drill_id()
    report = restore_stage(access, drill_id, target="lsn:0/1000028")
    assert report.restore.trouble
    assert destroy_stage(access, drill_id).cleanup.status == "ok"
    assert destroy_stage(access, drill_id).cleanup.status == "ok"
    nothing_left(access, drill_id)


def test_without_production_the_newest_archived_record_is_the_target(
    repository: Copy, caplog: pytest.LogCaptureFixture
) -> None:
    once(repository)
    caplog.set_level(logging.INFO)
    access, drill_id = repository.access(), new_drill_id()
    try:
        report = restore_stage(access, drill_id)
        assert report.restore.status == "ok", report.restore.trouble
        with Workspace.of(access, drill_id).server(access).connect("agents") as connection:
            assert connection.execute("SELECT count(*) FROM canary").fetchone() == (
                repository.golden.marks[-1].rows,
            )
    finally:
        destroy_stage(access, drill_id)
    assert "drilling without production" in caplog.text
    assert report.target
    assert report.target.kind == "latest"
    assert parse_lsn(report.target.lsn or "0/0") >= repository.golden.marks[-1].lsn


# --- restored clusters can do no harm ---


HARM = """
archive_mode = 'on'
archive_command = 'touch {home}/harm-archive; false'
archive_cleanup_command = 'touch {home}/harm-cleanup'
recovery_end_command = 'touch {home}/harm-end'
restore_command = 'touch {home}/harm-restore; false'
primary_conninfo = 'host={home} user=postgres'
listen_addresses = '*'
shared_preload_libraries = 'pg_cron'
autovacuum = 'on'
max_connections = 10
hba_file = '{home}/harm.conf'
random_page_cost = 1.25
work_mem = '7MB'
hnsw.ef_search = 77
"""


@pytest.fixture(scope="module", params=TOOLS)
def armed(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Production with a tablespace, higher limits, and a configuration that no restored cluster may
    follow.
    """
    stack = Stack(tool=need(request.param), home=Path(tempfile.mkdtemp(prefix="pgdrill-")))
    try:
        stack.create(sample=False)
        stack.primary.options.update(
            {  # type: ignore[attr-defined]
                "max_connections": "300",
                "shared_preload_libraries": "",
                "primary_conninfo": "",
                "autovacuum": "off",
                "hba_file": str(stack.home / "primary" / "pg_hba.conf"),
                "recovery_end_command": "",
            }
        )
        with (stack.home / "primary" / "postgresql.auto.conf").open("a") as file:
            file.write(HARM.format(home=stack.home))
        (stack.home / "space").mkdir(mode=0o700)
        stack.start()
        with stack.connect() as connection:
            connection.execute(f"CREATE TABLESPACE fast LOCATION '{stack.home}/space'")
            connection.execute(
                "CREATE TABLE canary TABLESPACE fast AS SELECT generate_series(1, 5000) AS n"
            )
            connection.execute("CREATE EXTENSION vector")
        take_backup(stack.access)
        yield stack
    finally:
        stack.remove()


def everything_in(folder: Path) -> str:
    return "".join(
        file.read_text(errors="replace")
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink()
    )


def test_a_restored_cluster_is_harmless_and_holds_no_secret(
    armed: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    access, drill_id = armed.access, new_drill_id()
    secrets = [*armed.passwords.values(), armed.s3.secret_key]
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    seen.add(" ".join(process.cmdline()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    space = sorted((file.name, file.stat().st_mtime) for file in (armed.home / "space").rglob("*"))
    try:
        report = restore_stage(access, drill_id)
        assert report.restore.status == "ok", report.restore.trouble
        workspace = Workspace.of(access, drill_id)
        server = workspace.server(access)
        with server.connect("agents") as connection:
            # loads pgvector, whose settings are listed from then on
            connection.execute("SELECT '[1]'::vector")
            settings: dict[str, str] = dict(
                connection.execute("SELECT name, setting FROM pg_settings").fetchall()
            )
            assert connection.execute("SELECT count(*) FROM canary").fetchone() == (5000,)
            place = connection.execute(
                "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'"
            ).fetchone()
            kinds = {
                row[0]
                for row in connection.execute(
                    "SELECT backend_type FROM pg_stat_activity"
                ).fetchall()
            }
            sources = connection.execute(
                "SELECT count(*) FROM pg_settings WHERE sourcefile LIKE '%auto.conf'"
            ).fetchone()
    finally:
        over.set()
        watcher.join()
        kept = (
            everything_in(Workspace.of(access, drill_id).directory)
            if Workspace.of(access, drill_id).directory.exists()
            else ""
        )
        destroy_stage(access, drill_id)

    assert {
        name: settings[name]
        for name in (
            "archive_mode",
            "archive_command",
            "listen_addresses",
            "primary_conninfo",
            "autovacuum",
            "shared_preload_libraries",
            "archive_cleanup_command",
            "recovery_end_command",
            "unix_socket_permissions",
            "max_logical_replication_workers",
        )
    } == {
        "archive_mode": "off",
        "archive_command": "(disabled)",
        "listen_addresses": "",
        "primary_conninfo": "",
        "autovacuum": "off",
        "shared_preload_libraries": "",
        "archive_cleanup_command": "",
        "recovery_end_command": "",
        "unix_socket_permissions": "0700",
        "max_logical_replication_workers": "0",
    }
    assert int(settings["max_connections"]) >= 300
    planned_with = {
        name: settings[name] for name in ("random_page_cost", "work_mem", "hnsw.ef_search")
    }
    assert planned_with == {
        "random_page_cost": "1.25",
        "work_mem": "7168",
        "hnsw.ef_search": "77",
    }, "searched as on production"
    after_replay = {
        name: settings[name]
        for name in ("max_wal_size", "checkpoint_timeout", "maintenance_work_mem")
    }
    assert after_replay == {
        "max_wal_size": "2048",
        "checkpoint_timeout": "300",
        "maintenance_work_mem": "65536",
    }, "replay's are gone"
    assert sources == (0,)
    assert "archiver" not in kinds
    assert "autovacuum launcher" not in kinds
    assert not list(armed.home.glob("harm-*"))
    # The tablespace came with it, and production's was left alone.
    assert place
    assert place[0].startswith(str(workspace.directory))
    assert (
        sorted((file.name, file.stat().st_mtime) for file in (armed.home / "space").rglob("*"))
        == space
    )
    # No secret anywhere: not in settings, files, logs, reports, arguments.
    shown = "".join(
        [*settings.values(), caplog.text, kept, report_file(access, drill_id).read_text(), *seen]
    )
    assert not [secret for secret in secrets if secret in shown]
    assert any("wal-fetch" in line or "wal-restore" in line for line in seen)  # it did look
    nothing_left(access, drill_id)


def test_the_socket_of_a_restored_cluster_is_its_owners_alone(armed: Stack) -> None:
    workspace = Workspace.of(armed.access, "socket")
    workspace.create()
    assert workspace.socket_directory.stat().st_mode & 0o777 == 0o700
    assert workspace.directory.stat().st_mode & 0o777 == 0o700
    workspace.destroy()


def test_what_a_tool_left_working_ends_with_the_folder(armed: Stack) -> None:
    workspace = Workspace.of(armed.access, "orphan")
    workspace.create()
    making = (
        "import pathlib, sys\nwhile True: pathlib.Path(sys.argv[1], 'prefetch').mkdir(parents=True,"
        " exist_ok=True)"
    )
    orphan = subprocess.Popen(
        [sys.executable, "-c", making, str(workspace.home)],
        env={"HOME": str(workspace.home)},
        start_new_session=True,
    )
    try:
        while not (workspace.home / "prefetch").exists():
            assert orphan.poll() is None
        workspace.destroy()
        assert orphan.wait(10) < 0
        assert not workspace.directory.exists()
    finally:
        orphan.kill()


# --- healthy drills pass ---


@pytest.fixture(scope="module", params=TOOLS)
def busy(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Production with the sample, an application writing to it all the time, and a base backup
    taken meanwhile.
    """
    stack = Stack(
        tool=need(request.param),
        home=Path(tempfile.mkdtemp(prefix="pgdrill-")),
        archive_timeout_seconds=15,
        drill={"state_tables": ["hc_agent_state", "sales_worker_sessions", "re_plans"]},
    )
    try:
        stack.create(scale=0.1)
        stack.start()
        with Writer(stack.conninfo(), rate_per_second=20):
            take_backup(stack.access)
        yield stack
    finally:
        stack.remove()


def healthy(stack: Stack) -> Report:
    drill_id = new_drill_id()
    with Writer(stack.conninfo(), rate_per_second=20) as writer:
        report = drill(stack.access, drill_id=drill_id)
        assert writer.running
    nothing_left(stack.access, drill_id)
    alarms = [
        result
        for result in report.results
        if result.status == "fail" or (result.required and result.status == "skip")
    ]
    assert not alarms
    assert report.verdict == "passed", report.reason
    times = report.timings
    assert times.prewarmed_bytes
    assert times.time_to_correct_vector_search_seconds == pytest.approx(
        (times.time_to_running_seconds or 0)
        + (times.prewarm_seconds or 0)
        + (times.vector_checks_seconds or 0)
    )
    return report


def test_a_healthy_drill_under_writes_passes_and_again_on_the_next_timeline(busy: Stack) -> None:
    if busy.tool == "wal-g":
        report = healthy(busy)
        assert report.measured_rpo_seconds is not None
        assert report.restored
        assert report.restored.timeline == 2  # the clone's own, not production's
    promote(busy)
    report = healthy(busy)
    assert report.restored
    assert report.restored.timeline == 3
    assert report.timings.wal
    assert report.timings.wal.segments > 1
    # Recovery reads on beyond its target: a segment that is archived between the reader's look and
    # the tool's is the tool's.
    assert report.timings.wal.by_tool <= 1


def promote(stack: Stack) -> None:
    """Make production timeline 2, as a failover does, with its history archived."""
    stack.primary.stop()
    (stack.home / "primary" / "standby.signal").touch()
    stack.primary.launch()
    stack.primary.wait_until(
        lambda: stack.primary.status() in ("standby", "ready"), "is a standby", 30
    )
    with stack.connect() as connection:
        connection.execute("SELECT pg_promote()")
        row = connection.execute(
            "SELECT pg_switch_wal()::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
        ).fetchone()
        assert row
        assert row[1] == "00000002"
        wait_archived(
            connection, stack.access.repository, Segment.holding(parse_lsn(row[0]) - 1, 2), 60
        )
