"""The backup tools, behind one Protocol."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from pgdrill.config import Cluster
from pgdrill.errors import CouldNotVerify
from pgdrill.repository.tools.barman import BarmanCloud
from pgdrill.repository.tools.base import BackupTool, BaseBackup, archive_command, restore_command
from pgdrill.repository.tools.walg import WalG

__all__ = ["BackupTool", "BaseBackup", "archive_command", "make_tool", "restore_command"]


def make_tool(cluster: Cluster, environment: Mapping[str, str]) -> BackupTool:
    """Return the configured tool, or raise an error that says where it was looked for."""
    where = cluster.repository
    if where.tool == "wal-g":
        return WalG(_found("wal-g", where.binary), where, environment)
    program = str(Path(where.binary) / "barman-cloud-backup") if where.binary else ""
    folder = Path(_found("barman-cloud-backup", program)).parent
    return BarmanCloud(folder, cluster.name, where, environment)


def _found(program: str, configured: str) -> str:
    found = shutil.which(configured or program)
    if found is None:
        raise CouldNotVerify(
            "tool-missing",
            program,
            found=f"no executable {configured}" if configured else "not on PATH",
            expected="the backup tool installed on this host",
            hint="install it, or set repository.binary in dr.toml",
        )
    return found
