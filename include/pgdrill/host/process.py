"""Starting other programs: the one place where pgdrill runs a process.

stdout and stderr stay apart, lines arrive live, secrets are masked before anything sees them, the
last lines are kept for the error, and the whole process group ends when the job is stopped, times
out or dies.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from pgdrill.host.byte_progress import Movement
from pgdrill.host.owner import Owner, read_text, write_whole

logger = logging.getLogger(__name__)

LAST_LINES = 25
POLL_SECONDS = 0.02
LOOK_SECONDS = 1.0  # between looks at what a process has moved
CONSUMER_SECONDS = 20.0  # for the consumer of stdout to take back what it had begun
TERM_GRACE_SECONDS = 2.0  # Airflow leaves 5 s between on_kill and SIGKILL
MIN_SECRET_LENGTH = 5  # shorter values would blank out ordinary words; Airflow's own limit
SECRET_NAMES = (
    "SECRET",
    "PASSWORD",
    "TOKEN",
    "PASSPHRASE",
    "PGP_KEY",
    "LIBSODIUM_KEY",
    "ACCESS_KEY",
)
PATH_SUFFIXES = ("_PATH", "_FILE", "PASSFILE")


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run.

    Secrets belong in ``environment`` only: ``argv`` can be read by every user of the host.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    # what a code means with this program, for the error's text
    exit_codes: Mapping[int, str] = field(default_factory=dict)
    # Matches a line of stderr after which the program can only fail, and is ended at once (some
    # would sleep and retry for an hour first).
    hopeless: str = ""
    # keeps this process's own variables from it: ``environment`` is then all it sees
    clean: bool = False
    working_directory: Path | None = None
    within: tuple[str, ...] = ()  # words that put a fence around the program
    without: Collection[str] = ()  # names of this process's variables that it does not inherit

    def __str__(self) -> str:
        return " ".join(self.argv)


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of a process."""

    code: int
    stdout: str  # all of it
    last_lines: tuple[str, ...]  # the end of stderr (or stdout), masked
    seconds: float
    meaning: str = ""

    @property
    def ended(self) -> str:
        """The end in words for an error's *found*: ``exit code 1 (no such backup): last lines``."""
        how = (
            f"signal {signal.Signals(-self.code).name}"
            if self.code < 0
            else f"exit code {self.code}"
        )
        meaning = f" ({self.meaning})" if self.meaning else ""
        tail = " | ".join(self.last_lines[-4:]) or "no output"
        return f"{how}{meaning}: {tail}"


class ProcessTimeout(Exception):
    """The process was ended because it ran, or (``stalled``) moved nothing, for too long."""

    def __init__(
        self,
        command: Command,
        seconds: float,
        why: str,
        last_lines: tuple[str, ...],
        *,
        stalled: bool = False,
    ) -> None:
        self.seconds, self.why, self.last_lines, self.stalled = seconds, why, last_lines, stalled
        super().__init__(
            f"{command.argv[0]} {why} after {seconds:.0f} s; last lines:"
            f" {' | '.join(last_lines[-4:])}"
        )


def mask(text: str, environment: Mapping[str, str]) -> str:
    """Return ``text`` with the value of every secret variable replaced by ``***``.

    The variables are those of ``environment``.
    """
    # longest first, because one secret may begin with another
    for name, value in sorted(environment.items(), key=lambda item: -len(item[1])):
        upper = name.upper()
        if upper.endswith(PATH_SUFFIXES) or not any(word in upper for word in SECRET_NAMES):
            continue
        if len(value) >= MIN_SECRET_LENGTH:
            text = text.replace(value, "***")
    return text


class Stopped(Exception):
    """The job was stopped (marked failed, cancelled, shut down) while a process ran."""


class Runner:
    """Runs commands one after another; :meth:`stop` ends the running one.

    It may be called from a signal handler, too. What is no process of ours, such as a statement on
    a server, is ended by a function (:meth:`ending`). ``before`` are words that go before every
    command, such as :func:`pgdrill.host.priority.low_priority_words`.
    """

    def __init__(self, pid_file: Path | None = None, before: tuple[str, ...] = ()) -> None:
        self.pid_file, self.before = pid_file, before
        self._process: subprocess.Popen[str] | None = None
        self._endings: list[Callable[[], None]] = []
        self.stopped = False

    def run(
        self,
        command: Command,
        *,
        timeout_seconds: float | None = None,
        stall_seconds: float | None = None,
        moving_in: Collection[Path] = (),
        on_bytes: Callable[[int], None] | None = None,
        on_line: Callable[[str], str | None] | None = None,
        on_stdout: Callable[[IO[bytes], Callable[[], int]], None] | None = None,
        quiet: bool = False,
    ) -> Completed:
        """Run a command to the end and say how it ended; a non-zero code is the caller's to judge.

        - ``on_bytes`` gets the bytes written so far about once a second.
        - ``stall_seconds`` without a byte that moves counts as a hang. Where ``moving_in`` names
          folders, the files below them count.
        - ``on_line`` sees each line of stderr first and gives what is kept of it (None: nothing).
        - ``on_stdout`` consumes stdout as bytes, in a thread, instead of its being kept. It also
          gets a function that waits for the exit code, for the end of a pipe alone does not say how
          the process ended. What it raises ends the process and is raised here.

        Raises :class:`ProcessTimeout` or :class:`Stopped` after the process group has ended.
        """
        started = time.monotonic()
        tail: deque[str] = deque(maxlen=LAST_LINES)
        out: list[str] = []
        given_up = False
        readers: list[threading.Thread] = []
        broken: list[BaseException] = []
        # With setpriv, the kernel ends the tool even when this process is SIGKILLed and can end
        # nothing itself.
        guard = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
        inherited = (
            {}
            if command.clean
            else {name: value for name, value in os.environ.items() if name not in command.without}
        )
        environment = {**inherited, **command.environment}
        process = subprocess.Popen(
            [*guard, *self.before, *command.within, *command.argv],
            env=environment,
            cwd=command.working_directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._process = process
        try:
            self._remember(process.pid)
            hopeless = re.compile(command.hopeless) if command.hopeless else None

            def judge(line: str) -> None:
                nonlocal given_up
                tail.append(line)
                if hopeless and hopeless.search(line):
                    given_up = True
                    end_group(process.pid)

            program = Path(command.argv[0]).name
            if on_stdout:
                readers.append(
                    threading.Thread(
                        target=self._consume, args=(process, on_stdout, broken), daemon=True
                    )
                )
            else:
                readers.append(
                    threading.Thread(
                        target=self._read,
                        args=(process.stdout, out.append, program, environment, quiet, None),
                        daemon=True,
                    )
                )
            readers.append(
                threading.Thread(
                    target=self._read,
                    args=(process.stderr, judge, program, environment, quiet, on_line),
                    daemon=True,
                )
            )
            for reader in readers:
                reader.start()
            if self.stopped:
                end_group(process.pid)
            self._wait(
                process, command, started, timeout_seconds, stall_seconds, moving_in, on_bytes, tail
            )
            for reader in readers:
                reader.join()
        finally:
            if process.poll() is None:
                end_group(process.pid)
                process.wait()
            if on_stdout:  # it may still have something to take back
                readers[0].join(CONSUMER_SECONDS)
            self._process = None
            self._forget()
        if broken and not self.stopped:
            raise broken[0]
        if self.stopped:
            raise Stopped(f"{command.argv[0]} was ended because the job was stopped")
        last = tuple(tail) or tuple(out[-LAST_LINES:])
        # wal-g exits with 0 when it is ended: an ended process must not pass for one that
        # succeeded.
        code = -signal.SIGTERM if given_up else process.returncode
        return Completed(
            code, "\n".join(out), last, time.monotonic() - started, command.exit_codes.get(code, "")
        )

    @contextlib.contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have :meth:`stop` call ``end`` inside this block.

        What fails because of that is :class:`Stopped`.
        """
        self.check()
        self._endings.append(end)
        try:
            yield
        except Exception as error:
            if self.stopped and not isinstance(error, KeyboardInterrupt):
                raise Stopped("ended because the job was stopped") from error
            raise
        finally:
            self._endings.remove(end)

    def check(self) -> None:
        """Raise :class:`Stopped` if the job was stopped."""
        if self.stopped:
            raise Stopped("ended because the job was stopped")

    def stop(self) -> None:
        """End the running process group; what runs next is ended at once."""
        self.stopped = True
        for end in self._endings:
            end()
        if self._process is not None and self._process.poll() is None:
            end_group(self._process.pid)

    @staticmethod
    def _consume(
        process: subprocess.Popen[str],
        consumer: Callable[[IO[bytes], Callable[[], int]], None],
        broken: list[BaseException],
    ) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            consumer(process.stdout.buffer, process.wait)  # type: ignore[attr-defined] # a text stream's own
        except BaseException as error:  # raised again where the process was started
            broken.append(error)
            end_group(process.pid)

    @staticmethod
    def _read(
        stream: IO[str],
        sink: Callable[[str], None],
        program: str,
        environment: Mapping[str, str],
        quiet: bool,
        on_line: Callable[[str], str | None] | None,
    ) -> None:
        for raw in stream:
            masked = mask(raw.rstrip("\n"), environment)
            line = on_line(masked) if on_line else masked
            if line is None:
                continue
            sink(line)
            logger.log(logging.DEBUG if quiet else logging.INFO, "%s: %s", program, line)

    @staticmethod
    def _wait(
        process: subprocess.Popen[str],
        command: Command,
        started: float,
        timeout_seconds: float | None,
        stall_seconds: float | None,
        moving_in: Collection[Path],
        on_bytes: Callable[[int], None] | None,
        tail: deque[str],
    ) -> None:
        moved_at, movement = started, Movement(process.pid, moving_in)
        watched = bool(on_bytes or stall_seconds or timeout_seconds)
        while not _ended(process, LOOK_SECONDS if watched else None):
            now = time.monotonic()
            if movement.look():
                moved_at = now
            if on_bytes:
                on_bytes(movement.written)
            if timeout_seconds and now - started > timeout_seconds:
                end_group(process.pid)
                raise ProcessTimeout(command, now - started, "was ended (time limit)", tuple(tail))
            if stall_seconds and now - moved_at > stall_seconds:
                end_group(process.pid)
                raise ProcessTimeout(
                    command,
                    now - started,
                    f"moved no byte for {stall_seconds:.0f} s",
                    tuple(tail),
                    stalled=True,
                )

    def _remember(self, pid: int) -> None:
        if self.pid_file:
            mark_process(self.pid_file, pid)

    def _forget(self) -> None:
        if self.pid_file:
            self.pid_file.unlink(missing_ok=True)


def _ended(process: subprocess.Popen[str], seconds: float | None) -> bool:
    """Wait for a process's end, for so long (None: for ever), and return True if it has ended.

    The kernel announces the end; ``wait`` with a limit looks up to 50 ms late.
    """
    if seconds is None:
        process.wait()
        return True
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:  # an old kernel, or it has ended and was waited for
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.returncode is not None
    try:
        end = select.poll()
        end.register(descriptor, select.POLLIN)
        end.poll(seconds * 1000)
    finally:
        os.close(descriptor)
    return process.poll() is not None


def mark_process(path: Path, pid: int) -> None:
    """Write down a process so that another process can end it later, however this one died."""
    write_whole(str(path), json.dumps(Owner.of(pid).to_json()))


def marked(path: Path) -> psutil.Process | None:
    """Return the process written down by :func:`mark_process`, if that very process still lives."""
    try:
        owner = Owner.from_json(json.loads(read_text(str(path))))
        return psutil.Process(owner.pid) if owner.lives() else None
    except (psutil.NoSuchProcess, ValueError, KeyError, TypeError, AttributeError):
        return None


def end_marked(
    path: Path, *, first: signal.Signals = signal.SIGTERM, seconds: float = TERM_GRACE_SECONDS
) -> bool:
    """End the process group written down by :func:`mark_process`, and return True.

    False if that very process does not live any more.
    """
    process = marked(path)
    if process is None:
        return False  # the number now belongs to somebody else, or to nobody
    end_group(process.pid, first=first, seconds=seconds)
    return True


def end_session(path: Path) -> int:
    """End what is left of the session of a process written down by :func:`mark_process`.

    That process has ended. Return how many others were ended.
    """
    try:
        members = Owner.from_json(json.loads(read_text(str(path)))).session()
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0
    end_all(members)
    return len(members)


def end_all(pids: Iterable[int], *, seconds: float = TERM_GRACE_SECONDS) -> None:
    """End processes that need not be of one group, all at once: TERM, two seconds at most, KILL."""
    family: list[psutil.Process] = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            family.append(psutil.Process(pid))
    for how in (signal.SIGTERM, signal.SIGKILL):
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.send_signal(how)
        deadline = time.monotonic() + seconds
        while (
            family := [process for process in family if _lives(process)]
        ) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)  # an orphan's end is announced to its new parent only


def end_group(
    pid: int, *, first: signal.Signals = signal.SIGTERM, seconds: float = TERM_GRACE_SECONDS
) -> None:
    """End a process, its group and its children: TERM, up to two seconds, then KILL.

    Returns when they are gone.
    """
    try:
        leader = psutil.Process(pid)
        family = [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for how in (first, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, how)
        for process in family:  # those that made a group of their own
            with contextlib.suppress(psutil.Error):
                process.send_signal(how)
        deadline = time.monotonic() + seconds
        while family := [process for process in family if _lives(process)]:
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)  # an orphan's end is announced to its new parent only
        if not family:
            return


def end_homed(home: Path) -> bool:
    """End every process whose ``HOME`` is that folder; return True if there was one.

    A tool may have left it working when its parent had ended.
    """
    found = [process.pid for process in psutil.process_iter() if _home(process) == str(home)]
    for pid in found:
        end_group(pid)
    return bool(found)


def _home(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HOME") if _lives(process) else None
    except (psutil.Error, OSError):  # somebody else's, or gone
        return None


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
