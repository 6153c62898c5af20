"""A cluster's repository: the objects in it, and the tool that knows what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgdrill.config import Cluster
from pgdrill.errors import Problem
from pgdrill.host.process import Command
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools import BackupTool
from pgdrill.repository.tools.base import ArchivedWal, BaseBackup, BaseBackups, Entry
from pgdrill.repository.wal_keys import WalKeys


@dataclass(frozen=True, slots=True)
class Repository:
    """Base backups and archived WAL of a cluster, read as its tool has laid them out."""

    cluster: Cluster
    objects: Storage
    tool: BackupTool

    @property
    def url(self) -> str:
        """Where it is."""
        return self.objects.url

    def backups(self) -> BaseBackups:
        """Read every finished base backup, oldest first, and what cannot be read of others."""
        return self.tool.backups(self.objects)

    def parts(self, backup: BaseBackup) -> dict[str, int]:
        """List the objects of a backup: key -> bytes."""
        return self.tool.parts(self.objects, backup)

    def problems(self, backup: BaseBackup, parts: Mapping[str, int]) -> list[Problem]:
        """Return what is missing, empty or dangerous about a backup, by its own metadata's word."""
        return self.tool.problems(self.objects, backup, parts)

    def label(self, backup: BaseBackup, parts: Mapping[str, int], home: Path) -> str | Command:
        """Return the text of a backup's ``backup_label``, or the command that prints it."""
        return self.tool.label(self.objects, backup, parts, home)

    def catalog(self) -> list[Entry]:
        """List everything that is, or looks like, a backup, also what cannot be read."""
        return self.tool.catalog(self.objects)

    def permanent(self, name: str) -> bool:
        """Return whether a backup is marked permanent now."""
        return self.tool.permanent(self.objects, name)

    def wal(self) -> ArchivedWal:
        """List the archived segments and history files, as they are now."""
        return self.archived(self.objects.sizes(self.wal_folder))

    def archived(self, objects: Mapping[str, int]) -> ArchivedWal:
        """Return the segments and history files among objects of a listing."""
        return ArchivedWal(objects, self.tool.archived_name)

    @property
    def wal_keys(self) -> WalKeys:
        """Where archived segments and histories lie."""
        return self.tool.wal_keys(self.objects)

    @property
    def wal_folder(self) -> str:
        """The prefix below which every archived segment lies."""
        return self.wal_keys.folder

    def lists_wal(self, name: str) -> bool:
        """Return whether the store lists a segment or history file, however compressed."""
        return self.objects.find(self.wal_keys.of(name), self.tool.archived_name) is not None

    def equip(self, folder: Path, backup: BaseBackup | None = None) -> None:
        """Write what the tool wants to find below ``folder`` when it fetches WAL from there.

        It is written anew for a ``backup``, the one whose WAL is wanted; else once.
        """
        for name, content in self.tool.wal_needs(self.objects, backup).items():
            file = folder / name
            if backup or not file.exists():
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                file.write_bytes(content())
