"""The inventory to decide about: backups, WAL, dumps, drills' results, holds.

Values only; :mod:`collect` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Literal

from pgdrill.errors import Problem
from pgdrill.reports.model import Branch
from pgdrill.repository.tools.base import BaseBackup
from pgdrill.repository.wal_ranges import Position, Run, Wal

Mark = Literal["", "pgdrill", "hand"]  # who made a backup permanent


@dataclass(frozen=True, slots=True)
class Backup(BaseBackup):
    """A finished base backup.

    ``damage``: why it cannot be restored, empty if nothing speaks against it.
    """

    stored_bytes: int = 0
    mark: Mark = ""
    damage: str = ""

    @classmethod
    def of(
        cls, backup: BaseBackup, stored_bytes: int = 0, mark: Mark = "", damage: str = ""
    ) -> Backup:
        """Return what the tool describes, with what is known of it besides."""
        return cls(
            **{it.name: getattr(backup, it.name) for it in fields(backup)},
            stored_bytes=stored_bytes,
            mark=mark,
            damage=damage,
        )

    def own_wal(self, wal: Wal) -> Run:
        """Return the segments without which it cannot become consistent."""
        return Run(
            self.timeline,
            wal.segment_of(self.start_lsn),
            wal.segment_of(max(self.finish_lsn - 1, self.start_lsn)),
        )

    def position(self, wal: Wal) -> Position:
        """Return the timeline and number of its first segment."""
        return self.timeline, wal.segment_of(self.start_lsn)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A backup whose own description cannot be read. ``position`` where its name tells one."""

    name: str
    found: str
    position: Position | None = None
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Dump:
    """A logical dump.

    ``damage`` as for a backup; ``keys`` are its objects in the report store, the manifest first.
    """

    name: str
    finished_at: datetime
    stored_bytes: int = 0
    damage: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody's wish that a backup or dump stays, whatever the promises say."""

    name: str
    why: str
    until: datetime
    by: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Leftover:
    """Objects that belong to no finished backup: a killed upload, or one that is running."""

    name: str
    stored_bytes: int
    last_written: datetime


@dataclass(frozen=True, slots=True)
class ToolRules:
    """The abilities of the backup tool.

    ``marks``: it keeps exactly a marked backup's own WAL. ``wal_alone``: it deletes WAL by itself,
    and not only together with the oldest backup.
    """

    marks: bool = True
    wal_alone: bool = True


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything the planner may know."""

    backups: tuple[Backup, ...] = ()
    wal: Wal = field(default_factory=Wal)
    dumps: tuple[Dump, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    # backup -> when a drill of it last passed
    drilled: Mapping[str, datetime] = field(default_factory=dict)
    holds: tuple[Hold, ...] = ()
    # what a hold names and is gone -> when a run last deleted it, if one did
    let_go: Mapping[str, datetime] = field(default_factory=dict)
    # timeline that does not lead to now -> its newest object's time
    written: Mapping[int, datetime] = field(default_factory=dict)
    # backup -> what was once wrong with its times
    doubted: Mapping[str, str] = field(default_factory=dict)
    system_identifier: int | None = None  # production's, where known
    unclear: bool = False  # backups of several systems, and nobody says which is production's
    timeline: int | None = None  # production's, by its own word
    likely_timeline: int | None = None  # the same without it
    branches: tuple[Branch, ...] = ()  # other ends of archived WAL than production's
    rules: ToolRules = field(default_factory=ToolRules)
    incomplete: tuple[Problem, ...] = ()  # what could not be looked at
    unseen: tuple[Problem, ...] = ()  # what is known to have been there, and was not seen
    forgotten: tuple[str, ...] = ()  # the names of it, to be let go if somebody says so
    # neither holds nor marks nor runs are remembered of a repository that others filled
    no_memory: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The names of everything that a hold can name and that is there."""
        things: tuple[Backup | Unreadable | Dump | Leftover, ...] = (
            *self.backups,
            *self.unreadable,
            *self.dumps,
            *self.leftovers,
        )
        return frozenset(it.name for it in things)
