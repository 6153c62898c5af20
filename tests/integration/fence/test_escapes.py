"""What code inside a fence can do to the host, tried with a shell: every way out is shown open without a fence, and closed in it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pgdrill.errors import CouldNotVerify
from pgdrill.fence.choose import Fence, choose, environment
from pgdrill_demo.stack import binaries

SECRET = "AKIAnotforstrangers"
IPC_PRIVATE, IPC_RMID = 0, 0


@dataclass
class Host:
    """What a stranger would like to get at, all of it this very user's."""

    folder: Path
    process: subprocess.Popen[bytes]
    memory: int  # a System V segment, as another PostgreSQL server has one
    shared: Path  # a POSIX segment
    port: int
    heard: list[str] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "production"

    @property
    def socket(self) -> Path:
        return self.folder / ".s.PGSQL.5432"


@pytest.fixture
def host() -> Iterator[Host]:
    folder = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    folder.chmod(0o755)
    libc = ctypes.CDLL(None, use_errno=True)
    process = subprocess.Popen(["sleep", "300"], env={"SECRET": SECRET})
    memory = libc.shmget(IPC_PRIVATE, 4096, 0o600)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", port))
    local = socket.socket(socket.AF_UNIX)
    abstract = socket.socket(socket.AF_UNIX)
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="PostgreSQL.") as shared:
        found = Host(folder, process, memory, Path(shared.name), port)
        local.bind(str(found.socket))
        abstract.bind(f"\0{folder}")
        for name, one in (("tcp", listening), ("unix", local), ("abstract", abstract)):
            one.listen()
            threading.Thread(target=_accept, args=(one, name, found.heard), daemon=True).start()
        threading.Thread(target=_receive, args=(datagrams, found.heard), daemon=True).start()
        found.file.write_text(SECRET)
        found.shared.write_text(SECRET)
        try:
            yield found
        finally:
            process.kill()
            process.wait()
            libc.shmctl(memory, IPC_RMID, None)
            for one in (listening, datagrams, local, abstract):
                one.close()
            shutil.rmtree(folder)


def _accept(listening: socket.socket, name: str, heard: list[str]) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        heard.append(name)
        connection.close()


def _receive(datagrams: socket.socket, heard: list[str]) -> None:
    while True:
        try:
            datagrams.recv(10)
        except OSError:
            return
        heard.append("udp")


# A script for bash, and how to tell on the host that it worked. {python} runs where it can be seen.
WAYS: dict[str, tuple[str, Callable[[Host], bool]]] = {
    "writes a file": ("echo mine >> {file}", lambda host: host.file.read_text() != SECRET),
    "empties a file": ("truncate -s 0 {file}", lambda host: host.file.stat().st_size == 0),
    "removes a file": ("rm -f {file}", lambda host: not host.file.exists()),
    "makes a file": ("echo mine > {folder}/new", lambda host: (host.folder / "new").exists()),
    "makes a link to a file": ("ln {file} {folder}/link", lambda host: (host.folder / "link").exists()),
    "changes a file's mode": ("chmod 0777 {file}", lambda host: host.file.stat().st_mode & 0o777 == 0o777),
    "reads a key": ("cat {file}", lambda host: False),
    "reads another process's environment": ("cat /proc/{pid}/environ", lambda host: False),
    "reads shared memory": ("cat {shared}", lambda host: False),
    "writes shared memory": ("echo mine > {shared}", lambda host: host.shared.read_text() != SECRET),
    "removes System V shared memory": ("ipcrm -m {memory}", lambda host: not _is_there(host.memory)),
    "ends another process": ("kill -9 {pid}", lambda host: host.process.poll() is not None),
    "connects by TCP": ("echo x > /dev/tcp/127.0.0.1/{port}", lambda host: "tcp" in host.heard),
    "sends a datagram": ("echo x > /dev/udp/127.0.0.1/{port}", lambda host: "udp" in host.heard),
    "connects to a Unix socket": (
        "perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un(q({socket}))) or die $!'",
        lambda host: "unix" in host.heard),
    "connects to an abstract socket": (
        "perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un(qq(\\0{folder}))) or die $!'",
        lambda host: "abstract" in host.heard),
    "makes namespaces of its own": ("unshare --user --map-root-user echo worked", lambda host: False),
}  # fmt: skip
PRINTED = (SECRET, "worked")


def _is_there(memory: int) -> bool:
    return any(line.split()[1] == str(memory) for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:])


def tried(way: str, words: tuple[str, ...], host: Host) -> bool:
    """Whether it worked."""
    script, told = WAYS[way]
    script = script.format(file=host.file, folder=host.folder, pid=host.process.pid, shared=host.shared, memory=host.memory,
                           port=host.port, socket=host.socket)  # fmt: skip
    done = subprocess.run([*words, "/bin/bash", "-c", script], capture_output=True, text=True, timeout=20, check=False,
                          env=environment(), cwd="/")  # fmt: skip
    worked = told(host) or any(word in done.stdout for word in PRINTED)
    return worked or (done.returncode == 0 and way.startswith(("connects", "sends")) and _soon(lambda: told(host)))


def _soon(told: Callable[[], bool]) -> bool:
    waited = threading.Event()
    return any(told() or waited.wait(0.05) for _ in range(40))


@pytest.fixture(params=["namespaces", "landlock"])
def fence(request: pytest.FixtureRequest) -> Iterator[Fence]:
    folder = Path(tempfile.mkdtemp(prefix="pgdrill-", dir="/tmp"))  # where root's other user gets to without new mounts
    folder.chmod(0o755)
    (folder / "cluster").mkdir()
    (folder / "root").mkdir()
    try:
        yield choose(request.param, programs=binaries().folder, writable=[folder / "cluster"], readable=[], root=folder / "root")
    except CouldNotVerify as error:
        pytest.skip(f"no such fence here: {error.problem.found}")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("way", WAYS)
def test_without_a_fence_it_works(way: str, host: Host) -> None:
    if "perl" in WAYS[way][0] and not shutil.which("perl"):
        pytest.skip("no perl here")
    assert tried(way, (), host)


@pytest.mark.parametrize("way", WAYS)
def test_in_a_fence_it_does_not(way: str, fence: Fence, host: Host) -> None:
    assert not tried(way, fence.words(), host)


def test_a_fenced_program_writes_its_own_folder_and_sees_no_variable_of_ours(fence: Fence, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fence.spec is not None
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    place = fence.spec.writable[0]
    script = f"echo mine > {place}/own && mkdir {place}/f && mv {place}/own {place}/f/ && env"
    done = subprocess.run([*fence.words(), "/bin/sh", "-c", script], capture_output=True, text=True, check=False, env=environment(), cwd="/")
    assert done.returncode == 0, done.stderr
    assert (Path(place) / "f" / "own").read_text() == "mine\n"
    assert SECRET not in done.stdout


def test_root_becomes_a_user_that_owns_nothing_else(fence: Fence) -> None:
    assert fence.spec is not None
    done = subprocess.run([*fence.words(), "/usr/bin/id", "-u"], capture_output=True, text=True, check=False, env=environment(), cwd="/")
    assert int(done.stdout) == (os.getuid() or fence.uid)
    assert int(done.stdout) != 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_fenced_program_ends_with_the_process_that_made_its_fence(fence: Fence, how: signal.Signals) -> None:
    assert fence.spec is not None
    if fence.spec.kind == "landlock":
        pytest.skip("no process more than the program itself")
    made = Path(fence.spec.writable[0]) / "made"
    process = subprocess.Popen([*fence.words(), "/bin/sh", "-c", f"trap 'exit 3' TERM; echo > {made}; sleep 300 & wait"], env=environment(), cwd="/",
                               stdout=subprocess.PIPE)  # fmt: skip
    assert _soon(made.exists)
    process.send_signal(how)
    assert process.stdout is not None
    process.stdout.read()  # ends with the last process that holds it
    assert process.wait(10) == (3 if how == signal.SIGTERM else -signal.SIGKILL)


def test_no_fence_is_had_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    try:
        monkeypatch.setattr(sys, "executable", "/bin/false")  # nothing that could make one
        with pytest.raises(CouldNotVerify) as raised:
            choose("auto", programs=binaries().folder, writable=[folder], readable=[], root=folder)
        assert raised.value.problem.reason == "no-fence"
        assert "namespaces: " in raised.value.problem.found
        assert "landlock: " in raised.value.problem.found
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["writes", "mounts"])
def test_a_tool_that_unpacks_can_write_the_drills_folder_alone(kind: str, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgdrill.fence import choose as choosing

    monkeypatch.setattr(choosing.landlock, "version", lambda: 7 if kind == "writes" else 0)
    own = host.folder / "own"
    own.mkdir()
    words = choosing.writing_only("auto", [own])
    done = subprocess.run([*words, "/bin/sh", "-c", f"cat {host.file} && echo x > {own}/x; ln -s {host.file} {own}/l; echo x > {own}/l"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout == SECRET, done.stderr
    assert (own / "x").exists()
    assert host.file.read_text() == SECRET
