"""The number of streams and the size of parts, chosen from the machine, the store and the cluster.

Each comes with its reason. Measured on two cores: to a store nearby, as many streams as cores are
best and more cost a little; a store that answers slowly wants several requests on their way for
each core. A fetch wants as many even from a store nearby, for it waits for the disk with every file
that it makes. One part is one stream, so a small database in a single part cannot be fetched in
parallel at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

NEAR_SECONDS = 0.005  # a store on this host, or in the same rack
STREAMS_PER_CORE = 4  # where each is waiting most of the time
MOST_STREAMS = 64
# Without this, numpy's linear algebra starts a thread for each core, which spins for a while: a
# third of a small process's start, for nothing.
NO_THREADS = {"OPENBLAS_NUM_THREADS": "1"}
PARTS_PER_STREAM = 4  # so that the last one does not leave the other streams idle for long
SMALLEST_PART_BYTES = 32 * 2**20
LARGEST_PART_BYTES = 2**30 - 1  # wal-g's own


@dataclass(frozen=True, slots=True)
class Tuning:
    """The figures for a backup, with their reasons."""

    streams: int  # to the store
    readers: int  # of the data directory
    part_bytes: int  # before compression
    reasons: tuple[str, ...] = ()


def memory_bytes() -> int:
    """Return the size of this host's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cores() -> int:
    """Return how many cores this process may use: a container may have fewer than the machine."""
    return len(os.sched_getaffinity(0))


def tune(
    *,
    cores: int,
    latency_seconds: float,
    cluster_bytes: int = 0,
    streams: int = 0,
    part_bytes: int = 0,
) -> Tuning:
    """Choose the figures for a backup.

    ``streams`` and ``part_bytes`` from the configuration are taken as they are. 0: unknown or not
    set.
    """
    near = latency_seconds <= NEAR_SECONDS
    answer = f"the store answers in {1000 * latency_seconds:.1f} ms"
    if streams:
        why = "configured"
    elif near:
        streams, why = cores, f"one for each of {cores} cores, for {answer}"
    else:
        streams = min(MOST_STREAMS, STREAMS_PER_CORE * cores)
        why = f"{STREAMS_PER_CORE} for each of {cores} cores, for {answer}"
    if part_bytes:
        part_why = "configured"
    elif not cluster_bytes:
        part_bytes, part_why = LARGEST_PART_BYTES, "the cluster's size is not known"
    else:
        wanted = cluster_bytes // (PARTS_PER_STREAM * streams)
        part_bytes = min(LARGEST_PART_BYTES, max(SMALLEST_PART_BYTES, wanted))
        part_why = (
            f"{cluster_bytes / 1e6:.0f} MB for {streams} streams, {PARTS_PER_STREAM} parts each, if"
            " they get that large"
        )
    return Tuning(
        streams,
        cores,
        part_bytes,
        (f"{streams} streams: {why}", f"parts of {part_bytes / 2**20:.0f} MiB: {part_why}"),
    )


def fetch_streams(*, cores: int, streams: int = 0) -> tuple[int, str]:
    """Return how many streams to fetch a base backup with, and why.

    ``streams`` from the configuration is taken as it is.
    """
    if streams:
        return streams, f"{streams} streams: configured"
    chosen = min(MOST_STREAMS, STREAMS_PER_CORE * cores)
    return (
        chosen,
        (
            f"{chosen} streams: {STREAMS_PER_CORE} for each of {cores} cores, for each waits for"
            " the store and the disk by turns"
        ),
    )
