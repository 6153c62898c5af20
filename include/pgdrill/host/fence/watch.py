"""Looking at a restored server from outside, all the while.

It finds processes, sockets and files of the server that nobody meant it to have.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LOOK_SECONDS = 2.0
SOCKET = re.compile(r"socket:\[(\d+)\]")
FLAGS = re.compile(r"^flags:\s*([0-7]+)", re.MULTILINE)
INTERNET = ("tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6")
INODE_COLUMN = {"unix": 6} | dict.fromkeys(INTERNET, 9)
OURS = Path("/proc/self/net/unix")
Sockets = Mapping[str, tuple[str, str]]  # by inode -> kind and, of a Unix socket, its path
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The processes and files that a restored server may have."""

    programs: tuple[str, ...]  # of its processes
    # Files open for writing may lie below these. The kernel tells a file's path without links in
    # it, and a socket's as it was given: the folders are named both ways.
    folders: tuple[str, ...]
    # a text in the command line of every other process that is meant: its restore_command
    helpers: str = ""


@dataclass
class Watch:
    """Looks at a server every two seconds while it is entered."""

    leader: Callable[[], psutil.Process | None]
    bounds: Bounds
    looks: int = 0
    found: dict[str, None] = field(default_factory=dict)  # each strange thing once, in words
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run, name="pgdrill-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def look(self) -> None:
        """Look once, now."""
        leader = self.leader()
        if leader is None:
            return
        with contextlib.suppress(psutil.Error):
            family = leader.children(recursive=True)
            if leader.name() == "postgres":  # without a process in between
                family = [leader, *family]
            self.found |= dict.fromkeys(strange([one.pid for one in family], self.bounds))
            self.looks += bool(family)

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.look()


def strange(pids: Iterable[int], bounds: Bounds) -> Iterator[str]:
    """Yield what is strange about processes.

    Nothing is told of a process that has ended, or of a descriptor that was closed, meanwhile.
    """
    opened: dict[Path, list[tuple[Path, str]]] = {}
    for pid in pids:
        place = Path("/proc", str(pid))
        with contextlib.suppress(OSError):  # it has ended
            program = os.readlink(place / "exe")  # noqa: PTH115 - a path of another file system
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if program in bounds.programs:
                opened[place] = [(one, _target(one)) for one in (place / "fd").iterdir()]
            elif not (bounds.helpers and bounds.helpers in words):
                yield f"process {program}: {words[:100].strip()}"
    # The sockets are read after the descriptors: a connection that was accepted in between would
    # be of an unknown kind.
    networks: dict[str, Sockets] = {}
    for place, descriptors in opened.items():
        with contextlib.suppress(OSError):
            yield from _strange_descriptors(place, descriptors, networks, bounds)


def _strange_descriptors(
    place: Path, descriptors: list[tuple[Path, str]], networks: dict[str, Sockets], bounds: Bounds
) -> Iterator[str]:
    """Yield what is strange among a process's descriptors; each network's tables are read once."""
    network = _network(place)
    if network not in networks:
        found = _sockets(place)
        if _network(place) != network:
            return
        networks[network] = found  # whole, for the process has not ended meanwhile
    sockets = networks[network]
    for descriptor, target in descriptors:
        if match := SOCKET.fullmatch(target):
            if (words := _strange_socket(match[1], sockets, bounds)) and _target(
                descriptor
            ) == target:
                yield words
        elif (
            target.startswith("/")
            and _written(place, descriptor.name)
            and not _inside(target, bounds)
        ):
            yield f"file {target}, open for writing"


def _network(place: Path) -> str:
    """Return the network namespace of a process; raise OSError where it has ended."""
    return os.readlink(place / "ns" / "net")  # noqa: PTH115 - a path of another file system


def _sockets(place: Path) -> Sockets:
    """Return the sockets by inode -> kind and, of a Unix socket, its path.

    They are those of the process's own network. The server's end of a connection counts to the
    network of whoever connected: to ours.
    """
    found = {}
    for kind, column in INODE_COLUMN.items():
        for table in (place / "net" / kind, *([OURS] if kind == "unix" else [])):
            for line in _lines(table):
                words = line.split(maxsplit=column + 1)
                if len(words) > column:
                    path = (
                        words[column + 1].strip()
                        if kind == "unix" and len(words) > column + 1
                        else ""
                    )
                    found[words[column]] = (kind, path)
    return found


def _lines(table: Path) -> list[str]:
    try:
        return table.read_text(errors="replace").splitlines()[1:]
    except FileNotFoundError:
        return []


def _strange_socket(inode: str, sockets: Sockets, bounds: Bounds) -> str:
    kind, path = sockets.get(inode, ("of an unknown kind", ""))
    if kind == "unix":
        return f"Unix socket {path}" if path and not _inside(path, bounds) else ""
    return f"socket ({kind})"


def _target(descriptor: Path) -> str:
    """Return what a descriptor leads to; nothing where it has been closed.

    A socket that is closed before the tables are read is in none of them.
    """
    try:
        return os.readlink(descriptor)  # noqa: PTH115 - a path of another file system
    except FileNotFoundError:
        return ""


def _written(place: Path, descriptor: str) -> bool:
    try:
        match = FLAGS.search((place / "fdinfo" / descriptor).read_text())
    except FileNotFoundError:  # closed meanwhile
        return False
    return match is None or int(match[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _inside(path: str, bounds: Bounds) -> bool:
    return path in DEVICES or any(
        path == folder or path.startswith(f"{folder}/") for folder in bounds.folders
    )
