"""A short probe of what bounds a fetch: how fast the store gives, how fast the disk takes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import obstore

from pgdrill.storage import Storage

PIECE_BYTES = 4 * 2**20
PROBE_SECONDS = 2.0
DISK_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Probe:
    """Bytes per second: from the store with ``streams`` requests at once and with twice as many, and onto the disk."""

    streams: int
    store: float
    store_doubled: float
    disk: float


def probe(repository: Storage, objects: dict[str, int], folder: Path, streams: int) -> Probe:
    """Read pieces of a backup's objects for a few seconds, then write and sync a file in ``folder``."""
    pieces = [(key, start, size) for key, size in objects.items() for start in range(0, size, PIECE_BYTES)]
    return Probe(streams, _read(repository, pieces, streams), _read(repository, pieces, 2 * streams), _write(folder))


def _read(repository: Storage, pieces: Sequence[tuple[str, int, int]], streams: int) -> float:
    """Bytes per second. A piece is an object's key, where it starts, and the object's size."""
    deadline = time.monotonic() + PROBE_SECONDS
    started = time.monotonic()

    def read(piece: tuple[str, int, int]) -> int:
        if time.monotonic() > deadline:
            return 0
        key, start, size = piece
        if size <= PIECE_BYTES:  # some stores answer a range that is the whole object as if none had been asked for
            return len(obstore.get(repository.store, key).bytes())
        return len(obstore.get_range(repository.store, key, start=start, end=min(start + PIECE_BYTES, size)))

    with ThreadPoolExecutor(streams) as pool:
        # As many as would take longer than the deadline, whatever the store: each worker stops at the deadline.
        total = sum(pool.map(read, islice(cycle(pieces), 4096)))
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
