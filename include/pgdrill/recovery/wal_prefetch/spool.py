"""The folder from which recovery takes WAL.

The restored server may do as it likes in there, so nothing in it is believed.

A file is written elsewhere, in a folder that the server does not see, and gets its place in the
spool by a rename: of a descriptor that was opened before the server was started, and never by a
path.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spool:
    """The spool, by its open descriptor. ``folder`` is its name, for people only.

    ``owner``: the user the restored server runs as, if that is another one.
    """

    folder: Path
    descriptor: int
    owner: int | None = None

    def place(self, temporary: Path, name: str) -> None:
        """Give a whole file its name. (It is not synced: recovery does that when it takes it.)

        A file or link that lies there under that name is replaced, and not followed. Raises
        OSError, for instance where a folder lies there.
        """
        if self.owner is not None:
            os.chown(temporary, self.owner, -1)
        os.rename(temporary, name, dst_dir_fd=self.descriptor)

    def holds(self, name: str) -> bool:
        """Return whether a file lies there. A link does not count."""
        try:
            return stat.S_ISREG(
                os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mode
            )
        except OSError:
            return False

    def remove(self, name: str) -> None:
        """Remove a file, if it is still there."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self.descriptor)
