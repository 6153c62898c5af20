"""The removal of what killed jobs left on this host.

Servers are ended and folders removed as soon as nobody has a right to them. Every job begins with
it, whatever cluster it is of, and ``pgdrill sweep`` does nothing else.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pgdrill.access import Access
from pgdrill.host.place import make_state
from pgdrill.host.removal import GONE, remove, rename_away
from pgdrill.recovery.workspace import Workspace, locked

logger = logging.getLogger(__name__)

# the folders in a cluster's state directory that may hold a database's rows, or jobs of its queues
PLACES = ("drills", "dumping", "tables", "snapshots")
UNCLAIMED_SECONDS = 60.0  # a folder is claimed first of all


@dataclass(frozen=True, slots=True)
class Found:
    """A folder, and why it went or stayed."""

    folder: Path
    why: str


@dataclass(slots=True)
class Swept:
    """The outcome of a sweep."""

    removed: list[Found] = field(default_factory=list)
    held: list[Found] = field(default_factory=list)  # somebody has a right to it
    failed: list[Found] = field(default_factory=list)  # nobody has, and it is still there


def sweep(work_directories: Iterable[Path]) -> Swept:
    """Remove every folder whose time is over, of every cluster that works below these."""
    swept = Swept()
    for folder in _folders(work_directories):
        try:
            _judge(folder, swept)
        except FileNotFoundError:  # gone while it was looked at
            continue
        except BlockingIOError:
            swept.held.append(Found(folder, "somebody is at work on it"))
        except OSError as error:
            swept.failed.append(Found(folder, error.strerror or str(error)))
    return swept


def left_over(work_directories: Iterable[Path]) -> list[Found]:
    """Return the folders that a sweep would remove now; none is touched."""
    found = []
    for folder in _folders(work_directories):
        try:
            if GONE in folder.name:
                found.append(Found(folder, "its removal was interrupted"))
                continue
            seen = folder.stat()
            if os.geteuid() not in (0, seen.st_uid) or _held_until(folder, seen.st_ctime):
                continue
            lease = Workspace(folder).lease
        except OSError:  # gone while it was looked at
            continue
        found.append(Found(folder, (lease.over() if lease else "") or "nobody has claimed it"))
    return found


def sweep_first(access: Access) -> None:
    """Sweep before a job begins, in a work directory that is there.

    A folder that cannot be swept is logged, and keeps nobody from a backup.
    """
    make_state(access.cluster.state_directory)
    swept = sweep((*access.cluster.work_directories, access.cluster.drill.work_directory))
    for found in swept.removed:
        logger.warning("removed what an earlier job had left, %s: %s", found.folder, found.why)
    for found in swept.failed:
        logger.warning(
            "an earlier job has left %s, and it cannot be removed: %s", found.folder, found.why
        )


def _folders(work_directories: Iterable[Path]) -> Iterator[Path]:
    """Yield the folders themselves, never what a link in their place points to."""
    for place in sorted(
        {place for work in work_directories for name in PLACES for place in work.glob(f"*/{name}")}
    ):
        try:
            with os.scandir(place) as entries:
                yield from sorted(
                    Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)
                )
        except OSError as error:
            logger.warning("cannot look for what was left in %s: %s", place, error)


def _judge(folder: Path, swept: Swept) -> None:
    if GONE in folder.name:
        remove(folder)
        swept.removed.append(Found(folder, "it was being removed when that was interrupted"))
        return
    seen = folder.stat()
    changed = seen.st_ctime  # before it is locked: that changes the folder
    if os.geteuid() not in (0, seen.st_uid):  # its lease cannot be read
        swept.held.append(Found(folder, f"it is another user's (uid {seen.st_uid})"))
        return
    if until := _held_until(folder, changed):
        swept.held.append(Found(folder, until))
        return
    with locked(folder, wait=False):
        if until := _held_until(folder, changed):  # claimed just now
            swept.held.append(Found(folder, until))
            return
        workspace = Workspace(folder)
        lease = workspace.lease
        why = lease.over() if lease else "nobody has claimed it"
        workspace.end()
        gone = rename_away(folder)
    remove(gone)
    swept.removed.append(Found(folder, why))


def _held_until(folder: Path, changed: float) -> str:
    """Return who has a right to a folder, in words, or an empty string where nobody has."""
    workspace = Workspace(folder)
    if lease := workspace.lease:
        if lease.owner and lease.owner.lives():  # whatever the time: it clears up itself
            return f"{lease.why}, by process {lease.owner.pid}"
        return (
            ""
            if lease.over()
            else f"{lease.why}, until {workspace.expires_at:%Y-%m-%d %H:%M:%S} UTC at the latest"
        )
    return (
        f"without a lease for less than {UNCLAIMED_SECONDS:.0f} s"
        if abs(time.time() - changed) < UNCLAIMED_SECONDS
        else ""
    )
