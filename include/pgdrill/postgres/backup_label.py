"""``backup_label``: a restored base backup's own word, whatever the repository's metadata claim."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pgdrill.postgres.wal import parse_lsn

START = re.compile(r"^START WAL LOCATION: ([0-9A-F]{1,8}/[0-9A-F]{1,8}) ", re.MULTILINE)
TIMELINE = re.compile(r"^START TIMELINE: ([0-9]{1,10})$", re.MULTILINE)
STANDBY = re.compile(r"^BACKUP FROM: standby$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class BackupLabel:
    """The place where replay of a backup has to begin, and the server that made the backup."""

    start_lsn: int
    timeline: int
    from_standby: bool = False  # the server that began and ended the backup was a standby

    @classmethod
    def parse(cls, text: str) -> BackupLabel | None:
        """Read the file's text, or that of an archive which holds nothing else.

        Return None where PostgreSQL could not read it either.
        """
        text = text.replace("\0", "\n")
        start, timeline = START.search(text), TIMELINE.search(text)
        return (
            cls(parse_lsn(start[1]), int(timeline[1]), bool(STANDBY.search(text)))
            if start and timeline
            else None
        )
