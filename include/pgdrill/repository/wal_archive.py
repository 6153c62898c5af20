"""The WAL that a cluster has archived: the objects it is in, and the tool that knows them."""

from __future__ import annotations

from dataclasses import dataclass

from pgdrill.config import Cluster
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools import BackupTool
from pgdrill.repository.tools.base import ArchivedWal


@dataclass(frozen=True, slots=True)
class WalArchive:
    """A cluster's archived WAL. ``objects``: those of the whole repository."""

    cluster: Cluster
    objects: Storage
    tool: BackupTool

    def listed(self) -> ArchivedWal:
        """Segments and history files, as the repository lists them now."""
        return self.tool.wal(self.objects)
