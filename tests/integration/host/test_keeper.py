"""The keeper of a restored server: real processes, real signals."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from pgdrill.host.fence.spec import Spec
from pgdrill.host.kept_server import KEEPER
from pgdrill.host.owner import FolderLease, Owner
from pgdrill.host.process import marked
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill_demo.stack import binaries

OPTIONS = {"fsync": "off", "listen_addresses": ""}
STUBBORN = (
    "import signal, time\nfor one in (2, 3, 15): signal.signal(one, signal.SIG_IGN)\nprint('up',"
    " flush=True)\nwhile True: time.sleep(9)"
)
TELLING = (
    "import signal, sys, time\nsignal.signal(signal.SIG{0}, lambda *_: sys.exit(7))\nprint('up',"
    " flush=True)\nwhile True: time.sleep(9)"
)


@dataclass
class Kept:
    """A keeper at work, on a program of a test's own."""

    folder: Path
    process: subprocess.Popen[str]

    @property
    def child(self) -> psutil.Process:
        found = marked(self.folder / "server.pid")
        assert found
        return found

    def ended_within(self, seconds: float) -> int:
        return self.process.wait(seconds)


def lease(folder: Path, owner: Owner | None, seconds: float, why: str = "restore") -> None:
    FolderLease("d1", owner, time.time() + seconds, why).write(str(folder / "lease.json"))


def keeping(folder: Path, *words: str) -> list[str]:
    """A keeper's command line, for a program and its own words."""
    places = str(folder / "lease.json"), str(folder / "server.pid")
    return [sys.executable, "-I", "-S", str(KEEPER), *places, "--", *words]


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    """Start a keeper; it is up when its child has said so."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *, owner: Owner | None = None, seconds: float = 60) -> Kept:
        lease(tmp_path, owner, seconds)
        process = subprocess.Popen(
            keeping(tmp_path, sys.executable, "-c", code),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        until((tmp_path / "server.pid").exists)
        return Kept(tmp_path, process)

    yield start
    for process in started:
        if child := marked(tmp_path / "server.pid"):
            child.kill()
        process.kill()
        process.communicate()


def until(reached: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_server_whose_owner_has_died_is_ended(keep: Callable[..., Kept]) -> None:
    with subprocess.Popen(["sleep", "60"]) as owner:
        kept = keep(TELLING.format("QUIT"), owner=Owner.of(owner.pid))
        with pytest.raises(subprocess.TimeoutExpired):
            kept.ended_within(6)  # it has looked once, and the owner lives
        owner.kill()
    assert kept.ended_within(10) == 7  # an immediate shutdown, and its own exit code
    assert kept.process.stderr
    assert "has ended" in kept.process.stderr.read()


def test_a_server_is_handed_on_from_owner_to_nobody_to_owner(keep: Callable[..., Kept]) -> None:
    with subprocess.Popen(["sleep", "60"]) as owner:
        kept = keep(TELLING.format("QUIT"), owner=Owner.of(owner.pid))
        lease(kept.folder, None, 60, "handover")
        owner.kill()
    with pytest.raises(subprocess.TimeoutExpired):
        kept.ended_within(6)
    lease(kept.folder, Owner.of(os.getpid()), 60, "check")
    with pytest.raises(subprocess.TimeoutExpired):
        kept.ended_within(6)
    lease(kept.folder, None, -1, "handover")
    assert kept.ended_within(10) == 7


def test_a_server_whose_folder_has_gone_is_ended_even_if_it_would_not(
    keep: Callable[..., Kept],
) -> None:
    kept = keep(STUBBORN)
    child = kept.child.pid
    (kept.folder / "lease.json").unlink()
    assert kept.ended_within(20) == 128 + signal.SIGKILL
    assert gone(child)


def test_whatever_a_server_started_ends_with_it(keep: Callable[..., Kept]) -> None:
    # A session of its own and a parent that is gone, as PostgreSQL's backends have when their
    # postmaster is killed.
    kept = keep(
        f"import os, subprocess, time\norphan = subprocess.Popen([{sys.executable!r}, '-c',"
        f" {STUBBORN!r}], start_new_session=True,"
        " stdout=subprocess.PIPE)\norphan.stdout.readline(); open('/proc/self/comm',"
        " 'w').write(str(orphan.pid)); print('up', flush=True); time.sleep(60)"
    )
    child = kept.child
    until(lambda: bool(child.children()))
    orphan = child.children()[0].pid
    child.kill()
    assert kept.ended_within(10) == 128 + signal.SIGKILL
    assert gone(orphan)


def test_a_killed_keeper_takes_its_server_along(keep: Callable[..., Kept]) -> None:
    kept = keep(TELLING.format("QUIT"))
    child = kept.child.pid
    kept.process.kill()
    until(lambda: gone(child))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_killed_keeper_takes_a_server_of_another_user_along(tmp_path: Path) -> None:
    lease(tmp_path, None, 60)
    words = (
        sys.executable,
        "-I",
        "-S",
        str(KEEPER.parent / "fence"),
        Spec("none", (), uid=61234).to_json(),
        "sleep",
        "60",
    )
    process = subprocess.Popen(keeping(tmp_path, *words))
    try:
        until((tmp_path / "server.pid").exists)
        child = marked(tmp_path / "server.pid")
        assert child
        until(lambda: child.uids().real == 61234 and child.name() == "sleep")
        process.kill()
        process.wait()
        until(lambda: gone(child.pid))
    finally:
        process.kill()


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_signals_are_handed_on_and_the_exit_code_passed(
    keep: Callable[..., Kept], name: str
) -> None:
    kept = keep(TELLING.format(name))
    kept.process.send_signal(getattr(signal, f"SIG{name}"))
    assert kept.ended_within(10) == 7


def test_a_server_that_cannot_be_started_is_told(keep: Callable[..., Kept], tmp_path: Path) -> None:
    lease(tmp_path, None, 60)
    done = subprocess.run(
        keeping(tmp_path, "/no/such"), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        125,
        "pgdrill: cannot start /no/such: [Errno 2] No such file or directory\n",
    )


def test_a_keeper_is_small(keep: Callable[..., Kept]) -> None:
    memory = psutil.Process(keep(STUBBORN).process.pid).memory_full_info()
    assert memory.uss < 6 * 2**20
    assert memory.rss < 14 * 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
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
            "--locale=C",
        ],
        check=True,
        capture_output=True,
    )
    yield home
    subprocess.run(["rm", "-rf", str(home)], check=True)


@pytest.fixture
def unlimited() -> Iterator[None]:
    """As after ``ulimit -c unlimited``, which many hosts have."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    filtered = Path("/proc/self/coredump_filter").read_text()
    if before[1] != resource.RLIM_INFINITY:
        pytest.skip("core files are forbidden here")
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Path("/proc/self/coredump_filter").write_text("0x33")
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)
    Path("/proc/self/coredump_filter").write_text(f"0x{filtered.strip()}")


@pytest.mark.parametrize("with_lease", [False, True], ids=["production's", "restored"])
def test_a_restored_server_that_crashes_leaves_no_core_file(
    cluster: Path, unlimited: None, with_lease: bool
) -> None:
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/")):
        pytest.skip("core files go elsewhere here")
    server = LocalServer(
        binaries(), cluster / "data", cluster / "s", cluster / "log", options=OPTIONS
    )
    if with_lease:
        lease(cluster, Owner.of(os.getpid()), 60)
        server = replace(server, lease_file=cluster / "lease.json", pid_file=cluster / "server.pid")
    for core in (cluster / "data").glob("core*"):
        core.unlink()
    server.start()
    try:
        with contextlib.closing(server.connect()) as connection:
            os.kill(connection.info.backend_pid, signal.SIGSEGV)
            until(lambda: "was terminated by signal 11" in server.log_file.read_text())
        until(lambda: server.status() == "ready")
    finally:
        server.stop()
    # the other one shows that this would be seen
    assert bool(list((cluster / "data").glob("core*"))) != with_lease


def test_a_stuck_backend_does_not_outlive_its_lease(cluster: Path) -> None:
    lease(cluster, None, 2, "handover")
    server = LocalServer(
        binaries(),
        cluster / "data",
        cluster / "s",
        cluster / "log",
        options=OPTIONS,
        lease_file=cluster / "lease.json",
        pid_file=cluster / "server.pid",
    )
    server.start()
    with contextlib.closing(server.connect()) as connection:
        backend = connection.info.backend_pid
        # one that answers no signal, as an endless loop in a damaged index does
        os.kill(backend, signal.SIGSTOP)
        until(lambda: gone(backend) and marked(cluster / "server.pid") is None, 30)
