"""Folders that are ours alone, in places where others may write, too.

A name that can be foretold can be taken beforehand: by somebody else's folder, open to him, or by a
link. So a short folder gets a name by chance, and a link in a folder of our own remembers it; and
where work is done, nobody else may rename or replace what we made.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

from pgdrill.errors import ConfigError, CouldNotVerify

PREFIX = "pgdrill-"
NAME_BYTES = len(PREFIX) + 16
SOCKET_BYTES = 107  # the longest name of a socket that Linux takes
# The longest name below a short folder is of barman-cloud's workers; PostgreSQL's are shorter.
BELOW_BYTES = len("/pymp-12345678/listener-12345678")
SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - what is made there has a name by chance, and is closed to others
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def short_folder(link: Path, owners: Collection[int] = ()) -> Path:
    """Return the folder that ``link`` remembers, made if there is none.

    It is for sockets, whose names hold 107 bytes.
    """
    if folder := remembered(link, owners):
        return folder
    forget(link)
    folder = short_place() / f"{PREFIX}{secrets.token_hex(8)}"
    # The link comes first: a process that is killed in between leaves nothing that is not
    # remembered.
    link.symlink_to(folder)
    folder.mkdir(mode=0o700)  # an error if it is there
    return folder


def short_place() -> Path:
    """Return the folder in which short folders are made.

    That is the folder for temporary files, or another where its name is too long for a socket below
    it.
    """
    own = Path(tempfile.gettempdir())
    for place in (own, *map(Path, SHORT_PLACES)):
        if len(os.fsencode(place)) + 1 + NAME_BYTES + BELOW_BYTES <= SOCKET_BYTES and os.access(
            place, os.W_OK | os.X_OK, effective_ids=True
        ):
            return place
    longest = SOCKET_BYTES - 1 - NAME_BYTES - BELOW_BYTES
    raise ConfigError(
        "long-temporary-folder",
        f"the folder for temporary files {own}",
        found=(
            f"a name of {len(os.fsencode(own))} bytes, and neither "
            f"{' nor '.join(SHORT_PLACES)} can be written"
        ),
        expected=f"at most {longest} bytes, for sockets are made below it",
        hint=(
            "set TMPDIR to a folder with a short name that this user can write, in the environment"
            " of whatever runs pgdrill"
        ),
    )


def remembered(link: Path, owners: Collection[int] = ()) -> Path | None:
    """Return where ``link`` leads, if that is a folder of ours that is closed to others.

    It may also be a folder of one of ``owners``.
    """
    try:
        folder = Path(os.readlink(link))  # noqa: PTH115 - the link itself
        found = folder.lstat()
    except OSError:
        return None
    mine = (
        found.st_uid in {os.geteuid(), *owners}
        and stat.S_ISDIR(found.st_mode)
        and not found.st_mode & OPEN_TO_OTHERS
    )
    return folder if mine and folder.name.startswith(PREFIX) else None


def forget(link: Path, owners: Collection[int] = ()) -> None:
    """Remove a folder and its link; nothing there is fine, and what is not ours is left alone."""
    if folder := remembered(link, owners):
        shutil.rmtree(folder, ignore_errors=True)
    if link.is_symlink():
        link.unlink()


def closed_to_writers() -> None:
    """Let nobody else write to what this process makes from now on, whatever umask it began with.

    Folders in between (``parents=True``) are made by the umask alone.
    """
    os.umask(os.umask(OTHERS_WRITE) | OTHERS_WRITE)


def check_place(folder: Path, *, above: int) -> None:
    """Raise in words if somebody else can put something in the place of ``folder``.

    It has to be ours alone, as have ``above`` of those it lies in. What is not there yet is no
    trouble.
    """
    path = (folder, *folder.parents)
    for own in path[: above + 1]:
        with contextlib.suppress(FileNotFoundError):
            _ours(own)
    _closed((*path[above + 1 :], *folder.resolve().parents[above:]))  # a link may lead past others


def check_way(folder: Path) -> None:
    """Raise in words if somebody else can put something in the place of ``folder``.

    The same is asked of what leads to it, links among that.
    """
    _closed((folder, *folder.parents, *folder.resolve().parents))


def _closed(folders: Iterable[Path]) -> None:
    for other in dict.fromkeys(folders):
        with contextlib.suppress(FileNotFoundError):
            if (mode := other.stat().st_mode) & stat.S_IWOTH and not mode & stat.S_ISVTX:
                raise _unsafe(
                    other,
                    f"mode {stat.S_IMODE(mode):04o}: everybody may rename what is in it",
                    "a folder that others cannot change",
                )


def _ours(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise _unsafe(path, "a link, or a file", "a folder")
    if found.st_uid != os.geteuid():
        raise _unsafe(
            path,
            f"a folder of user {found.st_uid}",
            f"one of user {os.geteuid()}, who runs this",
            f"run all jobs of this host as one user; as root, `chown -R {os.geteuid()} {path}`"
            " gives it to this one, or choose another drill.work_directory",
        )
    if found.st_mode & stat.S_IWOTH or (
        found.st_mode & stat.S_IWGRP and found.st_gid != os.getegid()
    ):
        raise _unsafe(
            path,
            f"mode {stat.S_IMODE(found.st_mode):04o}: others may write to it",
            "a folder that others cannot write to",
        )


def _unsafe(path: Path, found: str, expected: str, hint: str = "") -> CouldNotVerify:
    return CouldNotVerify(
        "unsafe-folder",
        f"{path}",
        found=found,
        expected=expected,
        hint=hint
        or (
            "see who made it, remove it or mend its owner and mode (chown, chmod 0700), or choose"
            " another drill.work_directory"
        ),
    )
