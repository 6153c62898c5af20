"""barman-cloud as it is installed on this host."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from pgdrill.repository.tools.installation import ToolFinding

PROGRAMS = ("backup", "restore", "wal-archive", "wal-restore", "backup-keep", "backup-delete")


def lacking(folder: Path) -> list[str]:
    """Return the programs that pgdrill uses and the folder lacks."""
    names = (f"barman-cloud-{name}" for name in PROGRAMS)
    return [name for name in names if not (folder / name).is_file()]


def passed_on(ours: Collection[str]) -> ToolFinding:
    """Return the variables of boto3 that barman gets, and pgdrill did not set."""
    own = sorted(
        name for name in os.environ if name.startswith(("AWS_", "BOTO")) and name not in ours
    )
    return ToolFinding(
        "green", "barman-cloud's variables", f"passed on: {', '.join(own) or 'none'}"
    )
