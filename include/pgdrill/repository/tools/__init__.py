"""The backup tools, behind Protocols. Which there are, :mod:`pgdrill.tool_facts` says."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name

from pgdrill.config import Cluster
from pgdrill.errors import CouldNotVerify
from pgdrill.repository.tools.base import BaseBackup
from pgdrill.repository.tools.protocols import BackupTool
from pgdrill.repository.tools.server_commands import archive_command, restore_command
from pgdrill.tool_facts import TOOLS, ToolFacts

__all__ = ["BackupTool", "BaseBackup", "archive_command", "make_tool", "restore_command"]


def make_tool(cluster: Cluster, environment: Mapping[str, str]) -> BackupTool:
    """Return the configured tool, or raise an error that says where it was looked for."""
    facts = TOOLS[cluster.repository.tool]
    program = _found(facts, cluster.repository.binary)
    tool: BackupTool = resolve_name(facts.adapter).of_cluster(cluster, program, environment)
    return tool


def _found(facts: ToolFacts, configured: str) -> str:
    found = facts.found(configured)
    if found is None:
        raise CouldNotVerify(
            "tool-missing",
            facts.program,
            found=(
                f"no executable {facts.executable(configured)}" if configured else "not on PATH"
            ),
            expected="the backup tool installed on this host",
            hint="install it, or set repository.binary in dr.toml",
        )
    return found
