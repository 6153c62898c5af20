"""The restore points in archived WAL: their names, where they lie, when they were made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pgdrill.postgres.wal import parse_lsn
from pgdrill.repository.restorable_window import Line
from pgdrill.repository.wal_batches import records
from pgdrill.repository.wal_files import WalReader

POINT = re.compile(r"lsn: ([0-9A-F]+/[0-9A-F]+),.*desc: RESTORE_POINT (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, order=True)
class RestorePoint:
    """A restore point. ``lsn`` is where its record begins."""

    lsn: int
    name: str


@dataclass(slots=True)
class Found:
    """The restore points of a stretch of WAL.

    ``whole``: all of it was read; else there may be others.
    """

    points: list[RestorePoint] = field(default_factory=list)
    whole: bool = True

    def named(self, name: str) -> list[RestorePoint]:
        """Return the points of a name, in the order of WAL."""
        return [point for point in self.points if point.name == name]


def restore_points(
    wal: WalReader, line: Line, start_lsn: int, end_lsn: int, *, seconds: float
) -> Found:
    """Read WAL along a line, for no longer than that; the files it was fetched in go again."""
    found = Found()
    for text, whole in records(wal, line, start_lsn, end_lsn, "XLOG", seconds=seconds):
        found.whole = found.whole and whole
        found.points += [RestorePoint(parse_lsn(lsn), name) for lsn, name in POINT.findall(text)]
    found.points = sorted(set(found.points))
    return found
