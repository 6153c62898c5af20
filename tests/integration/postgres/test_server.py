"""A local server's life: started, waited for, stopped, and ended when nobody is left to end it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pgdrill.errors import CouldNotVerify, TimedOut
from pgdrill.host.owner import FolderLease
from pgdrill.host.process import marked
from pgdrill.postgres.binaries import Binaries, as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill_demo.stack import binaries
from tests.integration.conftest import processes_in


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A folder with a cluster that trusts its socket, in the encoding that takes any byte."""
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    subprocess.run(
        [
            *as_ordinary_user(),
            binaries().path("initdb"),
            "-D",
            home / "data",
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=SQL_ASCII",
            "--locale=C",
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    yield home
    subprocess.run(["rm", "-rf", str(home)], check=True)


@pytest.fixture
def server(cluster: Path) -> Iterator[LocalServer]:
    made = LocalServer(
        binaries(),
        cluster / "data",
        cluster / "s",
        cluster / "log",
        options={"listen_addresses": "", "fsync": "off"},
    )
    yield made
    made.stop()
    (cluster / "log").unlink(missing_ok=True)
    assert not processes_in(cluster)


def test_a_server_is_ready_when_start_returns(server: LocalServer) -> None:
    assert (server.status(), server.process()) == ("", None)
    server.start()
    assert server.status() == "ready"
    with server.connect() as connection:
        # Text, not bytes, whatever the database's encoding.
        assert connection.execute("SELECT current_setting('listen_addresses')").fetchone() == ("",)
    assert server.socket_directory.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert server.process() is None
    server.stop()  # again is fine


def test_a_server_that_cannot_start_is_told_by_its_log(server: LocalServer) -> None:
    server.options["shared_buffers"] = "much"  # type: ignore[index]
    started = time.monotonic()
    try:
        with pytest.raises(CouldNotVerify) as caught:
            server.start()
    finally:
        del server.options["shared_buffers"]  # type: ignore[attr-defined]
    assert time.monotonic() - started < 5
    problem = caught.value.problem
    assert problem.reason == "server-ended"
    assert "shared_buffers" in problem.found


def test_waiting_ends_when_the_time_is_up(server: LocalServer) -> None:
    server.start()
    with pytest.raises(TimedOut) as caught:
        server.wait_until(lambda: False, "does the impossible", 0.5)
    assert "does the impossible" in caught.value.problem.expected


def test_waiting_ends_when_the_server_does(server: LocalServer) -> None:
    server.start()
    process = server.process()
    assert process
    process.send_signal(signal.SIGQUIT)
    with pytest.raises(CouldNotVerify) as caught:
        server.wait_until(lambda: False, "goes on", 30)
    assert caught.value.problem.reason == "server-ended"


def test_a_killed_server_leaves_a_pid_file_that_fools_nobody(server: LocalServer) -> None:
    server.start()
    process = server.process()
    assert process
    family = [process, *process.children(recursive=True)]
    process.kill()
    psutil.wait_procs(family, timeout=10)
    assert (server.data_directory / "postmaster.pid").exists()
    assert server.process() is None
    lines = (server.data_directory / "postmaster.pid").read_text().splitlines()
    (server.data_directory / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]))
    assert server.process() is None  # the number is now this very test's
    assert server.status() == ""
    server.stop()  # and so nobody is ended
    (server.data_directory / "postmaster.pid").unlink()
    server.start()


@pytest.mark.parametrize("text", ["", "x", "-1", "999999999", "\n\n"])
def test_a_broken_pid_file_is_no_server(server: LocalServer, text: str) -> None:
    file = server.data_directory / "postmaster.pid"
    file.write_text(text)
    try:
        assert (server.status(), server.process()) == ("", None)
        server.stop()
    finally:
        file.unlink()


def test_stopping_does_not_wait_for_clients(server: LocalServer) -> None:
    server.start()
    with contextlib.closing(server.connect()) as connection:
        connection.execute("BEGIN; SELECT 1")
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 10


def test_a_server_whose_time_is_over_ends_by_itself(
    cluster: Path, server: LocalServer, tmp_path: Path
) -> None:
    lease, mark = tmp_path / "lease.json", tmp_path / "server.pid"
    FolderLease("some", None, time.time() + 2, "kept").write(str(lease))
    short_lived = replace(server, lease_file=lease, pid_file=mark)
    short_lived.start()
    assert marked(mark) == server.process()
    until = time.monotonic() + 15
    while server.process() is not None or marked(tmp_path / "keeper.pid") is not None:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert "its time (kept) is over" in server.log_file.read_text()


def test_control_data_is_read_running_or_not(cluster: Path, server: LocalServer) -> None:
    control = binaries().control_data(cluster / "data")
    assert control.system_identifier > 2**53
    assert control.wal_segment_bytes == 16 * 2**20
    assert control.limits["max_connections"] == 100
    assert set(control.limits) == {
        "max_connections",
        "max_worker_processes",
        "max_wal_senders",
        "max_prepared_transactions",
        "max_locks_per_transaction",
    }


def test_programs_that_fail_or_lack_are_named(cluster: Path, tmp_path: Path) -> None:
    with pytest.raises(CouldNotVerify) as caught:
        binaries().control_data(tmp_path)
    assert caught.value.problem.reason == "postgres-program"
    assert "pg_control" in caught.value.problem.found
    with pytest.raises(CouldNotVerify) as caught:
        Binaries(tmp_path).path("postgres")
    assert caught.value.problem.reason == "binaries"
