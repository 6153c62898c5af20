"""Real servers, real tools, a real S3 store: one stack a tool for the whole session."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.drill import drill, new_drill_id
from pgdrill.postgres.wal import Segment, format_lsn, parse_lsn
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import Report, Trouble
from pgdrill.repository.archiver import wait_archived
from pgdrill.repository.tools import BaseBackup
from pgdrill_demo.s3 import S3Server
from pgdrill_demo.stack import Stack, preferred_tool
from tests.conftest import TOOLS, need


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack with the tool a user here would get; shared, so leave it as it was."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
    try:
        stack.create(scale=0.1)
        stack.start()
        yield stack
    finally:
        stack.remove()


@pytest.fixture
def empty_database(stack: Stack) -> Iterator[str]:
    """A superuser's connection string to a new, empty database."""
    with stack.connect("postgres") as connection:
        connection.execute("CREATE DATABASE scratch")
    try:
        yield stack.conninfo(database="scratch")
    finally:
        with stack.connect("postgres") as connection:
            connection.execute("DROP DATABASE scratch WITH (FORCE)")


@pytest.fixture
def copied_repository(stack: Stack) -> Iterator[Path]:
    """The stack's repository folder, put back as it was afterwards."""
    folder = stack.s3.folder / stack.s3.bucket
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    yield folder
    shutil.rmtree(folder)
    kept.rename(folder)


# --- The fault tests: copies of a small repository, each broken in its own way ---


@dataclass(frozen=True)
class Mark:
    """A restore point in a WAL segment of its own, and what the cluster held there."""

    name: str
    lsn: int
    segment: Segment
    at: datetime
    rows: int


@dataclass(frozen=True)
class Golden:
    """A small stack with one good base backup and four marks behind it, as it was then."""

    stack: Stack
    backup: BaseBackup
    marks: tuple[Mark, ...]
    folder: Path
    store: S3Server  # where copies of ``folder`` are served from


CANARY = "CREATE TABLE canary (n int PRIMARY KEY, t text DEFAULT repeat('canary', 20))"


def rows_of(stack: Stack) -> int:
    """Production's rows, as the fault tests count them."""
    with stack.connect() as connection:
        return int(connection.execute("SELECT count(*) FROM canary").fetchone()[0])


def leave_marks(stack: Stack, count: int = 4) -> tuple[Mark, ...]:
    """Rows, a restore point and a WAL switch, some times; archived when it returns."""
    marks = []
    with stack.connect() as connection:
        for number in range(1, count + 1):
            connection.execute(
                "INSERT INTO canary SELECT coalesce(max(n), 0) + i FROM canary, generate_series(1,"
                " 100) i GROUP BY i"
            )
            name = f"mark{number}"
            lsn, line, at = connection.execute(
                "SELECT pg_create_restore_point(%s)::text,"
                " substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), clock_timestamp()",
                (name,),
            ).fetchone()
            marks.append(
                Mark(
                    name,
                    parse_lsn(lsn),
                    Segment.holding(parse_lsn(lsn) - 1, int(line, 16)),
                    at,
                    rows_of(stack),
                )
            )
            connection.execute("SELECT pg_switch_wal()")
        wait_archived(connection, stack.access.repository, marks[-1].segment, 60)
    return tuple(marks)


@pytest.fixture(scope="session", params=TOOLS)
def golden(request: pytest.FixtureRequest) -> Iterator[Golden]:
    """One for each tool that is installed."""
    stack = Stack(tool=need(request.param), home=Path(tempfile.mkdtemp(prefix="pgdrill-")))
    store = S3Server(stack.home / "copies" / "s3")
    try:
        stack.create(sample=False)
        stack.start()
        with stack.connect() as connection:
            connection.execute(CANARY)
            connection.execute("INSERT INTO canary SELECT generate_series(1, 1000)")
        take_backup(stack.access)
        marks = leave_marks(stack)
        folder = stack.home / "golden"
        shutil.copytree(stack.s3.folder / stack.s3.bucket / stack.cluster_name, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RCLONE_DIR_CACHE_TIME", "1ms")  # files change behind its back
            store.start()
        yield Golden(stack, stack.access.repository.backups()[0], marks, folder, store)
    finally:
        store.stop()
        stack.remove()


@dataclass
class Copy:
    """A repository of a test's own, and a drill host of its own.

    Production cannot be reached from it.
    """

    golden: Golden
    name: str
    store: S3Server

    @property
    def folder(self) -> Path:
        """The repository's objects as files."""
        return self.store.folder / self.store.bucket / self.name

    @property
    def work(self) -> Path:
        """Where its drills work."""
        return self.golden.stack.home / "work" / self.name

    @property
    def part(self) -> Path:
        """The archive that holds the data directory."""
        return next(
            file
            for file in sorted(self.folder.rglob("*.tar.*"))
            if re.match(r"part_|data", file.name)
        )

    @property
    def record(self) -> Path:
        """What pgdrill recorded of the backup."""
        return self.folder / "pgdrill" / "backups" / f"{self.golden.backup.name}.json"

    @property
    def metadata(self) -> Path:
        """What the tool's listing of backups is made from."""
        return next(
            f
            for f in self.folder.rglob("*")
            if f.name == "backup.info" or f.name.endswith("sentinel.json")
        )

    def segment(self, segment: Segment) -> Path:
        """An archived segment."""
        return next(f for f in self.folder.rglob(f"{segment.name}.*") if ".backup" not in f.name)

    def access(
        self,
        *,
        drill: dict[str, object] | None = None,
        server: dict[str, object] | None = None,
        repository: dict[str, object] | None = None,
        secrets: dict[str, str] | None = None,
    ) -> Access:
        """For drilling it; time limits are small, so that a hang is short."""
        cluster = self.golden.stack.cluster
        limits = {
            "work_directory": self.work,
            "timeout_seconds": 60.0,
            "stall_seconds": 20.0,
            **(drill or {}),
        }
        where = {
            "url": f"s3://{self.store.bucket}/{self.name}",
            "endpoint_url": self.store.endpoint_url,
            **(repository or {}),
        }
        gone = {"dsn": f"host={self.golden.stack.home}/gone", **(server or {})}
        cluster = cluster.model_copy(
            update={
                "drill": cluster.drill.model_copy(update=limits),
                "repository": cluster.repository.model_copy(update=where),
                "server": cluster.server.model_copy(update=gone),
            }
        )
        return Access(cluster, Credentials({}, self.store.environment | (secrets or {})))

    def drill(self, access: Access | None = None, *, target: str = "", **more: Any) -> Report:
        """A drill to the third mark, if not told otherwise, that must leave nothing behind and
        change nothing.
        """
        access = access or self.access()
        before, rows = fingerprint(self.folder), rows_of(self.golden.stack)
        drill_id = more.pop("drill_id", new_drill_id())
        try:
            return drill(
                access,
                target=target or f"lsn:{format_lsn(self.golden.marks[2].lsn)}",
                drill_id=drill_id,
                **more,
            )
        finally:
            assert fingerprint(self.folder) == before, "the repository changed"
            assert rows_of(self.golden.stack) == rows, "production changed"
            nothing_left(access, drill_id)

    def trouble(self, access: Access | None = None, **more: Any) -> tuple[str, Trouble]:
        """A drill that must not succeed: whose fault it was, and the trouble in full."""
        report = self.drill(access, **more)
        trouble = report.restore.trouble
        assert trouble is not None, f"restored: {report.verdict} {report.reason}"
        assert all(trouble.model_dump(exclude={"retryable"}).values()), (
            f"something is not named: {trouble}"
        )
        assert (report.verdict, report.reason) == (
            report.restore.status,
            f"restore: {trouble.reason}",
        )
        return report.verdict, trouble


def once(repository: Copy) -> None:
    """For what no tool has a part in: one of them is enough, and barman-cloud takes seconds for
    every segment.
    """
    if repository.golden.stack.tool != preferred_tool():
        pytest.skip("no business of the tool: seen with the other one")


def fingerprint(folder: Path) -> dict[str, str]:
    """Every object of a repository with a digest of its content; reports and leases, which drills
    leave there, aside.
    """
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not re.search("pgdrill/(reports|leases)", str(file))
    }


def processes_in(folder: Path) -> list[str]:
    """Processes that have anything to do with a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            traces = [*process.cmdline(), *process.environ().values(), process.cwd()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(folder) in trace for trace in traces):
            found.append(f"{process.pid} {' '.join(process.cmdline())}")
    return found


def nothing_left(access: Access, drill_id: str) -> None:
    """No folder, no socket, no process of a drill is left."""
    workspace = Workspace.of(access, drill_id)
    assert not workspace.directory.exists()
    assert not list(workspace.directory.parent.glob("*"))
    assert not workspace.socket_directory.exists()
    assert not processes_in(access.cluster.drill.work_directory)


@pytest.fixture
def repository(golden: Golden) -> Iterator[Copy]:
    """A fresh copy of the golden repository."""
    made = Copy(golden, f"c{next(NUMBERS)}", golden.store)
    shutil.copytree(golden.folder, made.folder)
    yield made
    shutil.rmtree(made.folder, ignore_errors=True)
    shutil.rmtree(made.work, ignore_errors=True)


NUMBERS = itertools.count(1)
TRICKLE_BYTES_PER_SECOND = 200_000
CUT_BYTES = 100_000


class Relay:
    """Stands between a tool and the store, and misbehaves from the first request on whose text
    matches.

    ``hang`` swallows the request, ``reset`` drops the connection, ``trickle`` answers slowly,
    ``cut`` ends the answer early, and a number answers with that status. ``matched`` is set when it
    happens.
    """

    def __init__(self, endpoint_url: str) -> None:
        host, _, port = endpoint_url.removeprefix("http://").partition(":")
        self.target = (host, int(port))
        self.pattern, self.how = re.compile(rb"(?!)"), "hang"
        self.matched, self._closed, self._freed = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def misbehave(self, pattern: str, how: str) -> None:
        """What to do, and when."""
        self.pattern, self.how = re.compile(pattern.encode()), how

    def behave(self) -> None:
        """From now on pass everything on; connections that hang are dropped."""
        self.misbehave("(?!)", "hang")
        self._freed.set()

    def close(self) -> None:
        """Stop listening; connections that hang are dropped."""
        self._closed.set()
        self._freed.set()
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        slow, cut = threading.Event(), threading.Event()
        with contextlib.suppress(OSError), client, socket.create_connection(self.target) as server:
            threading.Thread(
                target=self._answer, args=(server, client, slow, cut), daemon=True
            ).start()
            while data := client.recv(65536):
                if self.pattern.search(data):
                    self.matched.set()
                    how = self.how
                    if how == "hang":
                        self._freed.wait()
                    if how in ("hang", "reset"):
                        client.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                        return
                    if how == "trickle":
                        slow.set()
                    elif how == "cut":
                        cut.set()
                    else:
                        client.sendall(
                            (
                                f"HTTP/1.1 {how} No\r\nContent-Length: 0\r\n"
                                "Connection: close\r\n\r\n"
                            ).encode()
                        )
                        return
                server.sendall(data)

    def _answer(
        self,
        server: socket.socket,
        client: socket.socket,
        slow: threading.Event,
        cut: threading.Event,
    ) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := server.recv(TRICKLE_BYTES_PER_SECOND // 10):
                client.sendall(data)
                passed += len(data)
                if cut.is_set() and passed > CUT_BYTES:
                    break
                if slow.is_set():
                    self._closed.wait(0.1)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay(repository: Copy) -> Iterator[Relay]:
    """In front of the copies' store."""
    made = Relay(repository.store.endpoint_url)
    yield made
    made.close()
