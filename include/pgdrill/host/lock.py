"""One drill, and one backup, at a time for a cluster, whatever started them.

A restarted scheduler can run the same task twice at once, so the lock is here and not only in
Airflow. It has two layers: an ``flock`` held while a stage runs, which the kernel releases when the
process dies, and a lease. A drill's lease, which spans its stages, stands in its folder
(:class:`pgdrill.host.owner.FolderLease`); the lock file only says where that folder is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from pgdrill.errors import Busy
from pgdrill.host.owner import FolderLease, Owner

POLL_SECONDS = 0.2  # flock has no timeout of its own
WAIT_SECONDS = 30.0  # a task that was marked failed is gone within about ten


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one job to work on the cluster."""

    owner: str
    directory: str
    expires_at: float
    # the process that does it all, if one does; a drill's folder knows better
    process: Owner | None = None

    def stale(self) -> bool:
        """Return True if it has expired, its directory is gone, or its process is dead."""
        if not Path(self.directory).exists():
            return True
        if found := self._in_folder():
            return bool(found.over())
        return time.time() > self.expires_at or bool(self.process and self.process.gone())

    def until(self) -> datetime:
        """Return when it ends at the latest."""
        found = self._in_folder()
        return datetime.fromtimestamp(found.expires_at if found else self.expires_at, UTC)

    def kept(self) -> bool:
        """Return True if nobody is at work: somebody wanted to look at what was restored."""
        found = self._in_folder()
        return bool(found and found.why == "kept")

    def _in_folder(self) -> FolderLease | None:
        return FolderLease.read(f"{self.directory}/lease.json")


def this_process() -> Owner:
    """Return the owner for a lease that ends with this process."""
    return Owner.of(os.getpid())


class ClusterLock:
    """The lock file of one kind of job (``drill``, ``backup``) of one cluster."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def hold(self, lease: Lease, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[Lease | None]:
        """Hold the lock while a stage runs.

        Gives the stale lease it took over, whose leavings want clearing.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+") as file:
            self._flock(file, wait_seconds)
            before = _read(file)
            if before and before.owner != lease.owner and not before.stale():
                raise self._busy(before)
            file.seek(0)
            file.truncate()
            file.write(
                json.dumps(asdict(lease) | {"process": lease.process and lease.process.to_json()})
            )
            file.flush()
            yield before if before and before.owner != lease.owner else None

    def release(self, owner: str) -> None:
        """Give the lease back."""
        with contextlib.suppress(FileNotFoundError), self.path.open("r+") as file:
            current = _read(file)
            if current and current.owner == owner:
                file.seek(0)
                file.truncate()

    def _flock(self, file: TextIO, wait_seconds: float) -> None:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._busy(_read(file)) from None
                time.sleep(POLL_SECONDS)
            else:
                return

    def _busy(self, lease: Lease | None) -> Busy:
        kind, cluster = self.path.stem, self.path.parent.name
        found = "held by another process"
        until = None
        hint = "wait for it (`--wait`), or end it (in Airflow: mark its run failed)"
        if lease:
            until = lease.until()
            kept = ", kept for a look," if lease.kept() else ""
            found = (
                f"held by {lease.owner}{kept} until {until.isoformat(timespec='seconds')} at the"
                " latest"
            )
            if kept:
                hint = (
                    f"wait for it, or end it: `pgdrill destroy {cluster} {lease.owner}`, in Airflow"
                    " clear `destroy` of its run"
                )
        return Busy(
            f"{kind} of {cluster}", found=found, expected="one at a time", hint=hint, until=until
        )


def lease_for(owner: str, directory: Path, seconds: float, process: Owner | None = None) -> Lease:
    """Return a lease from now on."""
    return Lease(
        owner, str(directory), (datetime.now(UTC) + timedelta(seconds=seconds)).timestamp(), process
    )


def _read(file: TextIO) -> Lease | None:
    file.seek(0)
    return _parse(file.read())


def _parse(text: str) -> Lease | None:
    try:
        data = json.loads(text)
        process = data["process"] and Owner.from_json(data["process"])
        return Lease(
            str(data["owner"]), str(data["directory"]), float(data["expires_at"]), process or None
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
