"""What pgdrill wants of a backup tool: base backups, a WAL archive, and deleting.

Adapters (:mod:`walg`, :mod:`barman`, :mod:`pgbackrest`) are pure: they build commands and
interpret listings, and run nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from pgdrill.errors import Problem
from pgdrill.host.process import Command
from pgdrill.host.tuning import Tuning
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools.base import BaseBackup, BaseBackups, BulkFetch, Entry, Fetch
from pgdrill.repository.tools.installation import Installation
from pgdrill.repository.wal_keys import WalKeys
from pgdrill.tool_facts import ToolFacts


class BaseBackupTool(Protocol):
    """Takes base backups, reads what there is of them, and unpacks one."""

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

    def backups(self, repository: Storage) -> BaseBackups:
        """Read every finished base backup, oldest first, and what cannot be read of others."""

    def parts(self, repository: Storage, backup: BaseBackup) -> dict[str, int]:
        """List the objects of a backup: key -> bytes."""

    def problems(
        self, repository: Storage, backup: BaseBackup, parts: Mapping[str, int]
    ) -> list[Problem]:
        """Return what is missing, empty or dangerous about a backup, by its own metadata's word."""


class WalTool(Protocol):
    """Archives WAL, reads what there is of it, and fetches it."""

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

    archived_name: re.Pattern[str]  # of a key's last part; its first group is the file's name

    def wal_keys(self, repository: Storage) -> WalKeys:
        """Return where segments and histories are kept."""

    def wal_needs(
        self, repository: Storage, backup: BaseBackup | None
    ) -> Mapping[str, Callable[[], bytes]]:
        """Return the files that :meth:`wal_fetch` wants to find in ``home``: name -> content.

        ``backup`` is the one whose WAL is wanted; None: the newest.
        """

    def wal_bulk(self, segment_bytes: int) -> BulkFetch:
        """Return how one process fetches many segments, if the tool can."""

    def segment_environment(self, segment_bytes: int) -> dict[str, str]:
        """Return the variables that tell the tool the size of a WAL segment.

        Empty where it finds out by itself.
        """

    def encrypts(self, environment: Mapping[str, str]) -> bool:
        """Return whether only the tool can read what it archived."""


class DeletingTool(Protocol):
    """Protects and deletes what it has taken. Only :mod:`pgdrill.retention` asks for it."""

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

    def delete_wal(self, repository: Storage, *, home: Path, confirm: bool) -> Command | None:
        """Return the command that deletes WAL before the oldest backup that is not marked.

        None where there is none such, or :meth:`delete` does that along with it.
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


class BackupTool(BaseBackupTool, WalTool, DeletingTool, Installation, Protocol):
    """A backup tool. There is one class for each; nothing else in pgdrill knows a tool's name."""

    name: str
    facts: ToolFacts

    def version(self) -> Command:
        """Return the command that prints the tool's version."""

    def environment(self) -> dict[str, str]:
        """Return the variables every command of the tool needs, secrets among them."""

    default_compression: str  # of what it archives, where the configuration names none

    @property
    def exit_codes(self) -> Mapping[int, str]:
        """The meaning of the tool's exit codes."""
