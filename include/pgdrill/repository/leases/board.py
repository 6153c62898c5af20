"""The folder of leases in the report store.

Each key has one writer; nothing in it is ever deleted by who holds it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from pgdrill.errors import CouldNotVerify
from pgdrill.host.place import make_state
from pgdrill.repository.leases.model import MAX_LIFE_SECONDS, Kind, Lease, Seen
from pgdrill.repository.object_store import Storage

logger = logging.getLogger(__name__)

FOLDER = "leases/"
PROBE = "lease-probe.json"
# A host has one of each kind. Leases beyond that count as those that cannot be read: they protect
# everything.
MOST, LEASE_BYTES = 300, 2**18
OLD = timedelta(seconds=2 * MAX_LIFE_SECONDS)


def boot_seconds() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the host is suspended."""
    return (
        time.clock_gettime(time.CLOCK_BOOTTIME)
        if hasattr(time, "CLOCK_BOOTTIME")
        else time.monotonic()
    )


def place_of(state: Path) -> str:
    """Return a name for a folder of one running kernel.

    Whoever holds a lock file in it is alone there, and so is the writer of its keys.
    """
    make_state(state)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = "no boot id"
    found = state.stat()
    return hashlib.sha256(f"{boot}/{found.st_dev}/{found.st_ino}".encode()).hexdigest()[:12]


class Board:
    """All leases of a repository.

    ``now`` is known once something was written: the store's own time of it.
    """

    def __init__(self, reports: Storage, place: str) -> None:
        self.reports = reports
        self.place = place
        self._etags: dict[str, str | None] = {}
        self._seen_now: tuple[datetime, float] | None = None
        self._put_at: dict[str, float] = {}
        self._asked_at = 0.0
        self._lock = threading.RLock()  # a listing's time of a lease belongs to the put before it

    def key(self, kind: Kind) -> str:
        """Return the key of this place's lease of a kind: one, used again and again."""
        return f"{FOLDER}{kind}-{self.place}.json"

    @cached_property
    def conditional(self) -> bool:
        """True if the store keeps to conditions of a put, tried out.

        Some answer 200 and write all the same.
        """
        found = probe(self.reports)
        logger.debug("conditional writes in %s: %s", self.reports.url, "yes" if found else "no")
        return found

    def put(self, key: str, lease: Lease) -> bool:
        """Write a lease; return False where somebody else wrote under this key since.

        Only a store with conditions tells that.
        """
        content = lease.model_dump_json().encode()
        with self._lock:
            if not self.conditional:
                self.reports.write(key, content)
            elif not self._put_over(key, content):
                return False
            self._put_at[key] = boot_seconds()
        return True

    def _put_over(self, key: str, content: bytes) -> bool:
        if key not in self._etags:
            self._etags[key] = self.reports.etag(key)
        etag = self.reports.replace(key, content, etag=self._etags[key])
        if etag is None:
            # The answer to a first try may have been lost: then what is there is this very lease.
            if self.reports.read(key) != content:
                del self._etags[key]
                return False
            etag = self.reports.etag(key)
        self._etags[key] = etag
        return True

    def look(self) -> list[Seen]:
        """Return every lease that is not long over, as the store has it now."""
        with self._lock:
            self._asked_at = boot_seconds()
            written = self.reports.written(FOLDER)
            for key, at in self._put_at.items():
                if key in written and (self._seen_now is None or written[key] > self._seen_now[0]):
                    self._seen_now = written[key], at
        newest = max(written.values(), default=None)
        keys = sorted(
            key for key, at in written.items() if newest is not None and at >= newest - OLD
        )
        texts = self.reports.read_all(keys[:MOST], LEASE_BYTES)
        read = [
            Seen(key, _parse(text) if isinstance(text, bytes) else None, written[key])
            for key, text in texts
            if text is not None
        ]
        return read + [Seen(key, None, written[key]) for key in keys[MOST:]]

    @property
    def now(self) -> datetime:
        """The store's time when it was last asked for leases, at the earliest.

        It is the time when the store took this job's newest lease, and what went by here since.
        What is read after the listing may be newer than the times in it, and must not be judged
        later.
        """
        if self._seen_now is None:
            raise CouldNotVerify(
                "no-lease",
                f"{self.reports.url}/{FOLDER}",
                found="a listing without the lease that was just written",
                expected="a store that lists what it took",
                hint="use a store whose listings are consistent",
            )
        at, put_at = self._seen_now
        return at + timedelta(seconds=max(0.0, self._asked_at - put_at))


def probe(reports: Storage, key: str = PROBE) -> bool:
    """Return whether the store refuses (412) both a second put and one over a false version.

    Of two puts only one may succeed; the version never was.
    """
    try:
        if reports.replace(key, b"{}", etag=None) and reports.replace(key, b"{}", etag=None):
            return False
        if reports.replace(key, b"{}", etag='"none"'):
            return False
        return reports.replace(key, b"{}", etag=reports.etag(key)) is not None
    except NotImplementedError:  # a folder: it can make a file once, and not replace a version
        return False


def _parse(text: bytes) -> Lease | None:
    try:
        return Lease.model_validate_json(text)
    except ValidationError:
        return None
