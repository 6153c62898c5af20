"""The backup tool as pgdrill sees it: commands to run, and a layout of objects to read.

Adapters (:mod:`walg`, :mod:`barman`) are pure: they build commands and interpret listings, and run
nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Protocol

from pgdrill.documents import Content
from pgdrill.errors import BackupFault, Problem
from pgdrill.host.process import Command
from pgdrill.host.tuning import Tuning
from pgdrill.postgres.wal import ARCHIVED_NAME, DEFAULT_SEGMENT_BYTES, Segment
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools.installation import Installation
from pgdrill.tool_facts import ToolFacts

WAL_SCRIPT = Path(__file__).with_name("wal.sh")


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

    They are read from a listing of objects.

    ``doubles`` holds the names that have several objects, with all of their keys: which of them a
    tool takes is chance (wal-g 3.0.8 took either one at the same segment, drill by drill).
    """

    def __init__(self, objects: Mapping[str, int]) -> None:
        super().__init__()
        keys: dict[str, list[str]] = {}
        for key, size in objects.items():
            if match := ARCHIVED_NAME.fullmatch(PurePosixPath(key).name):
                self[match[1]] = size
                keys.setdefault(match[1], []).append(key)
        self.doubles = {name: found for name, found in keys.items() if len(found) > 1}


class BackupTool(Installation, Protocol):
    """A backup tool. There is one class for each; nothing else in pgdrill knows a tool's name."""

    name: str
    facts: ToolFacts

    def version(self) -> Command:
        """Return the command that prints the tool's version."""

    def environment(self) -> dict[str, str]:
        """Return the variables every command of the tool needs, secrets among them."""

    def backup(
        self,
        data_directory: Path,
        libpq: Mapping[str, str],
        home: Path,
        tuning: Tuning,
        delta_steps: int = 0,
    ) -> Command:
        """Return the command that takes a base backup. It runs beside the data directory.

        Up to ``delta_steps`` deltas follow one full backup, where the tool takes deltas.
        """

    def label(
        self, repository: Storage, backup: BaseBackup, parts: Mapping[str, int], home: Path
    ) -> str | Command:
        """Return the text of a backup's ``backup_label``.

        Where the tool has to print the archive with it, return the command for that.
        """

    def fetch(
        self,
        backup: BaseBackup,
        into: Path,
        tablespaces: Mapping[str, Path],
        home: Path,
        streams: int,
    ) -> Fetch:
        """Return how to unpack a base backup into an empty folder.

        Tablespaces (by oid) go into their own folders. What it wrote is synced later.
        """

    def wal_push(self) -> tuple[str, ...]:
        """Return the arguments that archive the segment ``%p``."""

    def wal_fetch(self) -> tuple[str, ...]:
        """Return the arguments that fetch ``%f`` to ``%p``."""

    wal_absent_code: int  # exit code of wal_fetch for "there is no such file", and for nothing else

    def one_wal_environment(self, folder: Path) -> dict[str, str]:
        """Return the variables with which :meth:`wal_fetch` fetches one file, and no other.

        What it needs for that lies in ``folder``. They go over those of :meth:`wal_environment`.
        """

    def wal_environment(self, home: Path) -> dict[str, str]:
        """Return the variables for fetching WAL during a restore.

        ``home`` takes caches and prefetched segments.
        """

    default_compression: str  # of what it archives, where the configuration names none

    @property
    def exit_codes(self) -> Mapping[int, str]:
        """The meaning of the tool's exit codes."""

    def wal_keys(self) -> tuple[str, str]:
        """Return where segments and histories are kept.

        ``{name}`` stands for the file's name, ``{log}`` for its first 16 digits; no compression's
        suffix.
        """

    def wal_bulk(self, segment_bytes: int) -> BulkFetch:
        """Return how one process fetches many segments, if the tool can."""

    def segment_environment(self, segment_bytes: int) -> dict[str, str]:
        """Return the variables that tell the tool the size of a WAL segment.

        Empty where it finds out by itself.
        """

    def encrypts(self, environment: Mapping[str, str]) -> bool:
        """Return whether only the tool can read what it archived."""

    def backups(self, repository: Storage) -> BaseBackups:
        """Read every finished base backup, oldest first, and what cannot be read of others."""

    def parts(self, repository: Storage, backup: BaseBackup) -> dict[str, int]:
        """List the objects of a backup: key -> bytes."""

    def problems(
        self, repository: Storage, backup: BaseBackup, parts: Mapping[str, int]
    ) -> list[Problem]:
        """Return what is missing, empty or dangerous about a backup, by its own metadata's word."""

    def wal(self, repository: Storage) -> ArchivedWal:
        """List the archived segments and history files."""

    # --- deleting; only :mod:`pgdrill.retention` does ---

    keeps_own_wal_only: bool  # a marked backup keeps the WAL it needs itself, and no more
    # WAL is deleted by a command of its own, not together with the oldest backup
    frees_wal_alone: bool

    @property
    def changed_by_marking(self) -> Collection[str]:
        """The names of a backup's objects that marking writes anew."""

    def catalog(self, repository: Storage) -> list[Entry]:
        """List everything that is, or looks like, a backup, also what cannot be read."""

    def permanent(self, repository: Storage, name: str) -> bool:
        """Return whether a backup is marked permanent now."""

    def mark(self, name: str, *, permanent: bool, home: Path) -> Command:
        """Return the command that protects a backup from being deleted, or no longer does."""

    def delete(self, name: str, *, home: Path, confirm: bool) -> Command:
        """Return the command that deletes the backup of that full name.

        Without ``confirm`` it only prints what it would delete.
        """

    def delete_wal(self, *, home: Path, confirm: bool) -> Command | None:
        """Return the command that deletes WAL before the oldest backup that is not marked.

        None where :meth:`delete` does that along with it.
        """

    def named(self, output: str, keys: Mapping[str, int]) -> set[str]:
        """Return the keys that a dry run of ``delete`` or ``delete_wal`` named.

        ``keys``: every object there is.
        """

    def crashed_when_refused(self, output: str) -> bool:
        """Return whether a deletion's output is that of a crash upon the store's refusal."""

    def wal_key(self, key: str) -> str:
        """Return the segment that an object of the WAL archive belongs to.

        Empty for any other object, history files among them.
        """


def archive_command(tool: BackupTool, segment_bytes: int) -> str:
    """Return PostgreSQL's ``archive_command`` for a tool.

    Credentials come from the server's own environment.
    """
    return _shell(["push", str(segment_bytes), "%f", "%p", *tool.wal_push()])


def restore_command(tool: BackupTool, segment_bytes: int) -> str:
    """Return PostgreSQL's ``restore_command`` for a tool."""
    return _shell(
        ["fetch", str(tool.wal_absent_code), str(segment_bytes), "%f", "%p", *tool.wal_fetch()]
    )


def _shell(words: Sequence[str]) -> str:
    quoted = (f'"{word}"' if word in ("%p", "%f") else shlex.quote(word) for word in words)
    return f"sh {shlex.quote(str(WAL_SCRIPT))} {' '.join(quoted)}"
