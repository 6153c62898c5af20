"""The parts of a drill, from its report: what of each is fixed, and what grows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pgdrill.reports.forecast.model import Load, Part, Sample
from pgdrill.reports.model import ColumnChecked, Report, Timings

# share of the segments: with fewer, the drill's own replay has waited for fetching
MOSTLY_READY = 0.5
FEWEST_ROWS = 2


def sample_of(report: Report) -> Sample | None:
    """Return a drill's parts.

    None for one that did not get to correct vector search, or that an older version measured.
    """
    times = report.timings
    needed = (
        times.fetched_bytes,
        times.wal_segments,
        times.vector_bytes,
        times.fetch_seconds,
        times.fetch_fixed_seconds,
        times.time_to_running_seconds,
        times.vector_checks_seconds,
        times.prewarm_seconds,
    )
    if (
        any(value is None for value in needed)
        or times.time_to_correct_vector_search_seconds is None
        or not times.columns
    ):
        return None
    size, segments, vectors, fetch, fixed, running, checks, prewarm = (
        float(value or 0) for value in needed
    )
    sync, redo = times.sync_seconds or 0.0, redo_part(times)
    start = Part(fixed=max(0.0, running - fetch - sync - redo.growing))
    # the same bytes are fetched and synced, so both divide alike
    files = min(1.0, fixed / fetch) if fetch else 0.0
    reading = min(prewarm, times.prewarm_reading_seconds or prewarm)
    parts = {
        "start": start,
        "fetch": Part(fetch * files, fetch * (1 - files)),
        "sync": Part(sync * files, sync * (1 - files)),
        "redo": redo,
        "prewarm": Part(prewarm - reading, reading),
        "vectors": checks_part(checks, times.looking_seconds or 0.0, times.columns),
    }
    return Sample(Load(size, segments, vectors), parts)


def redo_part(times: Timings) -> Part:
    """Return the part of replay with the checkpoint after it.

    Segments that lay ready say nothing of what fetching the others will take.
    """
    redo = (times.redo_seconds or 0.0) + (times.checkpoint_seconds or 0.0)
    segments, wal = times.wal_segments or 0, times.wal
    if (
        not segments
        or wal is None
        or not wal.segments
        or wal.ready_segments < MOSTLY_READY * segments
    ):
        return Part(growing=redo)
    # Read beside the base's fetch, which takes the cores, too. Alone it is quicker, at best as
    # quick as its CPU seconds.
    reading = (
        wal.reading_seconds
        if wal.by_tool > wal.by_reader
        else (wal.reading_seconds + wal.reading_cpu_seconds) / 2
    )
    # Where all lay ready, more would have, up to what the spool holds.
    ready = max(wal.ready_segments, wal.ahead_segments if wal.ready_segments >= wal.segments else 0)
    return Part(
        growing=redo,
        from_factor=max(1.0, ready / segments),
        beside=reading / wal.segments * segments,
    )


def checks_part(checks: float, looking: float, columns: Sequence[ColumnChecked]) -> Part:
    """Return the part of the vector checks.

    Reading grows with the rows, and so does scanning an IVFFlat list; an HNSW search grows with
    their logarithm.
    """
    worked = sum(column.seconds for column in columns)
    if worked <= 0:
        return Part(growing=checks)
    at_once = max(1.0, worked / looking) if looking else 1.0
    growing = doubling = 0.0
    for column in columns:
        growing += column.read_seconds
        if column.method == "hnsw":
            doubling += column.search_seconds / math.log2(max(FEWEST_ROWS, column.rows))
        else:
            growing += column.search_seconds
    growing, doubling = growing / at_once, doubling / at_once
    return Part(max(0.0, checks - growing), growing, doubling)
