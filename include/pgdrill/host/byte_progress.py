"""Telling whether a program moves bytes, or waits, by the files that it works on.

A sleeping program moves a few bytes as well. wal-g that sleeps before it tries again reads 3 bytes
every ten seconds, and each request that is refused again some hundred: neither is work. What
arrived, or was read to be sent, shows in the files that a program holds open.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

LEAST_BYTES = 4096  # read and written, to count as work where no folders are known


class Movement:
    """The bytes that a process moves with its children.

    Looked at are the files below ``folders`` that they hold open, or, where none are named, all
    they do.
    """

    def __init__(self, pid: int, folders: Collection[Path] = ()) -> None:
        self.pid = pid
        self._below = tuple(f"{folder.resolve()}{os.sep}" for folder in folders)
        self._files: frozenset[tuple[int, ...]] = frozenset()
        self._bytes: dict[int, int] = {}
        self._pending = 0
        self.written = 0  # by the process itself, sockets and pipes included

    def look(self) -> bool:
        """Return True if anything moved since the last look."""
        pids = family(self.pid)
        moved = self._moved_bytes(pids)
        if not self._below:
            return moved
        files = frozenset(found for pid in pids for found in open_files(pid, self._below))
        new = bool(files - self._files)
        self._files = files or self._files  # between two files, the program has none open
        return new

    def _moved_bytes(self, pids: list[int]) -> bool:
        for pid in pids:
            with contextlib.suppress(psutil.Error, OSError):
                counters = psutil.Process(pid).io_counters()
                total = counters.write_chars + counters.read_chars
                self._pending += max(0, total - self._bytes.get(pid, 0))
                self._bytes[pid] = total
                if pid == self.pid:
                    self.written = counters.write_chars
        if self._pending < LEAST_BYTES:
            return False
        self._pending = 0
        return True


def family(pid: int) -> list[int]:
    """Return a process and everything that it started."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


def open_files(pid: int, below: tuple[str, ...]) -> Iterator[tuple[int, ...]]:
    """Yield for each file there that a process holds open which it is, and how far it is read.

    For a file that it writes, tell, too, how long it is and when it was written.
    """
    with contextlib.suppress(OSError):  # gone
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError, ValueError, KeyError):
                if not str(handle.readlink()).startswith(below):
                    continue
                state = handle.stat()
                told = dict(
                    line.split(":\t")
                    for line in Path(f"/proc/{pid}/fdinfo/{handle.name}")
                    .read_text()
                    .splitlines()[:2]
                )
                # of files that are only read no size is told: production's change without the tool
                written = int(told["flags"], 8) & (os.O_WRONLY | os.O_RDWR)
                yield (
                    state.st_dev,
                    state.st_ino,
                    int(told["pos"]),
                    *((state.st_size, state.st_mtime_ns) if written else ()),
                )
