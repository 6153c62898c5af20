"""A local PostgreSQL server's life: start, wait for an event, stop.

A restored server runs in a session of its own below a keeper (:mod:`pgdrill.host.keeper`), so that
it outlives the task that started it and yet ends by itself when nobody has a right to it any more.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from pgdrill.errors import BackupFault, CouldNotVerify, TimedOut
from pgdrill.host.fence.choose import Fence
from pgdrill.host.kept_server import keeper_words, launch
from pgdrill.host.process import marked
from pgdrill.postgres import session
from pgdrill.postgres.address import OWN_SOCKET
from pgdrill.postgres.binaries import Binaries, as_ordinary_user

POLL_SECONDS = 0.05  # the postmaster tells of its state by a file only
STOP_SECONDS = 60.0
PID_FILE_BYTES = 4096
LAST_BYTES = 2**18  # the end of a log, read for its last words
# A process's number in each PID namespace that sees it.
NUMBERS = re.compile(r"^NSpid:\s*([\d\s]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A data directory with the socket folder and log that go with it.

    A restored one has a ``fence``, a lease and a ``pid_file``.
    """

    binaries: Binaries
    data_directory: Path
    socket_directory: Path
    log_file: Path
    port: int = 5432
    superuser: str = "postgres"
    database: str = "postgres"  # for questions of the whole cluster
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    bare: bool = False  # it sees nothing but ``environment``; else this process's own as well
    before: tuple[str, ...] = ()  # words before its command, such as those of pgdrill.host.priority
    fence: Fence | None = None
    lease_file: Path | None = None  # the server ends with this lease
    # tells its process, for nothing that lies in its data directory is believed
    pid_file: Path | None = None

    def conninfo(self, database: str = "", **more: str) -> str:
        """Return the superuser's connection string over the private socket."""
        words = {
            "host": str(self.socket_directory),
            "port": str(self.port),
            "user": self.superuser,
            "dbname": database or self.database,
            **session.ENCODING,
        }
        return psycopg.conninfo.make_conninfo("", **(words | more))

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the postmaster and return its process.

        :meth:`wait_until` says when it is ready, and sooner if told of the process.
        """
        words = self.words()
        if self.lease_file and self.pid_file:
            words = [*keeper_words(self.lease_file, self.pid_file), *words]
        self.socket_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return launch(words, self.log_file, self.full_environment, self.lease_file)

    def words(self, *first: str, last: str = "") -> list[str]:
        """Return the command: ``postgres`` inside its fence, with its settings."""
        # the path may be a link that lies outside the fence
        program = Path(self.binaries.path("postgres")).resolve()
        around = self.fence.words() if self.fence else as_ordinary_user()
        words = [*self.before, *around, str(program), *first, "-D", str(self.data_directory)]
        settings = {
            "unix_socket_directories": str(self.socket_directory),
            "port": str(self.port),
            **self.options,
        }
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        return [*words, last] if last else words

    @property
    def full_environment(self) -> dict[str, str]:
        """All variables that the server sees."""
        return {**({} if self.bare else os.environ), **self.environment}

    def start(self, timeout_seconds: float = 60) -> None:
        """Start the server and return once it accepts connections."""
        launched = self.launch()
        self.wait_until(
            lambda: self.status() == "ready", "accepts connections", timeout_seconds, launched
        )

    def wait_until(
        self,
        reached: Callable[[], bool],
        what: str,
        timeout_seconds: float,
        launched: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Wait until ``reached`` is true.

        A server that ends meanwhile, or takes too long, is an error with its last words.
        """
        started = time.monotonic()
        seen = False
        while not reached():
            alive = self.process() is not None
            seen = seen or alive
            waited = time.monotonic() - started
            ended = launched is not None and launched.poll() is not None
            if not alive and (seen or ended or waited > 10):
                raise CouldNotVerify(
                    "server-ended",
                    f"server in {self.data_directory}",
                    found=self.last_words(),
                    expected=f"a server that {what}",
                    hint=f"read its log {self.log_file}",
                )
            if waited > timeout_seconds:
                raise TimedOut(
                    "timeout",
                    f"server in {self.data_directory}",
                    found=f"not there after {waited:.0f} s; log: {self.last_words()}",
                    expected=f"a server that {what} within {timeout_seconds:.0f} s",
                    hint=(
                        "look for what it waits for in its log; allow more time in dr.toml if it"
                        " was still working"
                    ),
                )
            time.sleep(POLL_SECONDS)

    def status(self) -> str:
        """Return the last word of ``postmaster.pid``.

        It is ``starting``, ``standby`` (recovering, no connections), ``ready`` or ``stopping``.
        Empty without a living server: the file of a killed one still says ``ready``.
        """
        lines = pid_lines(self.data_directory) if self.process() else []
        return lines[7].strip() if len(lines) > 7 else ""

    def process(self) -> psutil.Process | None:
        """Return the living postmaster of this data directory; None where there is none.

        It is never another process that got its old number.
        """
        if self.pid_file:
            leader = marked(self.pid_file)
            return self._postmaster(leader) if leader else None
        lines = pid_lines(self.data_directory)
        try:
            process = psutil.Process(abs(int(lines[0])))
            if (
                process.status() != psutil.STATUS_ZOMBIE
                and str(self.data_directory) in process.cmdline()
            ):
                return process
        except (IndexError, ValueError, psutil.Error):
            return None
        return None

    def _postmaster(self, leader: psutil.Process) -> psutil.Process | None:
        """Return the postmaster among what was started to start it.

        The number that it knows itself by may be of its own namespace.
        """
        with contextlib.suppress(psutil.Error):
            for process in (leader, *leader.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    if (
                        process.name() == "postgres"
                        and str(self.data_directory) in process.cmdline()
                    ):
                        return process
        return None

    def backend(self, pid: int) -> psutil.Process | None:
        """Return the backend that the server knows by that number."""
        postmaster = self.process()
        for process in postmaster.children() if postmaster else ():
            with contextlib.suppress(OSError, psutil.Error):
                if pid in map(
                    int, NUMBERS.findall(Path(f"/proc/{process.pid}/status").read_text())[0].split()
                ):
                    return process
        return None

    def stop(self, *, to_be_removed: bool = False) -> None:
        """End the server, fast first, then whatever it takes. Do nothing where none runs.

        One ``to_be_removed`` gets no time to write and archive what nobody will read: immediate
        first.
        """
        ways = ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
        for how, seconds in ways[to_be_removed:]:
            process = self.process()
            if process is None:
                return
            family = [process, *process.children(recursive=True)]
            process.send_signal(how)
            psutil.wait_procs(family, timeout=seconds)
        if self.process() is not None:
            raise CouldNotVerify(
                "server-remains",
                f"server in {self.data_directory}",
                found="still running after SIGKILL",
                expected="an ended process",
                hint="look at the process's state (disk sleep?) and end it by hand",
            )

    def connect(
        self,
        database: str = "",
        *,
        autocommit: bool = True,
        user: str = "",
        search_path: str = session.PUBLIC_PATH,
    ) -> psycopg.Connection:
        """Open the superuser's connection over the private socket, or another role's.

        Nothing of the cluster's own settings counts.
        """
        major = int((self.data_directory / "PG_VERSION").read_text().partition(".")[0])
        settings = session.settings(major, superuser=not user, search_path=search_path)
        words = self.conninfo(
            database,
            **OWN_SOCKET,
            user=user or self.superuser,
            options=session.options(settings),
            connect_timeout="10",
        )
        made = session.opened(words)
        try:
            session.pin(made, settings)
            made.autocommit = autocommit
        except BaseException:
            made.close()
            raise
        return made

    def system(self, database: str = "") -> psycopg.Connection:
        """Open the superuser's connection for questions of the catalogs.

        A superuser plans no query on a user's relation.
        """
        return self.connect(database, search_path=session.SYSTEM_PATH)

    def last_words(self, lines: int = 6) -> str:
        """Return the end of the log, errors first if there are any."""
        if not self.log_file.exists():
            return "no log"
        with self.log_file.open("rb") as file:
            file.seek(max(0, self.log_file.stat().st_size - LAST_BYTES))
            text = file.read(LAST_BYTES).decode(errors="replace").splitlines()[-400:]
        loud = [line for line in text if "FATAL" in line or "PANIC" in line]
        return " | ".join((loud or text)[-lines:]) or "an empty log"


def pid_lines(data_directory: Path) -> list[str]:
    """Read what a postmaster writes of itself into its data directory, its number first.

    Empty where there is none.
    """
    return (
        read_plain_file(data_directory / "postmaster.pid", PID_FILE_BYTES)
        .decode(errors="replace")
        .splitlines()
    )


def read_plain_file(file: Path, most_bytes: int) -> bytes:
    """Read the beginning of a file where a stranger may have put anything.

    A link, a pipe or another folder reads as empty.
    """
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(opened, most_bytes) if stat.S_ISREG(os.fstat(opened).st_mode) else b""
    finally:
        os.close(opened)


@contextlib.contextmanager
def answering(asked: str) -> Iterator[None]:
    """Raise :class:`BackupFault` for an error of the restored server, inside this block.

    A server that runs and cannot answer the simplest question has a broken catalog, which is the
    backup's fault.
    """
    try:
        yield
    except psycopg.Error as error:
        raise BackupFault(
            "server-broken",
            f"restored server, {asked}",
            found=str(error).strip(),
            expected="an answer",
            hint=(
                "the backup holds damaged catalogs: drill with an older one, and look for the"
                " damage on production"
            ),
        ) from None
