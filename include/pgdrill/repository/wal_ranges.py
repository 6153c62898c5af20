"""Archived WAL as runs of consecutive segments: five million names become a few arrays."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES, Segment, TimelineSwitch

NAME_DIGITS = 24
Position = tuple[int, int]  # timeline and segment number: the order of segments' names

_LOW_NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
_ONES = np.uint64(0x0101010101010101)


@dataclass(frozen=True, slots=True)
class Run:
    """The segments ``first`` to ``last`` of a timeline, both there and all between.

    ``stored_bytes`` is of all of them together.
    """

    timeline: int
    first: int
    last: int
    stored_bytes: int = 0

    @property
    def count(self) -> int:
        """The number of segments."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Wal:
    """The archived WAL: runs in the order of names, and the ancestors of each timeline.

    A timeline's ancestors are as its history file tells.
    """

    runs: tuple[Run, ...] = ()
    histories: Mapping[int, tuple[TimelineSwitch, ...]] = field(default_factory=dict)
    segment_bytes: int = DEFAULT_SEGMENT_BYTES

    def segment_of(self, lsn: int) -> int:
        """Return the number of the segment that holds a byte."""
        return lsn // self.segment_bytes

    def name(self, position: Position) -> str:
        """Return a segment's file name."""
        return Segment(*position, self.segment_bytes).name

    @cached_property
    def _by_timeline(self) -> dict[int, list[Run]]:
        found: dict[int, list[Run]] = defaultdict(list)
        for run in self.runs:
            found[run.timeline].append(run)
        return found

    def on(self, timeline: int) -> Sequence[Run]:
        """Return the runs of a timeline, first ones first."""
        return self._by_timeline.get(timeline, [])

    def holds(self, timeline: int, first: int, last: int) -> bool:
        """Return whether every segment of a timeline from ``first`` through ``last`` is there."""
        runs = self.on(timeline)
        place = bisect.bisect_right(runs, first, key=lambda run: run.first) - 1
        return place >= 0 and last <= runs[place].last

    @property
    def count(self) -> int:
        """The number of segments."""
        return sum(run.count for run in self.runs)

    @property
    def stored_bytes(self) -> int:
        """The bytes that they take in the repository."""
        return sum(run.stored_bytes for run in self.runs)

    def path(self, timeline: int) -> tuple[TimelineSwitch, ...]:
        """Return the timelines to be followed up to ``timeline``.

        Each comes with the position where it ends; the last one never ends.
        """
        return (*self.histories.get(timeline, ()), TimelineSwitch(timeline, 1 << 64))

    def without(self, gone: Iterable[Run]) -> Wal:
        """Return the WAL that is left when ``gone`` is deleted.

        Bytes of a part of a run are taken in proportion.
        """
        return replace(self, runs=tuple(subtract(self.runs, gone)))


def parse_wal(
    sizes: Mapping[str, int], segment_bytes: int = DEFAULT_SEGMENT_BYTES
) -> tuple[Run, ...]:
    """Return the runs of plain names with their stored bytes; history files are left out.

    Linear, but for one sort. Empty objects count as missing: no segment can be read from them.
    """
    names = [name for name in sizes if len(name) == NAME_DIGITS]
    values = sizes.values() if len(names) == len(sizes) else (sizes[name] for name in names)
    stored = np.fromiter(values, dtype=np.int64, count=len(names))
    timelines, numbers = _positions(names, segment_bytes)
    filled = stored > 0
    timelines, numbers, stored = timelines[filled], numbers[filled], stored[filled]
    if not len(stored):
        return ()
    ordered = (timelines[1:] > timelines[:-1]) | (
        (timelines[1:] == timelines[:-1]) & (numbers[1:] > numbers[:-1])
    )
    if not ordered.all():  # stores list by name, mostly
        order = np.lexsort((numbers, timelines))
        timelines, numbers, stored = timelines[order], numbers[order], stored[order]
    breaks = (timelines[1:] != timelines[:-1]) | (numbers[1:] != numbers[:-1] + 1)
    starts = np.concatenate(([0], np.flatnonzero(breaks) + 1))
    ends = np.concatenate((starts[1:], [len(numbers)]))
    sums = np.add.reduceat(stored, starts)
    return tuple(
        Run(int(timelines[a]), int(numbers[a]), int(numbers[b - 1]), int(total))
        for a, b, total in zip(starts, ends, sums, strict=True)
    )


def _positions(names: list[str], segment_bytes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return timelines and segment numbers; hexadecimal digits are read eight at a time."""
    words = np.frombuffer("".join(names).encode("ascii"), dtype=">u8").reshape(-1, 3)
    timeline, high, low = (_hexadecimal(words[:, column].astype(np.uint64)) for column in range(3))
    return timeline.astype(np.int64), (high * np.uint64(0x100000000 // segment_bytes) + low).astype(
        np.int64
    )


def _hexadecimal(text: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return numbers from eight digits each (``0`` to ``9``, ``A`` to ``F``).

    The digits are the bytes of a word, highest first.
    """
    digits = (text & _LOW_NIBBLES) + np.uint64(9) * ((text >> np.uint64(6)) & _ONES)
    for shift, mask in ((4, 0x00FF00FF00FF00FF), (8, 0x0000FFFF0000FFFF), (16, 0x00000000FFFFFFFF)):
        digits |= digits >> np.uint64(shift)
        digits &= np.uint64(mask)
    return digits


def subtract(runs: Iterable[Run], cuts: Iterable[Run]) -> Iterator[Run]:
    """Yield the segments of ``runs`` that are in none of ``cuts``.

    Both are gone through once, in order.
    """
    waiting = sorted(cuts, key=lambda cut: (cut.timeline, cut.first))
    place = 0
    for run in sorted(runs, key=lambda it: (it.timeline, it.first)):
        first = run.first
        while place < len(waiting) and (waiting[place].timeline, waiting[place].last) < (
            run.timeline,
            first,
        ):
            place += 1
        ahead = place
        while ahead < len(waiting) and (waiting[ahead].timeline, waiting[ahead].first) <= (
            run.timeline,
            run.last,
        ):
            if first < waiting[ahead].first:
                yield part(run, first, waiting[ahead].first - 1)
            first = max(first, waiting[ahead].last + 1)
            ahead += 1
        if first <= run.last:
            yield part(run, first, run.last)


def part(run: Run, first: int, last: int) -> Run:
    """Return a part of a run, its bytes in proportion."""
    return Run(run.timeline, first, last, run.stored_bytes * (last - first + 1) // run.count)


def below(wal: Wal, cut: Position, keep: Iterable[Run]) -> tuple[Run, ...]:
    """Return the segments before ``cut`` in the order of names, but for those of ``keep``."""
    timeline, number = cut
    gone = (
        part(run, run.first, min(run.last, number - 1)) if run.timeline == timeline else run
        for run in wal.runs
        if run.timeline < timeline or (run.timeline == timeline and run.first < number)
    )
    return tuple(subtract(gone, keep))
