"""What code inside a fence can do to the host, tried with a shell: every way out is shown open
without a fence, and closed in it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from pgdrill.errors import CouldNotVerify
from pgdrill.host.fence.choose import SEEN, SYSTEM, Fence, choose, environment, fenced
from pgdrill.host.fence.spec import Spec
from pgdrill.host.process import mark_process
from pgdrill.postgres.binaries import as_ordinary_user
from pgdrill.postgres.server import LocalServer
from pgdrill_demo.stack import binaries

EXIT_CODE = 125  # of a fence that could not be made
SECRET = "AKIAnotforstrangers"
IPC_PRIVATE, IPC_RMID = 0, 0
ANOTHER_USER = 54321  # nobody's, as root: an ordinary user whose server runs beside his own files
# Makes what is kept by number, prints the numbers, and waits to be told to take it away.
KEPT_BY_NUMBER = """
import ctypes, sys
libc = ctypes.CDLL(None)
memory, semaphores, queue = libc.shmget(0, 4096, 0o600), libc.semget(0, 1, 0o600), \
    libc.msgget(0, 0o600)
libc.mq_open(sys.argv[1].encode(), 0o102, 0o600, None)
print(memory, semaphores, queue, flush=True)
sys.stdin.read()
libc.shmctl(memory, 0, None), libc.semctl(semaphores, 0, 0), libc.msgctl(queue, 0, None), \
    libc.mq_unlink(sys.argv[1].encode())
"""
PRIORITY = 5  # the victim's, by nice


@dataclass
class Host:
    """What a stranger would like to get at, all of it one user's: this very one (``uid`` None), or
    as root another.
    """

    folder: Path
    uid: int | None
    process: subprocess.Popen[bytes]
    memory: int  # a System V segment, as another PostgreSQL server has one
    semaphores: int
    queue: int
    shared: Path  # a POSIX segment
    port: int
    heard: list[str] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "production"

    @property
    def socket(self) -> Path:
        return self.folder / ".s.PGSQL.5432"

    @property
    def mq(self) -> str:
        return f"/{self.folder.name}"

    @property
    def victim(self) -> psutil.Process:
        return psutil.Process(self.process.pid)


def as_user(uid: int | None) -> dict[str, Any]:
    """How a program is started as that user."""
    return {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}


@pytest.fixture
def host() -> Iterator[Host]:
    yield from make_host(None)


def make_host(uid: int | None) -> Iterator[Host]:
    folder = Path(tempfile.mkdtemp(prefix="pgdrill-", dir="/tmp"))
    folder.chmod(0o755)
    process = subprocess.Popen(
        ["nice", "-n", str(PRIORITY), "sleep", "300"],
        env={"SECRET": SECRET, "PATH": os.defpath},
        **as_user(uid),
    )
    keeper = subprocess.Popen(
        [python_for(uid), "-c", KEPT_BY_NUMBER, f"/{folder.name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        **as_user(uid),
    )
    assert keeper.stdout is not None
    memory, semaphores, queue = map(int, keeper.stdout.readline().split())
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", port))
    local = socket.socket(socket.AF_UNIX)
    abstract = socket.socket(socket.AF_UNIX)
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="PostgreSQL.") as shared:
        found = Host(folder, uid, process, memory, semaphores, queue, Path(shared.name), port)
        local.bind(str(found.socket))
        abstract.bind(f"\0{folder}")
        for name, one in (("tcp", listening), ("unix", local), ("abstract", abstract)):
            one.listen()
            threading.Thread(target=_accept, args=(one, name, found.heard), daemon=True).start()
        threading.Thread(target=_receive, args=(datagrams, found.heard), daemon=True).start()
        found.file.write_text(SECRET)
        found.file.chmod(0o600)
        found.shared.write_text(SECRET)
        for path in (folder, found.file, found.shared, found.socket) if uid is not None else ():
            os.chown(path, uid or 0, uid or 0)
        try:
            yield found
        finally:
            process.kill()
            process.wait()
            keeper.communicate()
            for one in (listening, datagrams, local, abstract):
                one.close()
            shutil.rmtree(folder)


def python_for(uid: int | None) -> str:
    """A Python that such a user can start: a virtual environment may lie in another's home."""
    return sys.executable if uid is None else "/usr/bin/python3"


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
    "makes a link to a file": (
        "ln {file} {folder}/link",
        lambda host: (host.folder / "link").exists(),
    ),
    "changes a file's mode": (
        "chmod 0777 {file}",
        lambda host: host.file.stat().st_mode & 0o777 == 0o777,
    ),
    "changes a file's time": (
        "touch -d 2001-01-01 {file}",
        lambda host: host.file.stat().st_mtime < 1e9,
    ),
    "gives a file an attribute": (
        '{python} -c \'import os; os.setxattr("{file}", "user.x", b"mine")\'',
        lambda host: os.listxattr(host.file) != [],
    ),
    "limits another process": (
        "prlimit --pid {pid} --nofile=7:7",
        lambda host: "open files 7 7" in _limits(host),
    ),
    "slows another process down": ("renice -n 19 -p {pid}", lambda host: host.victim.nice() == 19),
    "ties another process to a core": (
        "taskset -p 1 {pid}",
        lambda host: _cores() > 1 and host.victim.cpu_affinity() == [0],
    ),
    "takes another process its disk": (
        "ionice -c 3 -p {pid}",
        lambda host: int(host.victim.ionice().ioclass) == 3,
    ),
    "removes System V semaphores": (
        "ipcrm -s {semaphores}",
        lambda host: not _is_there(host.semaphores, "sem"),
    ),
    "removes a System V queue": ("ipcrm -q {queue}", lambda host: not _is_there(host.queue, "msg")),
    "removes a POSIX queue": (
        "{python} -c 'import ctypes; ctypes.CDLL(None).mq_unlink(b\"{mq}\") and exit(1)'; echo $?",
        lambda host: not _has_queue(host),
    ),
    "reads a key": ("cat {file}", lambda host: False),
    "reads another process's environment": ("cat /proc/{pid}/environ", lambda host: False),
    "reads shared memory": ("cat {shared}", lambda host: False),
    "writes shared memory": (
        "echo mine > {shared}",
        lambda host: host.shared.read_text() != SECRET,
    ),
    "removes System V shared memory": (
        "ipcrm -m {memory}",
        lambda host: not _is_there(host.memory, "shm"),
    ),
    "ends another process": (
        "kill -9 {pid}",
        lambda host: _soon(lambda: host.process.poll() is not None),
    ),
    "connects by TCP": ("echo x > /dev/tcp/127.0.0.1/{port}", lambda host: "tcp" in host.heard),
    "sends a datagram": ("echo x > /dev/udp/127.0.0.1/{port}", lambda host: "udp" in host.heard),
    "connects to a Unix socket": (
        (
            "perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S,"
            " sockaddr_un(q({socket}))) or die $!'"
        ),
        lambda host: "unix" in host.heard,
    ),
    "connects to an abstract socket": (
        (
            "perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S,"
            " sockaddr_un(qq(\\0{folder}))) or die $!'"
        ),
        lambda host: "abstract" in host.heard,
    ),
    "makes namespaces of its own": (
        "unshare --user --map-root-user echo worked",
        lambda host: False,
    ),
}
PRINTED = (SECRET, "worked")


def _is_there(number: int, kind: str) -> bool:
    return any(
        line.split()[1] == str(number)
        for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
    )


def _has_queue(host: Host) -> bool:
    """O_RDONLY, as whoever this is."""
    return bool(ctypes.CDLL(None).mq_open(host.mq.encode(), 0) != -1)


def _limits(host: Host) -> str:
    return " ".join(
        Path(f"/proc/{host.process.pid}/limits").read_text().replace("Max ", "").split()
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def tried(way: str, words: tuple[str, ...], host: Host) -> bool:
    """Whether it worked."""
    script, told = WAYS[way]
    script = script.format(
        file=host.file,
        folder=host.folder,
        pid=host.process.pid,
        shared=host.shared,
        memory=host.memory,
        python="/usr/bin/python3",
        port=host.port,
        socket=host.socket,
        semaphores=host.semaphores,
        queue=host.queue,
        mq=host.mq,
    )
    done = subprocess.run(
        [*words, "/bin/bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env=environment(),
        cwd="/",
        **as_user(host.uid),
    )
    worked = told(host) or any(word in done.stdout for word in PRINTED)
    return worked or (
        done.returncode == 0 and way.startswith(("connects", "sends")) and _soon(lambda: told(host))
    )


def _soon(told: Callable[[], bool]) -> bool:
    waited = threading.Event()
    return any(told() or waited.wait(0.05) for _ in range(40))


@pytest.fixture(params=["namespaces", "landlock"])
def fence(request: pytest.FixtureRequest) -> Iterator[Fence]:
    # where root's other user gets to without new mounts
    folder = Path(tempfile.mkdtemp(prefix="pgdrill-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "cluster").mkdir()
    (folder / "root").mkdir()
    try:
        yield choose(
            request.param,
            programs=binaries().folder,
            writable=[folder / "cluster"],
            readable=[],
            root=folder / "root",
        )
    except CouldNotVerify as error:
        pytest.skip(f"no such fence here: {error.problem.found}")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("way", WAYS)
def test_without_a_fence_it_works(way: str, host: Host) -> None:
    _needs(way)
    assert tried(way, (), host)


def _needs(way: str) -> None:
    script = WAYS[way][0]
    for word in ("perl", "prlimit", "renice", "taskset", "ionice", "ipcrm"):
        if script.startswith(word) and not shutil.which(word):
            pytest.skip(f"no {word} here")
    if "{python}" in script and not Path("/usr/bin/python3").exists():
        pytest.skip("no python3 of the system's here")
    if "taskset" in script and _cores() == 1:
        pytest.skip("one core")


@pytest.mark.parametrize("way", WAYS)
def test_in_a_fence_it_does_not(way: str, fence: Fence, host: Host) -> None:
    _needs(way)
    assert not tried(way, fence.words(), host)


@pytest.fixture
def ordinary() -> Iterator[Host]:
    if os.getuid():
        pytest.skip("this is an ordinary user already: the other tests show it")
    if not Path(python_for(ANOTHER_USER)).exists():
        pytest.skip("no python3 of the system's here")
    yield from make_host(ANOTHER_USER)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["namespaces", "landlock"])
def test_nor_in_the_fence_of_an_ordinary_user_around_what_is_his_as_well(
    kind: str, way: str, ordinary: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's fence changes the user, which closes much by itself."""
    if kind == "landlock" and way == "removes System V shared memory":
        pytest.skip("such a user's drill takes no Landlock: see the next test")
    monkeypatch.setattr(sys, "executable", python_for(ANOTHER_USER))
    own, root = ordinary.folder / "cluster", ordinary.folder / "root"
    for folder in (own, root):
        folder.mkdir()
        os.chown(folder, ANOTHER_USER, ANOTHER_USER)
    spec = (
        Spec(kind, (str(own),), SYSTEM, str(root))
        if kind == "namespaces"
        else Spec(kind, (str(own), "/dev/null"), (*SYSTEM, *SEEN), str(root))
    )
    started = subprocess.run(
        [*fenced(spec), "/bin/bash", "-c", f"echo > {own}/x"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        cwd="/",
        **as_user(ANOTHER_USER),
    )
    if started.returncode == EXIT_CODE:
        pytest.skip(f"no such fence here: {started.stderr}")
    assert started.returncode == 0, started.stderr
    assert not tried(way, fenced(spec), ordinary)


def test_an_ordinary_user_with_shared_memory_of_another_server_takes_no_landlock(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CouldNotVerify, match="System V shared memory"):
        choose(
            "landlock",
            programs=binaries().folder,
            writable=[host.folder],
            readable=[],
            root=host.folder,
        )


def test_a_fenced_program_writes_its_own_folder_and_sees_no_variable_of_ours(
    fence: Fence, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fence.spec is not None
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    place = fence.spec.writable[0]
    script = f"echo mine > {place}/own && mkdir {place}/f && mv {place}/own {place}/f/ && env"
    done = subprocess.run(
        [*fence.words(), "/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    assert (Path(place) / "f" / "own").read_text() == "mine\n"
    assert SECRET not in done.stdout


def test_postgresql_starts_works_and_ends_in_it(fence: Fence) -> None:
    assert fence.spec is not None
    place, programs = Path(fence.spec.writable[0]), binaries()
    words = [
        *as_ordinary_user(),
        programs.path("initdb"),
        "-D",
        str(place.with_name("made")),
        "-U",
        "postgres",
        "--no-sync",
    ]
    subprocess.run(words, capture_output=True, check=True)
    place.with_name("made").rename(place / "data")
    fence.give(place)
    server = LocalServer(
        programs,
        place / "data",
        place,
        place.with_name("log"),
        fence=fence,
        bare=True,
        environment=environment(programs.folder),
        options={
            "listen_addresses": "",
            "dynamic_shared_memory_type": "mmap",
            "unix_socket_permissions": "0700",
        },
        pid_file=place.with_name("pid"),
    )
    launched = server.launch()
    mark_process(place.with_name("pid"), launched.pid)
    try:
        server.wait_until(lambda: server.status() == "ready", "accepts connections", 60, launched)
        assert stat.S_IMODE((place / ".s.PGSQL.5432").stat().st_mode) == 0o700
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE t AS SELECT i FROM generate_series(1, 100000) i; CREATE INDEX ON t"
                " (i); CHECKPOINT"
            )
            connection.execute("SET debug_parallel_query = on; SELECT count(*) FROM t")
    finally:
        server.stop()
        launched.wait()
    assert "database system is shut down" in server.log_file.read_text()


def test_root_becomes_a_user_that_owns_nothing_else(fence: Fence) -> None:
    assert fence.spec is not None
    done = subprocess.run(
        [*fence.words(), "/usr/bin/id", "-u"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        cwd="/",
    )
    assert int(done.stdout) == (os.getuid() or fence.uid)
    assert int(done.stdout) != 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_fenced_program_ends_with_the_process_that_made_its_fence(
    fence: Fence, how: signal.Signals
) -> None:
    assert fence.spec is not None
    if fence.spec.kind == "landlock":
        pytest.skip("no process more than the program itself")
    made = Path(fence.spec.writable[0]) / "made"
    process = subprocess.Popen(
        [*fence.words(), "/bin/sh", "-c", f"trap 'exit 3' TERM; echo > {made}; sleep 300 & wait"],
        env=environment(),
        cwd="/",
        stdout=subprocess.PIPE,
    )
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
def test_a_tool_that_unpacks_can_write_the_drills_folder_alone(
    kind: str, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgdrill.host.fence import choose as choosing

    monkeypatch.setattr(choosing.landlock, "version", lambda: 7 if kind == "writes" else 0)
    own = host.folder / "own"
    own.mkdir()
    words = choosing.writing_only("auto", [own])
    done = subprocess.run(
        [
            *words,
            "/bin/sh",
            "-c",
            f"cat {host.file} && echo x > {own}/x; ln -s {host.file} {own}/l; echo x > {own}/l",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == SECRET, done.stderr
    assert (own / "x").exists()
    assert host.file.read_text() == SECRET
