"""A local PostgreSQL server's life: start, wait for an event, stop.

The server runs in a session of its own under coreutils' ``timeout``, so that it outlives the task that started it
and yet ends by itself when everything that knew of it has died.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from pgdrill.errors import BackupFault, CouldNotVerify, TimedOut
from pgdrill.postgres.binaries import Binaries, as_ordinary_user

POLL_SECONDS = 0.05  # the postmaster tells of its state by a file only
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A data directory with the socket folder and log that go with it."""

    binaries: Binaries
    data_directory: Path
    socket_directory: Path
    log_file: Path
    port: int = 5432
    superuser: str = "postgres"
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    max_seconds: int | None = None
    before: tuple[str, ...] = ()  # words before its command, such as those of pgdrill.priority

    def conninfo(self, database: str = "postgres", **more: str) -> str:
        """For the superuser, over the private socket."""
        words = {
            "host": str(self.socket_directory), "port": str(self.port), "user": self.superuser, "dbname": database,
            "client_encoding": "utf8",  # of a database in SQL_ASCII, psycopg would give text as bytes
        }  # fmt: skip
        return psycopg.conninfo.make_conninfo("", **(words | more))

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the postmaster; :meth:`wait_until` says when it is ready, and sooner if told of the process."""
        words = [*self.before, *as_ordinary_user(), self.binaries.path("postgres"), "-D", str(self.data_directory)]
        settings = {
            "unix_socket_directories": str(self.socket_directory), "port": str(self.port), **self.options
        }  # fmt: skip
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        timeout = shutil.which("timeout")
        if self.max_seconds and timeout:
            # Not SIGINT: that waits for backends, and one that a damaged index has go round in circles never ends by itself.
            words = [timeout, "--signal=QUIT", str(self.max_seconds), *words]
        self.socket_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **self.environment}, cwd="/",
            )  # fmt: skip

    def start(self, timeout_seconds: float = 60) -> None:
        """Start and return once the server accepts connections."""
        launched = self.launch()
        self.wait_until(lambda: self.status() == "ready", "accepts connections", timeout_seconds, launched)

    def wait_until(
        self, reached: Callable[[], bool], what: str, timeout_seconds: float, launched: subprocess.Popen[bytes] | None = None
    ) -> None:
        """Wait for something; a server that ends meanwhile, or takes too long, is an error with its last words."""
        started = time.monotonic()
        seen = False
        while not reached():
            alive = self.process() is not None
            seen = seen or alive
            waited = time.monotonic() - started
            ended = launched is not None and launched.poll() is not None
            if not alive and (seen or ended or waited > 10):
                raise CouldNotVerify(
                    "server-ended", f"server in {self.data_directory}", found=self.last_words(),
                    expected=f"a server that {what}", mend=f"read its log {self.log_file}",
                )  # fmt: skip
            if waited > timeout_seconds:
                raise TimedOut(
                    "timeout", f"server in {self.data_directory}",
                    found=f"not there after {waited:.0f} s; log: {self.last_words()}",
                    expected=f"a server that {what} within {timeout_seconds:.0f} s",
                    mend="look for what it waits for in its log; allow more time in dr.toml if it was still working",
                )  # fmt: skip
            time.sleep(POLL_SECONDS)

    def status(self) -> str:
        """The last word of ``postmaster.pid``: ``starting``, ``standby`` (recovering, no connections), ``ready``, ``stopping``.

        Empty without a living server: the file of a killed one still says ``ready``.
        """
        lines = self._pid_lines() if self.process() else []
        return lines[7].strip() if len(lines) > 7 else ""

    def process(self) -> psutil.Process | None:
        """The living postmaster of this data directory; never another process that got its old number."""
        lines = self._pid_lines()
        try:
            process = psutil.Process(abs(int(lines[0])))
            if process.status() != psutil.STATUS_ZOMBIE and str(self.data_directory) in process.cmdline():
                return process
        except (IndexError, ValueError, psutil.Error):
            return None
        return None

    def stop(self, *, to_be_removed: bool = False) -> None:
        """End the server, fast first, then whatever it takes. Nothing to do where none runs.

        One ``to_be_removed`` gets no time to write and archive what nobody will read: immediate first.
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
                "server-remains", f"server in {self.data_directory}", found="still running after SIGKILL",
                expected="an ended process", mend="look at the process's state (disk sleep?) and end it by hand",
            )  # fmt: skip

    def connect(self, database: str = "postgres", *, autocommit: bool = True) -> psycopg.Connection:
        """A superuser's connection over the private socket."""
        return psycopg.connect(self.conninfo(database), autocommit=autocommit, connect_timeout=10)

    def last_words(self, lines: int = 6) -> str:
        """The end of the log, errors first if there are any."""
        if not self.log_file.exists():
            return "no log"
        text = self.log_file.read_text(errors="replace").splitlines()[-400:]
        loud = [line for line in text if "FATAL" in line or "PANIC" in line]
        return " | ".join((loud or text)[-lines:]) or "an empty log"

    def _pid_lines(self) -> list[str]:
        try:
            return (self.data_directory / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []


@contextlib.contextmanager
def answering(asked: str) -> Iterator[None]:
    """A restored server that runs and cannot answer the simplest question has a broken catalog: the backup's fault."""
    try:
        yield
    except psycopg.Error as error:
        raise BackupFault(
            "server-broken", f"restored server, {asked}", found=str(error).strip(), expected="an answer",
            mend="the backup holds damaged catalogs: drill with an older one, and look for the damage on production",
        ) from None  # fmt: skip
