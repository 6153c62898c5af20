"""The backup tool, run ahead of recovery.

It fetches what cannot be read without it, and proves that it fetches the same.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from pgdrill.errors import PgdrillError
from pgdrill.host.process import Command, Completed, Runner, Stopped
from pgdrill.host.tuning import cores
from pgdrill.postgres.wal import Segment
from pgdrill.recovery.wal_prefetch.order import Order
from pgdrill.repository.asked_again import Absent
from pgdrill.repository.failures import says_absent, tool_failure

# comparing must not slow what recovery waits for, nor starve on a busy host
NICE = ("nice", "-n", "5")
STOP_SECONDS = 1.5  # whoever ends this process waits two before it kills


class Tool:
    """The tool's processes: as many at once as there are cores.

    Each runs in a folder and with a home of its own.
    """

    def __init__(self, order: Order, folder: Path) -> None:
        self.order, self.folder = order, folder
        self._slots = threading.Semaphore(cores())
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._stopped = False
        self._runners: set[Runner] = set()
        self._numbers = 0

    @property
    def can_bulk(self) -> bool:
        """True if one of its processes can fetch many segments."""
        return bool(self.order.tool.bulk)

    @contextlib.contextmanager
    def fetched(self, name: str, *, patient: bool = False) -> Iterator[Path]:
        """Fetch a file with the very command that recovery would run; remove it afterwards.

        Raises :class:`Absent` for the tool's own word for that, else an error that says whose fault
        it was.
        """
        with self._slots, self._place() as place:
            file = place / name
            words = [
                {"%f": name, "%p": str(file)}.get(word, word) for word in self.order.tool.fetch
            ]
            argv = (*(NICE if patient else ()), *words)
            environment = {
                name: value.replace("{into}", str(place))
                for name, value in self.order.tool.environment.items()
            }
            done = self._run(Command(argv, environment, self.order.tool.exit_codes))
            if says_absent(done, self.order.tool.absent_code):
                raise Absent(name)
            if done.code or not file.exists():
                raise tool_failure(f"fetching {name} with {self.order.tool.name}", done)
            yield file

    @contextlib.contextmanager
    def fetched_together(self, segments: list[Segment]) -> Iterator[Path]:
        """Yield the folder with those of the segments that one process could fetch.

        It is removed afterwards.
        """
        first, words = segments[0], self.order.tool
        before = Segment(first.timeline, first.number - 1, first.size_bytes).name
        with self._slots, self._place() as place:
            values = {"before": before, "count": str(len(segments)), "into": str(place)}
            environment = {
                "HOME": str(place),
                **{k: v.format(**values) for k, v in words.bulk_environment.items()},
            }
            self._run(Command(tuple(word.format(**values) for word in words.bulk), environment))
            yield place / words.bulk_folder

    def stop(self) -> None:
        """End every process, also those that are just being started, and start no more."""
        with self._lock:
            self._stopped = True
            for runner in self._runners:
                runner.stopped = True
            runners = list(self._runners)
        for runner in runners:
            runner.stop()
        with self._idle:
            self._idle.wait_for(lambda: not self._runners, STOP_SECONDS)

    def _run(self, command: Command) -> Completed:
        runner = Runner()
        with self._lock:
            if self._stopped:
                raise Stopped(f"{command.argv[0]} was not started: nothing more is wanted")
            self._runners.add(runner)
        try:
            return runner.run(command, quiet=True)
        finally:
            with self._idle:
                self._runners.discard(runner)
                self._idle.notify_all()

    @contextlib.contextmanager
    def _place(self) -> Iterator[Path]:
        with self._lock:
            self._numbers += 1
            place = self.folder / str(self._numbers)
        place.mkdir(mode=0o700, parents=True)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def no_room(error: BaseException) -> bool:
    """Return whether a disk was full."""
    if isinstance(error, PgdrillError):
        return error.problem.reason == "no-space"
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
