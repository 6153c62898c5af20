"""LSNs, WAL segment names and timelines, as PostgreSQL writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pgdrill.documents import whole_number

DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024
LONGEST_HISTORY = 2**20
SEGMENT_NAME = re.compile(r"[0-9A-F]{24}")
LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
HISTORY_NAME = re.compile(r"[0-9A-F]{8}\.history")
# The names that recovery may ask for.
ASKED_NAME = re.compile(r"[0-9A-F]{24}(\.[0-9A-F]{8}\.backup|\.partial)?|[0-9A-F]{8}\.history")
# Names as tools keep them: compressed or not. A backup's own history (….00000028.backup) and half a
# segment (….partial) are no segments, and must not stand in for the ones whose names they begin
# with. Nor must what wal-g notes of each (….json).
ARCHIVED_NAME = re.compile(
    r"([0-9A-F]{24}|[0-9A-F]{8}\.history)(?:\.(?!partial|backup|json$)[A-Za-z0-9_]{1,32})?"
)


def parse_lsn(text: str) -> int:
    """Return ``'0/3000028'`` as a byte position. Raises ValueError for anything else."""
    match = LSN.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:40]!r} is no LSN")
    return int(match[1], 16) << 32 | int(match[2], 16)


def format_lsn(lsn: int) -> str:
    """Return a byte position as ``'0/3000028'``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One WAL segment file."""

    timeline: int
    number: int  # counts from the start of WAL
    size_bytes: int = DEFAULT_SEGMENT_BYTES

    @classmethod
    def parse(cls, name: str, size_bytes: int = DEFAULT_SEGMENT_BYTES) -> Segment:
        """Return the segment of a 24-digit file name."""
        per_id = 0x100000000 // size_bytes
        return cls(int(name[:8], 16), int(name[8:16], 16) * per_id + int(name[16:], 16), size_bytes)

    @classmethod
    def holding(cls, lsn: int, timeline: int, size_bytes: int = DEFAULT_SEGMENT_BYTES) -> Segment:
        """Return the segment in which the byte at ``lsn`` lies."""
        return cls(timeline, lsn // size_bytes, size_bytes)

    @property
    def name(self) -> str:
        """The 24-digit file name."""
        per_id = 0x100000000 // self.size_bytes
        return f"{self.timeline:08X}{self.number // per_id:08X}{self.number % per_id:08X}"

    @property
    def start_lsn(self) -> int:
        """The position of the segment's first byte."""
        return self.number * self.size_bytes


@dataclass(frozen=True, slots=True)
class TimelineSwitch:
    """A line of a ``.history`` file: ``timeline`` ended at ``switch_lsn``."""

    timeline: int
    switch_lsn: int


def read_history(content: bytes) -> tuple[TimelineSwitch, ...]:
    """Return the ancestors that a ``.history`` file names.

    Raises ValueError for one that names none, or that PostgreSQL would not write.
    """
    if len(content) <= LONGEST_HISTORY and (history := parse_history(content.decode())):
        return history
    raise ValueError("no line of a timeline's history, or an endless one")


def parse_history(text: str) -> tuple[TimelineSwitch, ...]:
    """Return the ancestors of a timeline, oldest first.

    Raises ValueError for a line without a timeline and an LSN, or out of order. A later one may end
    earlier: recovery that stops before its timeline begins notes that place as the timeline's end.
    """
    lines = (
        line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")
    )
    found = tuple(
        TimelineSwitch(whole_number(timeline, 1, 2**32 - 1), parse_lsn(lsn))
        for timeline, lsn, *_ in lines
    )
    if any(later.timeline <= one.timeline for one, later in pairwise(found)):
        raise ValueError("timelines that do not follow one another")
    return found


def segment_choices(
    number: int,
    timeline: int,
    history: tuple[TimelineSwitch, ...] = (),
    size_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> tuple[Segment, ...]:
    """Return the files that will do for the segment of that number on the way to ``timeline``.

    The best comes first. A segment in which timelines change may be read from the new or the old
    timeline's file.
    """
    first, last = number * size_bytes, (number + 1) * size_bytes - 1
    choices, began = [], 0
    for line in (*history, TimelineSwitch(timeline, 1 << 64)):
        if began <= last and line.switch_lsn > first:
            choices.append(Segment(line.timeline, number, size_bytes))
        began = line.switch_lsn
    return tuple(reversed(choices))


def segments_needed(
    start_lsn: int,
    stop_lsn: int,
    timeline: int,
    history: tuple[TimelineSwitch, ...] = (),
    size_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> Iterator[tuple[Segment, ...]]:
    """Yield, for every segment from ``start_lsn`` through ``stop_lsn``, the files that will do.

    The best comes first.
    """
    for number in range(start_lsn // size_bytes, stop_lsn // size_bytes + 1):
        yield segment_choices(number, timeline, history, size_bytes)
