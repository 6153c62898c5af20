"""``backup_label``: what a restored base backup says of itself, whatever the repository's metadata claim."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pgdrill.postgres.wal import parse_lsn

START = re.compile(r"^START WAL LOCATION: ([0-9A-F]{1,8}/[0-9A-F]{1,8}) ", re.MULTILINE)
TIMELINE = re.compile(r"^START TIMELINE: ([0-9]{1,10})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class BackupLabel:
    """Where replay of the backup has to begin."""

    start_lsn: int
    timeline: int

    @classmethod
    def parse(cls, text: str) -> BackupLabel | None:
        """From the file's text; None where PostgreSQL could not read it either."""
        start, timeline = START.search(text), TIMELINE.search(text)
        return cls(parse_lsn(start[1]), int(timeline[1])) if start and timeline else None
