"""A job that kills its process with SIGKILL at a chosen point; point 0 only tells them.

A point is right before a command is started, a file or folder is written, renamed or removed, a
signal is sent, or an object is written or deleted; and right after an object was. Python's own
audit events tell all but the last, so that nothing is left out.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.faults.jobs import Work, run

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
ON_FILES = {
    "os.rename": 2,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rmdir": 1,
    "shutil.rmtree": 1,
    "os.truncate": 1,
    "os.symlink": 2,
}
NEW = re.compile(
    r"(?<=[.-])[0-9a-f]{8,16}\b|\d{8}T\d{6}Z-[0-9a-f]{6,}|[0-9A-F]{24}|pgdrill-[0-9a-z_]+|\d{4,}"
)


class Points:
    """Counts them, from every thread, and ends this process at the one that was asked for."""

    def __init__(self, work: Path, at: int) -> None:
        self.work, self.at, self.told = str(work), at, []
        self._lock = threading.RLock()
        self._open = True

    def point(self, what: str) -> None:
        """Here is one."""
        with self._lock:
            if not self._open:
                return
            self.told.append(NEW.sub("…", what))
            if len(self.told) == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

    def close(self) -> None:
        """The job is over."""
        self._open = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """For ``sys.addaudithook``."""
        if event == "subprocess.Popen":
            words = [str(word) for word in arguments[1]]
            self.point(f"start {named(words)}")
        elif event == "os.kill":
            self.point(f"signal {arguments[1]}")
        elif event == "open" and isinstance(arguments[0], str) and (arguments[2] or 0) & WRITING:
            self._on("write", arguments[0])
        elif event in ON_FILES:
            self._on(event.partition(".")[2], *arguments[: ON_FILES[event]])

    def _on(self, what: str, *places: Any) -> None:
        inside = [str(place) for place in places if isinstance(place, str | Path)]
        if any(self.work in place for place in inside):
            self.point(f"{what} {inside[-1].replace(self.work, '')}")

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A storage call, with a point before and one after it."""

        def called(storage: Any, key: Any, *more: Any, **named_ones: Any) -> Any:
            self.point(f"{name} {key}")
            answer = function(storage, key, *more, **named_ones)
            self.point(f"{name} {key}, done")
            return answer

        return called


def named(words: list[str]) -> str:
    """The program that is meant, without those that only start it."""
    plain = [Path(word).name for word in words]
    known = ("wal-g", "barman-cloud", "pg_", "postgres", "initdb", "python", "vacuumdb", "psql")
    at = next((at for at, word in enumerate(plain) if word.startswith(known)), 0)
    return " ".join(plain[at : at + 3])


def run_until(point: int, job: str, work: Work) -> dict[str, Any]:
    """Run the job in this process, which ends at that point; how it ended, and its points, if it
    had fewer.
    """
    import obstore

    points = Points(work.access.cluster.drill.work_directory, point)
    for name in ("put", "delete"):
        setattr(obstore, name, points.around(name, getattr(obstore, name)))
    sys.addaudithook(points.hook)
    ended = run(job, replace(work, look=False))  # a kept copy would be another story
    points.close()
    return {**ended, "points": points.told}
