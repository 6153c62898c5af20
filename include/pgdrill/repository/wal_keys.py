"""The keys of archived WAL, by a backup tool's own patterns.

Those are :meth:`pgdrill.repository.tools.base.BackupTool.wal_keys`.
"""

from __future__ import annotations


def archived_key(segment_pattern: str, history_pattern: str, name: str) -> str:
    """Return the object of a segment or history file, without the compression's suffix.

    ``{log}`` is the segment's first 16 digits.
    """
    return (history_pattern if name.endswith(".history") else segment_pattern).format(
        name=name, log=name[:16]
    )
