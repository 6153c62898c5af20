"""The instants that can be restored now: base backups, the WAL behind them, and the gaps in it.

WAL is followed along one line of timelines: production's own and its ancestors. What was archived
on a branch that nobody follows any more can be restored, too, but is no instant of production.
"""

from __future__ import annotations

import heapq
import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgdrill.postgres.wal import (
    DEFAULT_SEGMENT_BYTES,
    Segment,
    TimelineSwitch,
    format_lsn,
    segment_choices,
    segments_needed,
)
from pgdrill.postgres.waldump import ended_transactions
from pgdrill.repository.lineage import Stretch, stretches
from pgdrill.repository.tools import BaseBackup
from pgdrill.repository.wal_files import WalReader
from pgdrill.repository.wal_ranges import Wal, parse_wal

logger = logging.getLogger(__name__)

# segments without the end of a transaction, from the end of a run: more is a very quiet server
LOOK_BACK = 16
TICK = timedelta(microseconds=1)  # PostgreSQL's times have no finer one


@dataclass(frozen=True, slots=True)
class Line:
    """The timeline that recovery follows, with its ancestors."""

    timeline: int
    history: tuple[TimelineSwitch, ...] = ()
    segment_bytes: int = DEFAULT_SEGMENT_BYTES

    @property
    def path(self) -> tuple[TimelineSwitch, ...]:
        """The timelines, each with the position where it ends; the last one never does."""
        return (*self.history, TimelineSwitch(self.timeline, 1 << 64))

    def wal(self, archived: Mapping[str, int]) -> Wal:
        """Return archived WAL as it is looked at along this line; an empty object is a gap."""
        return Wal(
            parse_wal(archived, self.segment_bytes),
            {self.timeline: self.history},
            self.segment_bytes,
        )

    def files(self, start_lsn: int, stop_lsn: int) -> Iterator[tuple[Segment, ...]]:
        """Yield the files that hold each segment of a range, best first."""
        return segments_needed(start_lsn, stop_lsn, self.timeline, self.history, self.segment_bytes)

    def newest(self, names: Iterable[str], count: int) -> list[Segment]:
        """Return the segments that recovery along this line would take, newest first.

        They are among the archived names.
        """
        lines = {
            f"{timeline:08X}"
            for timeline in (self.timeline, *(one.timeline for one in self.history))
        }
        mine = (name for name in names if name[:8] in lines and not name.endswith(".history"))
        last = heapq.nlargest(count * len(lines), mine, key=lambda name: (name[8:], name[:8]))
        there = {Segment.parse(name, self.segment_bytes) for name in last}
        taken = (
            next((it for it in self._choices(number) if it in there), None)
            for number in sorted({segment.number for segment in there}, reverse=True)
        )
        return [segment for segment in taken if segment][:count]

    def _choices(self, number: int) -> tuple[Segment, ...]:
        return segment_choices(number, self.timeline, self.history, self.segment_bytes)


@dataclass(frozen=True, slots=True)
class Span:
    """Instants that can all be restored, by the server's clock: ``start`` is the end of a base
    backup; ``end`` is that of the last archived transaction, and no instant of the span itself, for
    recovery needs a later one to stop at.
    """

    start: datetime
    end: datetime
    backups: tuple[BaseBackup, ...]
    allowance: timedelta = timedelta(0)

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def backup_for(self, instant: datetime) -> BaseBackup:
        """Return the newest of its backups that had finished by then, whichever clock said so."""
        finished = [
            backup for backup in self.backups if backup.finish_time + self.allowance <= instant
        ]
        return max(finished or self.backups[:1], key=lambda backup: backup.finish_time)

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M:%S} to {self.end:%Y-%m-%d %H:%M:%S} UTC"


def restorable(
    reader: WalReader,
    backups: Iterable[BaseBackup],
    line: Line,
    *,
    allowance: timedelta,
    since: datetime,
) -> list[Span]:
    """The spans of instants after ``since`` that can be restored now, oldest first.

    ``allowance`` is how much later than it says a backup may have finished by the server's clock.
    """
    archived = reader.repository.wal()
    wal = line.wal(archived)
    spans = []
    for one in stretches(wal, wal.path(line.timeline), backups):
        start = max(min(backup.finish_time for backup in one.backups) + allowance, since)
        end = last_end(reader, newest_first(line, one, archived))
        if end is None or end <= start:
            logger.info(
                "no instant can be restored from %s through %s alone",
                one.backups[0].name,
                format_lsn(one.end_lsn),
            )
            continue
        spans.append(Span(start, end, one.backups, allowance))
    return spans


def newest_first(
    line: Line, stretch: Stretch[BaseBackup], archived: Mapping[str, int]
) -> Iterator[Segment]:
    """Yield the last segments of a stretch, each from the file that recovery would take."""
    last = (stretch.end_lsn - 1) // line.segment_bytes
    first = max(stretch.first, last - LOOK_BACK + 1)
    for choices in reversed([*line.files(first * line.segment_bytes, last * line.segment_bytes)]):
        yield next(segment for segment in choices if archived.get(segment.name))


def last_end(reader: WalReader, segments: Iterable[Segment]) -> datetime | None:
    """Return when the last transaction of some segments, newest first, ended.

    None where they hold none, or cannot be read.
    """
    for segment in segments:
        file = reader.fetch(segment.name)
        if file is None:
            continue
        ended = ended_transactions(reader.binaries, file)
        file.unlink()
        if ended:
            return max(transaction.at for transaction in ended)
    return None


def draw(spans: Sequence[Span], seed: str) -> tuple[Span, datetime]:
    """Draw an instant, every one of all spans as likely as any other.

    It is the same for the same seed and spans.
    """
    left = sum((span.length for span in spans), timedelta(0)) * random.Random(seed).random()  # noqa: S311 - to be drawn again
    for span in spans:
        if left < span.length:
            break
        left -= span.length
    return span, min(span.start + left, span.end - TICK)
