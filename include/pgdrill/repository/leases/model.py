"""A lease as it is kept, and as it is seen.

Its age is the store's to tell, never a host's clock.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from pgdrill.documents import StrictModel

MAX_LIFE_SECONDS = 2 * 86400.0
SLACK = timedelta(seconds=2)  # some stores tell the time of an object in whole seconds
# A tool that was told to delete may do so after its lease ran out: for so long it counts as still
# deleting.
DELETING = timedelta(hours=1)

Kind = Literal["backup", "prune", "dump", "drill", "snapshot"]
EXCLUDES: dict[Kind, frozenset[str]] = {
    "backup": frozenset({"backup", "prune"}),
    "prune": frozenset({"backup", "prune"}),
    "dump": frozenset({"dump"}),
    "drill": frozenset(),
    "snapshot": frozenset({"snapshot"}),  # of a queue, in its own store
}
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
Position = Annotated[int, Field(ge=0, le=2**64)]


class Lease(StrictModel, extra="ignore", strict=True):
    """The lease of one job.

    ``id`` is of this claim alone; ``life_seconds`` count from when the store last took it.

    ``names`` and ``wal_from`` (an LSN) are not to be deleted; ``everything``: the job has not
    chosen yet. Of a prune: ``deleting`` and ``deleting_wal_before`` (an LSN) are going now,
    ``confirmed`` are the holds that it has read.
    """

    version: Literal[1] = 1
    kind: Kind
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    owner: Name
    host: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9._-]+$")]
    pid: Annotated[int, Field(ge=0, le=2**32)]
    state: Literal["claimed", "held", "ended"] = "claimed"
    life_seconds: Annotated[float, Field(gt=0, le=MAX_LIFE_SECONDS)]
    everything: bool = False
    names: Annotated[tuple[Name, ...], Field(max_length=1000)] = ()
    wal_from: Position | None = None
    deleting: Annotated[tuple[Name, ...], Field(max_length=1000)] = ()
    deleting_wal_before: Position | None = None
    confirmed: Annotated[tuple[Name, ...], Field(max_length=10_000)] = ()


def new_lease(kind: Kind, owner: str, life_seconds: float) -> Lease:
    """Return a claim of this process."""
    host = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_"
        for letter in socket.gethostname()
    )
    return Lease(
        kind=kind,
        id=secrets.token_hex(8),
        owner=owner,
        host=host[:255] or "unnamed",
        pid=os.getpid(),
        life_seconds=min(life_seconds, MAX_LIFE_SECONDS),
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """A lease in the store.

    ``lease`` None: there is an object that cannot be read, which counts as one that protects all.
    """

    key: str
    lease: Lease | None
    written_at: datetime

    @property
    def until(self) -> datetime:
        """The time when it runs out, by the store's clock."""
        life = self.lease.life_seconds if self.lease else MAX_LIFE_SECONDS
        return self.written_at + timedelta(seconds=life)

    def stands(self, now: datetime) -> bool:
        """Return whether somebody still holds or claims it."""
        return (self.lease is None or self.lease.state != "ended") and now <= self.until + SLACK

    def excludes(self, kind: Kind) -> bool:
        """Return whether a job of that kind has to wait for it."""
        return bool(EXCLUDES[kind]) and (self.lease is None or self.lease.kind in EXCLUDES[kind])

    def held(self) -> bool:
        """Return whether it is more than a claim."""
        return self.lease is None or self.lease.state == "held"

    def keeps(self, name: str) -> bool:
        """Return whether a backup or dump must not be deleted while it stands."""
        return self.lease is None or self.lease.everything or name in self.lease.names

    def keeps_wal_before(self, lsn: int) -> bool:
        """Return whether some of the WAL before a position must not be deleted while it stands."""
        lease = self.lease
        return (
            lease is None
            or lease.everything
            or (lease.wal_from is not None and lease.wal_from < lsn)
        )

    def may_delete(self, now: datetime) -> bool:
        """Return whether what it says it is deleting may be going still, although it ran out."""
        return (
            self.lease is not None and self.lease.state != "ended" and now <= self.until + DELETING
        )

    def __str__(self) -> str:
        until = self.until.astimezone(UTC).isoformat(timespec="seconds")
        if self.lease is None:
            return f"{self.key}, which cannot be read, until {until}"
        return (
            f"{self.lease.kind} {self.lease.owner} on host {self.lease.host} (process"
            f" {self.lease.pid}) until {until}"
        )
