"""What a backup tool's adapter gives: backups, entries of a listing, ways to fetch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

from pgdrill.documents import Content
from pgdrill.errors import BackupFault, Problem
from pgdrill.host.process import Command
from pgdrill.postgres.wal import ARCHIVED_NAME, DEFAULT_SEGMENT_BYTES, Segment


@dataclass(frozen=True, slots=True)
class BaseBackup:
    """A base backup as the repository describes it. LSNs are byte positions, times are UTC."""

    name: str
    system_identifier: int
    major_version: int
    timeline: int
    start_lsn: int
    finish_lsn: int
    start_time: datetime
    finish_time: datetime
    uncompressed_bytes: int = 0
    compressed_bytes: int = 0
    tablespaces: Mapping[str, str] = field(default_factory=dict)  # oid -> production's folder
    # oid -> name, where the tool moves by name
    tablespace_names: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""  # of a delta: the backup it builds on

    @property
    def system(self) -> tuple[int, int]:
        """Backups of another system identifier or major version are another cluster's."""
        return self.system_identifier, self.major_version

    def first_segment(self, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> Segment:
        """Return the segment where replay begins."""
        return Segment.holding(self.start_lsn, self.timeline, segment_bytes)


class BaseBackups(list[BaseBackup]):
    """The finished base backups, oldest first.

    ``broken``: the problems of others that cannot be read, by their names.

    One broken description costs that backup, and hides no other.
    """

    def __init__(self, found: Mapping[str, BaseBackup | Problem | None]) -> None:
        backups = [backup for backup in found.values() if isinstance(backup, BaseBackup)]
        super().__init__(sorted(backups, key=lambda backup: backup.start_time))
        self.broken = {
            name: problem for name, problem in found.items() if isinstance(problem, Problem)
        }

    @classmethod
    def read(
        cls,
        texts: Iterable[tuple[str, Content]],
        parse: Callable[[str, Content], BaseBackup | None],
    ) -> BaseBackups:
        """Read the descriptions of backups, each with its name, as they come."""
        return cls({name: _parsed(parse, name, text) for name, text in texts})


def _parsed(
    parse: Callable[[str, Content], BaseBackup | None], name: str, text: Content
) -> BaseBackup | Problem | None:
    try:
        return parse(name, text)
    except BackupFault as error:
        return error.problem


@dataclass(frozen=True, slots=True)
class Entry:
    """A backup's name, and what the repository's listing has under it.

    ``keys``: its own objects -> bytes. ``backup`` is None where the description cannot be read;
    ``trouble`` then says why. ``first_segment``: the name of the segment it starts in, where the
    backup's name tells it. ``finished``: False for what an upload left half-way.
    """

    name: str
    keys: Mapping[str, int]
    backup: BaseBackup | None = None
    trouble: str = ""
    first_segment: str = ""
    permanent: bool = False
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Fetch:
    """The way to fetch a backup: a command, and files it wants to find."""

    command: Command
    files: Mapping[Path, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BulkFetch:
    """The way for one process of a tool to fetch many segments; no ``argv``: it cannot.

    See :class:`pgdrill.recovery.wal_prefetch.order.ToolWords`.
    """

    argv: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""


class ArchivedWal(dict[str, int]):
    """Archived segments and history files by their plain name -> stored bytes.

    They are read from a listing of objects. ``names`` matches the last part of a key: its first
    group is the file's plain name.

    ``doubles`` holds the names that have several objects, with all of their keys: which of them a
    tool takes is chance (wal-g 3.0.8 took either one at the same segment, drill by drill).
    """

    def __init__(self, objects: Mapping[str, int], names: re.Pattern[str] = ARCHIVED_NAME) -> None:
        super().__init__()
        keys: dict[str, list[str]] = {}
        for key, size in objects.items():
            if match := names.fullmatch(PurePosixPath(key).name):
                self[match[1]] = size
                keys.setdefault(match[1], []).append(key)
        self.doubles = {name: sorted(found) for name, found in keys.items() if len(found) > 1}
