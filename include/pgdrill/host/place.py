"""The work directory, below which everything lies that a job leaves on this host.

So it has to be there before anything is begun.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import tempfile
from pathlib import Path

from pgdrill.errors import ConfigError


def make_place(folder: Path) -> None:
    """Make the work directory where this user may, or raise with the line that makes it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(
            folder, f"no such folder, and {this_user()} cannot make it ({error.strerror})"
        ) from None
    try:
        _write_in(folder)
    except OSError as error:
        raise _unusable(
            folder, f"nothing can be written by {this_user()} ({error.strerror}; {_why(folder)})"
        ) from None


def make_state(folder: Path) -> None:
    """Make a cluster's own folder in the work directory.

    Raises with the line that mends it where another user's job has been before.
    """
    make_place(folder.parent)
    check_left(folder)
    make_place(folder)


def check_left(folder: Path) -> None:
    """Raise if another user's job left something in a cluster's folder that this one cannot write.

    That may be the folder itself, or a lock or folder in it. All in it is pgdrill's, so it may be
    given away whole. That cannot be said of the work directory, which somebody chose.
    """
    for path in (folder, *sorted(_inside(folder))):
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            owner = path.lstat().st_uid
            if (
                owner != os.geteuid()
                and not path.is_symlink()
                and not os.access(path, os.W_OK, effective_ids=True)
            ):
                raise _unusable(
                    folder,
                    f"{path} cannot be written by {this_user()}: it is user {owner}'s",
                    left=True,
                )


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # not there yet; or closed, and the folder itself is told then
        return []


def check_place(folder: Path) -> bool:
    """Raise what :func:`make_place` would, and change nothing; return True if the folder is there.

    It is tried with a folder that is gone again.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    there = existing == folder
    try:
        _write_in(existing)
    except OSError as error:
        found = (
            f"nothing can be written by {this_user()} ({error.strerror})"
            if there
            else f"no such folder, and {this_user()} cannot make it ({error.strerror})"
        )
        raise _unusable(folder, found) from None
    return there


def _write_in(folder: Path) -> None:
    """Try to write in a folder, with a folder that is gone again.

    access(2) says to root that all is well, wherever nobody can write.
    """
    Path(tempfile.mkdtemp(prefix=".pgdrill-", dir=folder)).rmdir()


def this_user() -> str:
    """Return the name of the user that this process runs as; a number where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _why(folder: Path) -> str:
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return os.strerror(errno.EROFS)
    return f"it is user {folder.stat().st_uid}'s, mode {folder.stat().st_mode & 0o7777:04o}"


def _unusable(folder: Path, found: str, *, left: bool = False) -> ConfigError:
    hint = f"as root: `install -d -m 0700 -o {this_user()} {folder}`"
    if left:
        hint = (
            f"run all jobs of this host as one user; as root, `chown -R {this_user()} {folder}`"
            " gives this one what another's have left"
        )
    return ConfigError(
        "work-directory",
        f"drill.work_directory {folder}",
        found=found,
        expected=f"a folder that {this_user()} can write",
        hint=(
            f"{hint}; or set drill.work_directory to a folder on a file system with room for a"
            " restored cluster"
        ),
    )
