"""Links, pipes and devices in an unpacked archive: removed before anything is done by their names.

An archive is somebody's word, too. By a link of the name of a file that is read or written next, a
restore would read or write where it leads (a second name of a file is such a link, too); at a pipe
it would wait for ever.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

SPACES = "pg_tblspc"


def remove_strangers(data_directory: Path, tablespaces: Collection[Path]) -> list[Path]:
    """Remove all that is neither folder nor plain file below a restored cluster.

    The links to its own tablespaces stay.
    """
    own = {data_directory / SPACES / space.name: space for space in tablespaces}
    found = [
        path
        for folder in (data_directory, *tablespaces)
        for path in _strangers(folder)
        if not (path in own and path.is_symlink() and path.resolve() == own[path].resolve())
    ]
    for path in found:
        logger.warning("%s was no plain file in the backup, and is removed", path)
        path.unlink()
    # pg_tblspc may have been a link to another disk, or wal-g left it out
    (data_directory / "pg_wal").mkdir(mode=0o700, exist_ok=True)
    # With this map the server would link the tablespaces anew when it starts, to production's own
    # folders. Ours are linked already.
    (data_directory / "tablespace_map").unlink(missing_ok=True)
    return found


def _strangers(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _strangers(Path(entry.path))
            elif (
                not entry.is_file(follow_symlinks=False)
                or entry.stat(follow_symlinks=False).st_nlink > 1
            ):
                yield Path(entry.path)
