"""Starting other programs: the one place where pgdrill runs a process.

stdout and stderr stay apart, lines arrive live, secrets are masked before anything sees them, the
last lines are kept for the error, and the whole process group ends when the job is stopped, times
out or dies.
"""

from __future__ import annotations

import contextlib
import functools
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
CONSUMER_SECONDS = 20.0  # for a consumer of stdout to take back what it had begun
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

OnLine = Callable[[str], str | None]  # gives what is kept of a line; None: nothing
Consumer = Callable[[IO[bytes], Callable[[], int]], None]  # gets stdout, and a wait for the end


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. Secrets belong in ``environment`` only: ``argv`` can be read by every user of
    the host.

    ``exit_codes`` explains what a code means with this program, for the error's text. ``hopeless``
    matches a line of stderr after which the program can only fail, and is ended at once (some would
    sleep and retry for an hour first). ``clean`` keeps this process's own variables from it:
    ``environment`` is then all it sees. ``without`` are names of those that it does not inherit.
    ``works_in`` are folders: only bytes of files below them count as moved by it (none: all bytes).
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    exit_codes: Mapping[int, str] = field(default_factory=dict)
    hopeless: str = ""
    clean: bool = False
    working_directory: Path | None = None
    within: tuple[str, ...] = ()  # words that put a fence around the program
    without: Collection[str] = ()
    works_in: Collection[Path] = ()

    def whole_environment(self) -> dict[str, str]:
        """All that the program sees."""
        inherited = (
            {}
            if self.clean
            else {name: value for name, value in os.environ.items() if name not in self.without}
        )
        return {**inherited, **self.environment}

    def __str__(self) -> str:
        return " ".join(self.argv)


@dataclass(frozen=True, slots=True)
class Completed:
    """How a process ended. ``stdout`` is whole, ``last_lines`` are the end of stderr (or stdout),
    masked.
    """

    code: int
    stdout: str
    last_lines: tuple[str, ...]
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
    """The process was ended because it ran for too long, or (``stalled``) moved nothing for too
    long.
    """

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
    return masking(environment)(text)


def masking(environment: Mapping[str, str]) -> Callable[[str], str]:
    """Return what replaces the value of every secret variable in a text by ``***``."""
    values = []
    for name, value in environment.items():
        upper = name.upper()
        if len(value) < MIN_SECRET_LENGTH or upper.endswith(PATH_SUFFIXES):
            continue
        if any(word in upper for word in SECRET_NAMES):
            values.append(value)
    values.sort(key=len, reverse=True)  # one may begin with another

    def masked(text: str) -> str:
        for value in values:
            text = text.replace(value, "***")
        return text

    return masked


class Stopped(Exception):
    """The job was stopped (marked failed, cancelled, shut down) while a process ran."""


class Runner:
    """Runs commands one after another; :meth:`stop` (from a signal handler too) ends the running
    one.

    What is no process of ours, such as a statement on a server, is ended by a function
    (:meth:`ending`). ``before`` are words that go before every command, such as
    :func:`pgdrill.host.priority.low_priority_words`.
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
        on_bytes: Callable[[int], None] | None = None,
        on_line: OnLine | None = None,
        on_stdout: Consumer | None = None,
        quiet: bool = False,
    ) -> Completed:
        """Run to the end and say how it ended; a non-zero code is the caller's to judge.

        ``on_bytes`` gets the bytes written so far about once a second; ``stall_seconds`` without a
        byte that moves counts as a hang. ``on_line`` sees each line of stderr first and gives what
        is kept of it (None: nothing). ``on_stdout`` consumes stdout as bytes, in a thread, instead
        of its being kept; it also gets a function that waits for the exit code, for the end of a
        pipe alone does not say how the process ended. What it raises ends the process and is raised
        here. Raises :class:`ProcessTimeout` or :class:`Stopped` after the process group has ended.
        """
        environment = command.whole_environment()
        running = _Running(command, self._start(command, environment), environment, quiet)
        self._process = process = running.process
        try:
            self._remember(process.pid)
            running.listen(on_line, on_stdout)
            if self.stopped:
                end_group(process.pid)
            running.wait(timeout_seconds, stall_seconds, on_bytes)
        finally:
            if process.poll() is None:
                end_group(process.pid)
                process.wait()
            if on_stdout:  # it may still have something to take back
                running.take_back()
            self._process = None
            self._forget()
        if running.broken and not self.stopped:
            raise running.broken
        if self.stopped:
            raise Stopped(f"{command.argv[0]} was ended because the job was stopped")
        return running.completed()

    def _start(self, command: Command, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        # setpriv: the kernel ends the tool even when this process is SIGKILLed and can end nothing
        # itself.
        guard = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
        return subprocess.Popen(
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

    def _remember(self, pid: int) -> None:
        if self.pid_file:
            mark_process(self.pid_file, pid)

    def _forget(self) -> None:
        if self.pid_file:
            self.pid_file.unlink(missing_ok=True)


class _Running:
    """A process that runs, the threads that read what it says, and what they have read.

    ``broken`` is what the consumer of its stdout raised.
    """

    def __init__(
        self,
        command: Command,
        process: subprocess.Popen[str],
        environment: Mapping[str, str],
        quiet: bool,
    ) -> None:
        self.command, self.process, self.environment = command, process, environment
        self.level = logging.DEBUG if quiet else logging.INFO
        self.started = time.monotonic()
        self.broken: BaseException | None = None
        self._readers: list[threading.Thread] = []
        self._given_up = False
        self._out: list[str] = []
        self._tail: deque[str] = deque(maxlen=LAST_LINES)

    def listen(self, on_line: OnLine | None, on_stdout: Consumer | None) -> None:
        """Read both streams from now on."""
        stdout = (
            functools.partial(self._consume, on_stdout)
            if on_stdout
            else functools.partial(self._read, self.process.stdout, self._out.append)
        )
        stderr = functools.partial(self._read, self.process.stderr, self._judge, on_line)
        for read in (stdout, stderr):
            thread = threading.Thread(target=read, daemon=True)
            thread.start()
            self._readers.append(thread)

    def wait(
        self,
        timeout_seconds: float | None,
        stall_seconds: float | None,
        on_bytes: Callable[[int], None] | None,
    ) -> None:
        """Wait for its end, and until all that it said has been read; end it at a limit."""
        moved_at, movement = self.started, Movement(self.process.pid, self.command.works_in)
        watched = bool(on_bytes or stall_seconds or timeout_seconds)
        while not _ended(self.process, LOOK_SECONDS if watched else None):
            now = time.monotonic()
            if movement.look():
                moved_at = now
            if on_bytes:
                on_bytes(movement.written)
            if timeout_seconds and now - self.started > timeout_seconds:
                raise self._timed_out("was ended (time limit)")
            if stall_seconds and now - moved_at > stall_seconds:
                raise self._timed_out(f"moved no byte for {stall_seconds:.0f} s", stalled=True)
        for reader in self._readers:
            reader.join()

    def take_back(self) -> None:
        """Give the consumer of stdout its time, once the process has ended."""
        for consumer in self._readers[:1]:
            consumer.join(CONSUMER_SECONDS)

    def completed(self) -> Completed:
        """How it ended."""
        last = tuple(self._tail) or tuple(self._out[-LAST_LINES:])
        # wal-g exits with 0 when it is ended: an ended process must not pass for one that
        # succeeded.
        code = -signal.SIGTERM if self._given_up else self.process.returncode
        seconds, meaning = time.monotonic() - self.started, self.command.exit_codes.get(code, "")
        return Completed(code, "\n".join(self._out), last, seconds, meaning)

    def _timed_out(self, why: str, *, stalled: bool = False) -> ProcessTimeout:
        seconds = time.monotonic() - self.started
        end_group(self.process.pid)
        return ProcessTimeout(self.command, seconds, why, tuple(self._tail), stalled=stalled)

    def _consume(self, consumer: Consumer) -> None:
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            consumer(self.process.stdout.buffer, self.process.wait)  # type: ignore[attr-defined] # a text stream's own
        except BaseException as error:  # raised again where the process was started
            self.broken = error
            end_group(self.process.pid)

    def _read(
        self, stream: IO[str] | None, sink: Callable[[str], None], on_line: OnLine | None = None
    ) -> None:
        program = Path(self.command.argv[0]).name
        for raw in stream or ():
            masked = mask(raw.rstrip("\n"), self.environment)
            line = on_line(masked) if on_line else masked
            if line is None:
                continue
            sink(line)
            logger.log(self.level, "%s: %s", program, line)

    def _judge(self, line: str) -> None:
        self._tail.append(line)
        if self.command.hopeless and re.search(self.command.hopeless, line):
            self._given_up = True
            end_group(self.process.pid)


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
