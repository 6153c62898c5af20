"""Where a backup tool puts archived WAL, by its own patterns
(:meth:`pgdrill.repository.tools.base.BackupTool.wal_keys`).
"""

from __future__ import annotations


def archived_key(segment_pattern: str, history_pattern: str, name: str) -> str:
    """The object of a segment or history file, without the compression's suffix; ``{log}`` is the
    segment's first 16 digits.
    """
    return (history_pattern if name.endswith(".history") else segment_pattern).format(
        name=name, log=name[:16]
    )
