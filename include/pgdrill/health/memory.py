"""What a watcher remembers from look to look, kept beside the reports.

It survives restarts. Two watchers of one cluster see the same, so it does not matter whose is kept.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from pydantic import Field

from pgdrill.documents import Bytes, Instant, Lsn, StrictModel, Timeline, read_model
from pgdrill.errors import PgdrillError
from pgdrill.repository.object_store import Storage

logger = logging.getLogger(__name__)

KEY = "health/memory.json"
MOST_SAMPLES = 300
LONGEST = timedelta(days=1)


class Sample(StrictModel, frozen=False):
    """Where the primary's WAL was at an instant, by the server's own clock.

    ``next_xid``: the number of the next transaction; what has the same committed nothing between.
    """

    at: Instant
    timeline: Timeline
    lsn: Lsn
    next_xid: int = Field(ge=0, lt=2**64)
    wal_directory_bytes: Bytes | None = None


class WalMemory(StrictModel, frozen=False):
    """The archived WAL as far as it was listed.

    ``runs``: timeline, first and last segment of each run; ``gone``: of those that were there, are
    not any more, and are still missed. ``newest_key``: where the listing of new ones goes on.
    ``swept_key``: where that of everything goes on; empty: from the beginning. ``whole_at``: when
    everything had been listed once.
    """

    segment_bytes: int = Field(16 * 2**20, gt=0)
    runs: list[tuple[int, int, int]] = Field(default_factory=list)
    gone: list[tuple[int, int, int]] = Field(default_factory=list)
    newest_key: str = ""
    swept_key: str = ""
    swept_at: Instant | None = None
    round_started_at: Instant | None = None
    whole_at: Instant | None = None
    histories: dict[int, list[tuple[int, int]]] = Field(default_factory=dict)
    missing_since: dict[str, Instant] = Field(default_factory=dict)


class Needed(StrictModel):
    """The WAL that backups need: everything from ``start_lsn`` on, and single runs before that.

    ``newest_lsn``: where the newest good base backup begins.
    """

    start_lsn: Lsn
    newest_lsn: Lsn
    own: list[tuple[int, int, int]] = Field(default_factory=list)


class Memory(StrictModel, frozen=False):
    """Everything that is remembered of one cluster."""

    version: int = 1
    cluster: str
    saved_at: Instant | None = None
    looked_wide_at: Instant | None = None  # at what is asked every five minutes
    timeline: Timeline | None = None
    samples: list[Sample] = Field(default_factory=list)
    wal: WalMemory = Field(default_factory=WalMemory)
    needed: Needed | None = None

    def add(self, sample: Sample) -> None:
        """Remember where the primary's WAL is; another timeline or an earlier place begins anew."""
        last = self.samples[-1] if self.samples else None
        if last and (sample.timeline != last.timeline or sample.lsn < last.lsn):
            self.samples = []
        self.timeline = sample.timeline
        self.samples = [
            one for one in self.samples if sample.at - LONGEST <= one.at < sample.at
        ] + [sample]
        if len(self.samples) > MOST_SAMPLES:
            self.samples = thinned(self.samples)


def thinned(samples: list[Sample]) -> list[Sample]:
    """Return the newer half of the samples, and of the older every other one."""
    half = len(samples) // 2
    return [*samples[:half:2], *samples[half:]]


@dataclass(frozen=True, slots=True)
class Begun:
    """When the first transaction behind a position was committed, as far as looks tell.

    ``earliest``: the last look that saw none of it; None: no look is that old. ``latest``: the
    first that did; None: no look has. ``about``: between them, as far as the WAL had come.
    """

    earliest: datetime | None
    latest: datetime | None
    about: datetime | None


def begun_behind(samples: list[Sample], lsn: int) -> Begun:
    """Return when work behind a position began. What committed nothing is no work."""
    before = [one for one in samples if one.lsn <= lsn]
    if not before:
        first = samples[0].at if samples else None
        return Begun(None, first, first)
    quiet = [one for one in samples if one.next_xid == before[-1].next_xid][-1]
    after = next((one for one in samples if one.at > quiet.at), None)
    if after is None:
        return Begun(quiet.at, None, None)
    share = (lsn - quiet.lsn) / (after.lsn - quiet.lsn) if after.lsn > quiet.lsn else 0.0
    between = (after.at - quiet.at) * min(1.0, max(0.0, share))
    return Begun(quiet.at, after.at, quiet.at + between)


def bytes_a_second(samples: list[Sample], least: timedelta) -> float | None:
    """Return by how much the WAL directory grows; None without two looks that far apart."""
    known = [one for one in samples if one.wal_directory_bytes is not None]
    if not known or known[-1].at - known[0].at < least:
        return None
    first = next(one for one in reversed(known) if known[-1].at - one.at >= least)
    grown = (known[-1].wal_directory_bytes or 0) - (first.wal_directory_bytes or 0)
    return grown / (known[-1].at - first.at).total_seconds()


def read_memory(reports: Storage, cluster: str) -> Memory:
    """Read what is remembered; of what cannot be read nothing is.

    Raises where the store does not answer.
    """
    text = reports.read(KEY)
    if text is None:
        return Memory(cluster=cluster)
    try:
        found = read_model(Memory, text)
    except (ValueError, PgdrillError) as error:
        logger.warning("%s/%s is passed over: %s", reports.url, KEY, error)
        return Memory(cluster=cluster)
    ordered = all(one.at < other.at for one, other in pairwise(found.samples))
    return found if found.cluster == cluster and ordered else Memory(cluster=cluster)


def write_memory(reports: Storage, memory: Memory) -> None:
    """Keep what is remembered."""
    reports.write(KEY, memory.model_dump_json().encode())
