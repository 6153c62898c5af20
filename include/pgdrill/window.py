"""The instants that can be restored now: base backups, the WAL behind them, and the gaps in it.

WAL is followed along one line of timelines: production's own and its ancestors. What was archived on a branch that
nobody follows any more can be restored, too, but is no instant of production.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pgdrill.access import Access
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES, Segment, TimelineSwitch, segments_needed
from pgdrill.process import Runner
from pgdrill.tools import BaseBackup
from pgdrill.waldump import ended_transactions
from pgdrill.walfiles import fetch_wal_file

logger = logging.getLogger(__name__)

LOOK_BACK = 16  # segments without the end of a transaction, from the end of a run: more is a very quiet server
TICK = timedelta(microseconds=1)  # PostgreSQL's times have no finer one


@dataclass(frozen=True, slots=True)
class Line:
    """The timeline that recovery follows, with its ancestors."""

    timeline: int
    history: tuple[TimelineSwitch, ...] = ()
    segment_bytes: int = DEFAULT_SEGMENT_BYTES

    @property
    def ends(self) -> dict[int, int]:
        """Where each timeline of the line is left: timeline -> LSN."""
        return {self.timeline: 1 << 64, **{switch.timeline: switch.switch_lsn for switch in self.history}}

    def files(self, start_lsn: int, stop_lsn: int) -> Iterator[tuple[Segment, ...]]:
        """The files that hold each segment of a range, best first."""
        return segments_needed(start_lsn, stop_lsn, self.timeline, self.history, self.segment_bytes)


@dataclass(frozen=True, slots=True)
class Run:
    """Archived WAL without a gap, and the base backups that replay of it can begin from."""

    segments: tuple[Segment, ...]
    backups: tuple[BaseBackup, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Instants that can all be restored, by the server's clock: ``start`` is the end of a base backup; ``end`` is that of
    the last archived transaction, and no instant of the span itself, for recovery needs a later one to stop at."""

    start: datetime
    end: datetime
    start_lsn: int
    end_lsn: int
    backups: tuple[BaseBackup, ...]
    allowance: timedelta = timedelta(0)

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def backup_for(self, instant: datetime) -> BaseBackup:
        """The newest of its backups that had finished by then, whichever clock it was that said so."""
        finished = [backup for backup in self.backups if backup.finish_time + self.allowance <= instant]
        return max(finished or self.backups[:1], key=lambda backup: backup.finish_time)

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M:%S} to {self.end:%Y-%m-%d %H:%M:%S} UTC"


def runs(backups: Sequence[BaseBackup], archived: Mapping[str, int], line: Line) -> list[Run]:
    """Every unbroken run of segments that holds at least one base backup whole, oldest first.

    ``archived`` names what the repository holds, with its stored bytes: an empty object is a gap.
    """
    usable = [backup for backup in backups if backup.finish_lsn <= line.ends.get(backup.timeline, 0)]
    numbers = [s.number for s in _segments(archived, line) if s.timeline in line.ends]
    if not usable or not numbers:
        return []
    first = min(backup.start_lsn for backup in usable)
    found, current = [], list[Segment]()
    for choices in line.files(first, (max(numbers) + 1) * line.segment_bytes - 1):
        kept = [segment for segment in choices if archived.get(segment.name)]
        if kept:
            current.append(kept[0])
        # Only the new timeline's file goes on after a switch; the old one's ends the run.
        if not kept or kept[0] != choices[0]:
            found.append(current)
            current = []
    made = (_run(segments, usable) for segments in (*found, current) if segments)
    return [run for run in made if run.backups]


def _segments(archived: Mapping[str, int], line: Line) -> Iterator[Segment]:
    return (Segment.parse(name, line.segment_bytes) for name in archived if not name.endswith(".history"))


def _run(segments: list[Segment], backups: Sequence[BaseBackup]) -> Run:
    size = segments[0].size_bytes
    first, last = segments[0].start_lsn, segments[-1].start_lsn + size
    whole = [backup for backup in backups if first <= backup.start_lsn and backup.finish_lsn <= last]
    return Run(tuple(segments), tuple(sorted(whole, key=lambda backup: backup.finish_time)))


def restorable(
    access: Access, runner: Runner, folder: Path, line: Line, *, allowance: timedelta, since: datetime
) -> list[Span]:
    """The spans of instants after ``since`` that can be restored now, oldest first; segments are read in ``folder``.

    ``allowance`` is how much later than it says a backup may have finished by the server's clock.
    """
    archived = access.tool.wal(access.repository)
    spans = []
    for run in runs(access.tool.backups(access.repository), archived, line):
        start = max(run.backups[0].finish_time + allowance, since)
        end = last_end(access, runner, folder, run.segments)
        if end is None or end <= start:
            logger.info("no instant can be restored from %s through %s alone", run.backups[0].name, run.segments[-1].name)
            continue
        last = run.segments[-1]
        spans.append(Span(start, end, run.backups[0].finish_lsn, last.start_lsn + last.size_bytes, run.backups, allowance))
    return spans


def last_end(access: Access, runner: Runner, folder: Path, segments: Sequence[Segment]) -> datetime | None:
    """When the last transaction of a run of segments ended; None where the last ones hold none, or cannot be read."""
    for segment in reversed(segments[-LOOK_BACK:]):
        file = fetch_wal_file(access, runner, segment.name, folder)
        if file is None:
            continue
        ended = ended_transactions(access, file)
        file.unlink()
        if ended:
            return max(transaction.at for transaction in ended)
    return None


def draw(spans: Sequence[Span], seed: str) -> tuple[Span, datetime]:
    """An instant, every one of all spans as likely as any other; the same for the same seed and spans."""
    left = sum((span.length for span in spans), timedelta(0)) * random.Random(seed).random()  # noqa: S311 - to be drawn again
    for span in spans:
        if left < span.length:
            break
        left -= span.length
    return span, min(span.start + left, span.end - TICK)
