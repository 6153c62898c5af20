"""A short probe of what bounds a fetch: how fast the store gives, how fast the disk takes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from pgdrill.repository.object_store import Storage

PIECE_BYTES = 4 * 2**20
PROBE_SECONDS = 2.0
DISK_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Probe:
    """Bytes per second from the store and onto the disk.

    From the store: with ``streams`` requests at once, and with twice as many.
    """

    streams: int
    store: float
    store_doubled: float
    disk: float


def probe(repository: Storage, objects: dict[str, int], folder: Path, streams: int) -> Probe:
    """Read a backup's objects for a few seconds, then write and sync a file in ``folder``.

    ``objects``: key -> bytes; the largest are read first.
    """
    keys = sorted(objects, key=lambda key: -objects[key])
    return Probe(
        streams,
        _read(repository, keys, streams),
        _read(repository, keys, 2 * streams),
        _write(folder),
    )


def _read(repository: Storage, keys: Sequence[str], streams: int) -> float:
    """Measure the bytes per second with so many requests at once.

    Whole objects are read, as a tool reads them: not every store serves ranges.
    """
    started = time.monotonic()
    deadline = started + PROBE_SECONDS

    def read(first: int) -> int:
        total = 0
        for key in islice(cycle(keys), first % len(keys), None):
            for piece in repository.chunks(key, PIECE_BYTES) or ():
                total += len(piece)
                if time.monotonic() > deadline:
                    return total
            if time.monotonic() > deadline:
                return total
        return total

    with ThreadPoolExecutor(streams) as pool:
        total = sum(pool.map(read, range(streams)))
    return total / (time.monotonic() - started)


def _write(folder: Path) -> float:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f".probe-{os.getpid()}"
    block = os.urandom(2**20)
    started = time.monotonic()
    try:
        with file.open("wb") as out:
            for _ in range(DISK_BYTES // len(block)):
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        return DISK_BYTES / (time.monotonic() - started)
    finally:
        file.unlink(missing_ok=True)
