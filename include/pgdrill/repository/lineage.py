"""The lineage of backups: whose clock to believe, which cluster is meant.

It also tells which timelines lead to now.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from pgdrill.postgres.wal import TimelineSwitch
from pgdrill.repository.tools.base import BaseBackup
from pgdrill.repository.wal_ranges import Wal

Kind = TypeVar("Kind", bound=BaseBackup)
CLOCK_TOLERANCE = timedelta(minutes=5)


def doubtful_clocks(
    backups: Iterable[BaseBackup], now: datetime, doubted: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the backups whose times cannot be right -> why.

    Who was ``doubted`` once stays so: the witnesses may be deleted since.

    Within a timeline LSN and time grow together. Where they do not, those are doubted that some
    longest consistent ordering can do without: one wrong clock makes one doubtful backup, two
    exchanged ones make two.
    """
    doubts: dict[str, str] = dict(doubted or {})
    lines: dict[tuple[int, int, int], list[BaseBackup]] = defaultdict(list)
    for backup in backups:
        if backup.name in doubts:
            continue
        if backup.start_time > now + CLOCK_TOLERANCE or backup.finish_time > now + CLOCK_TOLERANCE:
            doubts[backup.name] = "its time is in the future"
        elif backup.finish_time < backup.start_time:
            doubts[backup.name] = "it ends before it starts"
        else:
            lines[*backup.system, backup.timeline].append(backup)
    for line in lines.values():
        line.sort(key=lambda backup: (backup.start_lsn, backup.start_time))
        times = [backup.start_time.timestamp() for backup in line]
        up = _longest_ending_at(times)
        down = _longest_ending_at([-time for time in reversed(times)])[::-1]
        longest = max(up)
        ranks = Counter(u for u, d in zip(up, down, strict=True) if u + d - 1 == longest)
        for backup, u, d in zip(line, up, down, strict=True):
            if u + d - 1 != longest or ranks[u] > 1:
                doubts[backup.name] = "its time contradicts its place in the WAL"
    return doubts


def _longest_ending_at(values: Sequence[float]) -> list[int]:
    """Return for each value the length of the longest non-decreasing subsequence that ends there.

    O(n log n).
    """
    tails: list[float] = []
    lengths = []
    for value in values:
        place = bisect.bisect_right(tails, value)
        tails[place : place + 1] = [value]
        lengths.append(place + 1)
    return lengths


def current_system(backups: Iterable[BaseBackup], known: int | None) -> tuple[int, int] | None:
    """The system identifier and major version that are meant: production's identifier where
    ``known``, else the newest backup's.
    """
    candidates = [backup for backup in backups if not known or backup.system_identifier == known]
    return max(candidates, key=lambda backup: backup.start_time).system if candidates else None


def current_paths(
    wal: Wal,
    backups: Sequence[BaseBackup],
    *,
    production: int | None = None,
    likely: int | None = None,
) -> list[tuple[TimelineSwitch, ...]]:
    """Return the timelines that may lead to now, the likeliest first.

    That of ``production`` is known where it could be asked, and ``likely`` what is known without
    it. Else it is on the highest archived timeline that some backup leads to, for their numbers
    only grow. If the newest backup is not on that way, both ways count: either production was
    restored to an earlier time and has not been backed up since, or somebody's clone archives into
    this repository.
    """
    if not backups:
        return []
    newest = max(backups, key=lambda backup: backup.start_time)
    archived = sorted({run.timeline for run in wal.runs} | {newest.timeline}, reverse=True)
    led_to = [
        line for line in archived if any(on_path(backup, wal.path(line)) for backup in backups)
    ]
    first = production if production in led_to else led_to[0]
    paths = [wal.path(line) for line in dict.fromkeys((first, newest.timeline))]
    paths = paths[:1] if on_path(newest, paths[0]) else paths
    # both count: whose end the highest is cannot be told
    if likely in led_to and production is None:
        paths = [wal.path(likely), *(path for path in paths if path[-1].timeline != likely)]
    return paths


def foreign_timelines(wal: Wal, paths: Sequence[Sequence[TimelineSwitch]]) -> list[int]:
    """Return the archived timelines that do not lead to now.

    They were abandoned by a restore, or archived by a clone. None where nothing leads to now.
    """
    leading = {line.timeline for path in paths for line in path}
    return sorted({run.timeline for run in wal.runs} - leading) if leading else []


def on_path(backup: BaseBackup, path: Sequence[TimelineSwitch]) -> bool:
    """Return whether recovery along these timelines passes through the end of a backup."""
    return any(
        line.timeline == backup.timeline and backup.finish_lsn <= line.switch_lsn for line in path
    )


@dataclass(frozen=True, slots=True)
class Stretch(Generic[Kind]):
    """Unbroken WAL along a path, from segment ``first`` to ``end_lsn``, and the backups in it.

    They are those whose own WAL lies in it, oldest first.

    Every instant from the end of its first backup on can be restored.
    """

    first: int
    end_lsn: int
    backups: tuple[Kind, ...]


def stretches(
    wal: Wal, path: Sequence[TimelineSwitch], backups: Iterable[Kind]
) -> list[Stretch[Kind]]:
    """Return what can be restored along a path, between the gaps.

    Stretches without a backup to begin with are none.
    """
    way = sorted(
        (backup for backup in backups if on_path(backup, path)), key=lambda backup: backup.start_lsn
    )
    if not way:
        return []
    size = wal.segment_bytes
    missing = gaps(wal, path, way[0].start_lsn)
    begins = [wal.segment_of(way[0].start_lsn), *(last + 1 for _, last in missing)]
    ends = [*(_end_before(wal, path, first) for first, _ in missing), end_of(wal, path)]
    found = []
    for begin, end in zip(begins, ends, strict=True):
        inside = tuple(
            backup
            for backup in way
            if begin * size <= backup.start_lsn and backup.finish_lsn <= end
        )
        if inside:
            found.append(Stretch(begin, end, inside))
    return found


def end_of(wal: Wal, path: Sequence[TimelineSwitch]) -> int:
    """Return the position after the newest archived segment of a path."""
    size = wal.segment_bytes
    return max(
        (
            min((run.last + 1) * size, line.switch_lsn)
            for line in path
            for run in wal.on(line.timeline)
        ),
        default=0,
    )


def _end_before(wal: Wal, path: Sequence[TimelineSwitch], gap: int) -> int:
    """Return how far WAL can be read before a missing segment.

    It can be read into that segment where only the new timeline's file of it is missing.
    """
    held = (
        line.switch_lsn
        for line in path
        if wal.segment_of(line.switch_lsn) == gap and wal.holds(line.timeline, gap, gap)
    )
    return max(held, default=gap * wal.segment_bytes)


def gaps(wal: Wal, path: Sequence[TimelineSwitch], start_lsn: int) -> list[tuple[int, int]]:
    """Return the missing segment numbers (first, last) along a path, from ``start_lsn`` on.

    They are looked for up to the newest segment.

    The segment in which timelines change is the new timeline's: only its file has what comes after
    the change.
    """
    present: list[tuple[int, int]] = []
    began = 0
    for line in path:
        last = line.switch_lsn // wal.segment_bytes - 1
        first = began // wal.segment_bytes
        present += [
            (max(run.first, first), min(run.last, last))
            for run in wal.on(line.timeline)
            if run.first <= last and run.last >= first
        ]
        began = line.switch_lsn
    found = []
    reached = wal.segment_of(start_lsn)
    for first, last in sorted(present):
        if first > reached:
            found.append((reached, first - 1))
        reached = max(reached, last + 1)
    if not present and path:
        found.append((reached, reached))
    return found
