"""The continuity of archived WAL, from listings: pure, however many segments there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgdrill.health.memory import Needed, WalMemory
from pgdrill.postgres.wal import TimelineSwitch
from pgdrill.repository.lineage import end_of, gaps
from pgdrill.repository.wal_ranges import Position, Run, Wal, parse_wal, subtract

LAST_SEGMENT = 2**63 - 1
# Segments are pushed several at a time, and a later one may be there first.
ON_THEIR_WAY = 64
ROUND = timedelta(hours=20)  # for listing everything once: within a day, whatever comes between
FEWEST = 10_000  # names in a step: ten requests
FIRST_ROUND = 100_000  # the same, as long as everything has not been listed once

Triple = tuple[int, int, int]


def runs_of(triples: Iterable[Triple]) -> list[Run]:
    """Return remembered runs as runs."""
    return [Run(*one) for one in triples]


def merged(runs: Iterable[Run]) -> list[Triple]:
    """Return runs in order, those that touch or overlap as one."""
    found: list[Triple] = []
    for run in sorted(runs, key=lambda one: (one.timeline, one.first)):
        if found and found[-1][0] == run.timeline and run.first <= found[-1][2] + 1:
            found[-1] = (run.timeline, found[-1][1], max(found[-1][2], run.last))
        else:
            found.append((run.timeline, run.first, run.last))
    return found


def between(after: Position, to: Position | None, timelines: Iterable[int]) -> list[Run]:
    """Return all segments behind ``after`` up to ``to`` (None: to the end), on some timelines."""
    last = to or (2**32, LAST_SEGMENT)
    return [
        Run(
            line,
            after[1] + 1 if line == after[0] else 0,
            last[1] if line == last[0] else LAST_SEGMENT,
        )
        for line in sorted({*timelines, after[0]})
        if after[0] <= line <= last[0]
    ]


def take_listing(
    memory: WalMemory, sizes: Mapping[str, int], after: Position, to: Position | None
) -> None:
    """Take what a listing of a stretch of names shows into the memory.

    What was known in that stretch and is not listed is ``gone``; what is listed again is not.
    """
    listed = parse_wal(sizes, memory.segment_bytes)
    known = runs_of(memory.runs)
    stretch = between(after, to, {run.timeline for run in (*known, *listed)})
    outside = list(subtract(known, stretch))
    inside = list(subtract(known, outside))
    vanished = subtract(inside, listed)
    memory.runs = merged([*outside, *listed])
    memory.gone = merged(subtract([*runs_of(memory.gone), *vanished], listed))


def wal_of(memory: WalMemory) -> Wal:
    """Return the WAL that is remembered."""
    histories = {
        line: tuple(TimelineSwitch(*one) for one in switches)
        for line, switches in memory.histories.items()
    }
    return Wal(tuple(runs_of(memory.runs)), histories, memory.segment_bytes)


@dataclass(frozen=True, slots=True)
class Missing:
    """A run of segments that backups need and that is not there."""

    first: str
    last: str
    count: int
    lsn: int
    was_there: bool


def missing(memory: WalMemory, timeline: int, needed: Needed | None) -> list[Missing]:
    """Return what is missing of the WAL that backups need, along production's timelines.

    Without backups all that is there is needed.
    """
    wal = wal_of(memory)
    path = wal.path(timeline)
    if not wal.runs:
        return []
    first = min(run.first for line in path for run in wal.on(line.timeline) or wal.runs)
    start = needed.start_lsn if needed else first * wal.segment_bytes
    gone = [run for run in runs_of(memory.gone) if run.timeline in {one.timeline for one in path}]
    lacking = [
        Run(_line_at(path, number * wal.segment_bytes), number, last)
        for number, last in gaps(wal, path, start)
    ]
    # at the end nothing comes after what was deleted
    end = end_of(wal, path) // wal.segment_bytes
    lacking += [run for run in gone if run.timeline == timeline and run.first >= end]
    lacking += list(subtract(runs_of(needed.own if needed else ()), wal.runs))
    return [
        Missing(
            wal.name((one.timeline, one.first)),
            wal.name((one.timeline, one.last)),
            one.count,
            one.first * wal.segment_bytes,
            list(subtract([one], gone)) != [one],
        )
        for one in lacking
    ]


def _line_at(path: Sequence[TimelineSwitch], lsn: int) -> int:
    return next(line.timeline for line in path if lsn < line.switch_lsn)


def settled(
    memory: WalMemory, found: Sequence[Missing], now: datetime, grace: timedelta
) -> list[Missing]:
    """Return what is certainly missing: it was there, lies far back, or is late.

    The others may be on their way. When each was first missed is remembered.
    """
    memory.missing_since = {one.first: memory.missing_since.get(one.first, now) for one in found}
    newest = max((last for _, _, last in memory.runs), default=0)
    return [
        one
        for one in found
        if one.was_there
        or one.lsn // memory.segment_bytes < newest - ON_THEIR_WAY
        or now - memory.missing_since[one.first] > grace
    ]


def step_size(memory: WalMemory, now: datetime) -> int:
    """Return how many names to list now, so that all are listed in a round."""
    if memory.whole_at is None:
        return FIRST_ROUND
    total = sum(last - first + 1 for _, first, last in memory.runs)
    since = now - memory.swept_at if memory.swept_at else ROUND
    return max(FEWEST, int(total * max(since, timedelta(0)) / ROUND) + 1)


def archived_end(memory: WalMemory, timeline: int, needed: Needed | None) -> int | None:
    """Return the position up to which archived WAL is unbroken from the newest backup on."""
    wal = wal_of(memory)
    path = wal.path(timeline)
    end = end_of(wal, path)
    if not end:
        return None
    start = needed.newest_lsn if needed else end - 1
    broken = gaps(wal, path, start)
    return min(end, broken[0][0] * wal.segment_bytes) if broken else end
