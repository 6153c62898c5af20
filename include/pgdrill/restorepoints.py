"""The restore points in archived WAL: what they are called, where they lie, when they were made."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from pgdrill.access import Access
from pgdrill.postgres.wal import parse_lsn
from pgdrill.process import Runner
from pgdrill.walbatches import batches
from pgdrill.waldump import dump_range
from pgdrill.window import Line

POINT = re.compile(r"lsn: ([0-9A-F]+/[0-9A-F]+),.*desc: RESTORE_POINT (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, order=True)
class RestorePoint:
    """A restore point. ``lsn`` is where its record begins."""

    lsn: int
    name: str


@dataclass(slots=True)
class Found:
    """The restore points of a stretch of WAL. ``whole``: all of it was read; else there may be others."""

    points: list[RestorePoint] = field(default_factory=list)
    whole: bool = True

    def named(self, name: str) -> list[RestorePoint]:
        """Those of a name, in the order of WAL."""
        return [point for point in self.points if point.name == name]


def restore_points(
    access: Access, runner: Runner, folder: Path, line: Line, start_lsn: int, end_lsn: int, *, seconds: float
) -> Found:
    """Read WAL along a line, for no longer than that; segments are fetched into ``folder`` and go again."""
    found, until = Found(), time.monotonic() + seconds
    for batch in batches(access, runner, folder, line, start_lsn, end_lsn):
        if batch is None or time.monotonic() > until:
            found.whole = False
            break
        text, unbroken = dump_range(access, batch[0], batch[-1], "--rmgr=XLOG")
        found.whole = found.whole and unbroken
        found.points += [RestorePoint(parse_lsn(lsn), name) for lsn, name in POINT.findall(text)]
    found.points = sorted(set(found.points))
    return found
