"""Page checksums while the base backup still arrives: ``python -m pgdrill.pages_ahead PARENT FOUND FOLDER…``.

A process of the kernel's idle class looks at every relation file that nobody has touched for a moment, while a core is idle,
and reads what lies in memory only, so that neither the tool nor replay waits for it. A line of FOUND for each file whose pages
are sound says what the file was like; one that replay changes later is another file, and the server's to read. Damage is never called here: what is not noted, check ``page-checksums`` has read by the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pgdrill.idle import IdleCores
from pgdrill.tuning import NO_THREADS

RELATION_FILE = re.compile(r"(\d+)(?:_fsm|_vm)?(?:\.(\d+))?")
CHUNK_BYTES = 2 * 2**20
SEGMENT_BLOCKS = 2**17  # of 8192 bytes: PostgreSQL splits a relation's file there
UNTOUCHED_SECONDS = 0.2  # longer than the kernel's clock needs to tell a later write from an earlier one
ROUND_SECONDS = 0.1  # between two rounds, and at least as long as the last one worked
LOOK_SECONDS = 0.1  # between two looks at what others leave of the cores
IDLE_SHARE = 0.5  # of the cores. The idle class alone is not enough: a fetch that used both of two cores took a tenth longer


@contextlib.contextmanager
def pages_ahead(found: Path, folders: Sequence[Path], home: Path) -> Iterator[None]:
    """Look at what arrives in the folders until the context is left, or this process is gone; ``home`` is the drill's."""
    environment = {**os.environ, **NO_THREADS, "HOME": str(home)}  # by which destroying the drill finds it
    idle = ("chrt", "--idle", "0") if shutil.which("chrt") else ()
    words = [*idle, sys.executable, "-m", "pgdrill.pages_ahead", str(os.getpid()), str(found), *(str(folder.resolve()) for folder in folders)]
    process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/", start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)  # it holds nothing; a line that it was writing is not counted
        process.wait()


def look(folders: Sequence[Path], seen: dict[str, tuple[int, int]], wait: Callable[[], None]) -> Iterator[tuple[str, tuple[int, int]]]:
    """One round: every relation file that is new or changed and sound, with what :func:`state` says of it.

    ``seen`` has the state of all that were looked at, sound or not; ``wait`` returns when there is a core to work with.
    """
    for path, segment in relation_files(folders):
        with contextlib.suppress(OSError):  # gone, or not in memory
            now = state(path.stat())
            if seen.get(str(path)) == now or time.time_ns() - now[0] < UNTOUCHED_SECONDS * 1e9:
                continue
            with path.open("rb", buffering=0) as file:
                whole = all_sound(file.fileno(), now[1], segment, wait)
                seen[str(path)] = now
                if whole and state(os.fstat(file.fileno())) == now:
                    yield str(path), now


def state(of: os.stat_result) -> tuple[int, int]:
    """What changes whenever somebody writes to a file; its time of modification may be set back, as tar does."""
    return of.st_ctime_ns, of.st_size


def relation_files(folders: Sequence[Path]) -> Iterator[tuple[Path, int]]:
    """Every file of a relation below the folders, and which segment of its fork it is."""
    for folder in folders:
        for at, below, names in os.walk(folder):
            below[:] = [name for name in below if not name.startswith("pg")]  # pg_wal, pg_xact, pgsql_tmp: of other kinds
            for name in names:
                if match := RELATION_FILE.fullmatch(name):
                    yield Path(at, name), int(match[2] or 0)


def all_sound(descriptor: int, size: int, segment: int, wait: Callable[[], None]) -> bool:
    """Whether all pages are; raises OSError where they are not in memory."""
    wait()
    from pgdrill.postgres.page_checksums import PAGE_BYTES, sound  # numpy, not before there is a core for it

    buffer = bytearray(min(CHUNK_BYTES, size))
    if size % PAGE_BYTES:
        return False
    for start in range(0, size, CHUNK_BYTES):
        wait()
        part = memoryview(buffer)[: min(CHUNK_BYTES, size - start)]
        if _read(descriptor, part, start) != len(part) or not sound(part, segment * SEGMENT_BLOCKS + start // PAGE_BYTES):
            return False
    return True


def _read(descriptor: int, part: memoryview, start: int) -> int:
    try:
        return os.preadv(descriptor, [part], start, os.RWF_NOWAIT)
    except BlockingIOError:
        raise
    except OSError:  # a file system that knows no such reading, of memory for instance
        return os.preadv(descriptor, [part], start)


class Found:
    """What was noted, for check ``page-checksums``."""

    def __init__(self, file: Path) -> None:
        self.noted: dict[str, tuple[int, int]] = {}
        self._folders: dict[Path, tuple[Path, dict[str, list[str]]]] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in file.read_text().splitlines():
                with contextlib.suppress(ValueError):  # the last one, which may be torn
                    path, changed, size = json.loads(line)
                    self.noted[path] = (changed, size)

    def whole(self, main_fork: Path) -> bool:
        """Are all files of a relation, its maps among them, the ones whose pages were sound?"""
        folder, names = self._in(main_fork.parent)
        files = names.get(main_fork.name, [])
        return bool(files) and all(self._unchanged(folder / name) for name in files)

    def _unchanged(self, path: Path) -> bool:
        try:
            return self.noted.get(str(path)) == state(path.stat())
        except FileNotFoundError:
            return False

    def _in(self, folder: Path) -> tuple[Path, dict[str, list[str]]]:
        """The folder as it was noted, behind any link, and its file names by relation; looked up once."""
        if folder not in self._folders:
            names: dict[str, list[str]] = {}
            for file in folder.iterdir():
                if match := RELATION_FILE.fullmatch(file.name):
                    names.setdefault(match[1], []).append(file.name)
            self._folders[folder] = folder.resolve(), names
        return self._folders[folder]


class _Wait:
    """Returns while others leave a core; ends this process when nobody waits for it any more."""

    def __init__(self, parent: int) -> None:
        self.parent, self.idle, self._until = parent, IdleCores(), 0.0

    def __call__(self) -> None:
        while time.monotonic() > self._until:
            if os.getppid() != self.parent:
                sys.exit()
            if self.idle.look() >= IDLE_SHARE:
                self._until = time.monotonic() + LOOK_SECONDS
            else:
                time.sleep(LOOK_SECONDS)


def main() -> None:
    """Round after round, as long as there is somebody who waits for it."""
    parent, found, folders = int(sys.argv[1]), Path(sys.argv[2]), [Path(word) for word in sys.argv[3:]]
    seen: dict[str, tuple[int, int]] = {}
    wait = _Wait(parent)
    with found.open("w", buffering=1) as file:
        while os.getppid() == parent:
            began = time.process_time()
            for path, now in look(folders, seen, wait):
                file.write(json.dumps([path, *now]) + "\n")
            time.sleep(max(ROUND_SECONDS, time.process_time() - began))  # the kernel's events come with every write


if __name__ == "__main__":
    main()
