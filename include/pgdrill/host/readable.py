"""Files of a data directory that this user cannot read.

A backup tool ends at the first of these, hours into its work. The directory's owner may have such,
too: a key or a file that root has put there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Names that backup tools leave out.
LEFT_OUT = frozenset(
    {
        "log",
        "pg_log",
        "pg_wal",
        "pgsql_tmp",
        "pg_dynshmem",
        "pg_notify",
        "pg_replslot",
        "pg_serial",
        "pg_stat_tmp",
        "pg_snapshots",
        "pg_subtrans",
        "postmaster.pid",
        "postmaster.opts",
        "postgresql.auto.conf.tmp",
    }
)


def unreadable(data_directory: Path) -> Iterator[Path]:
    """Yield each file or folder that a backup holds and this user may not read.

    Looked at are a data directory and its tablespaces.
    """
    yield from _below(data_directory)
    for space in (data_directory / "pg_tblspc").glob("*"):
        if not _closed(space, os.R_OK | os.X_OK):
            yield from _below(space)
        else:
            yield space


def _below(folder: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # the folder is gone meanwhile; or it is closed, and has been told already
        return
    for entry in entries:
        if entry.name in LEFT_OUT or entry.is_symlink():
            continue
        if not entry.is_dir(follow_symlinks=False):
            if _closed(Path(entry.path), os.R_OK):
                yield Path(entry.path)
        elif _closed(Path(entry.path), os.R_OK | os.X_OK):
            yield Path(entry.path)
        else:
            yield from _below(Path(entry.path))


def _closed(path: Path, rights: int) -> bool:
    """Return True if a path is closed to this user; one that is gone is not closed."""
    return not os.access(path, rights, effective_ids=True) and os.path.lexists(path)
