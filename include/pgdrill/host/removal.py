"""Removing a folder whose content may be an attacker's.

It is renamed first, then emptied without following a link.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

GONE = ".gone-"  # no drill's id has a dot in it
READ_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def put_away(folder: Path) -> None:
    """Remove a folder, and what is left of earlier tries. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        rename_away(folder)
    for gone in folder.parent.glob(f"{folder.name}{GONE}*"):
        remove(gone)


def rename_away(folder: Path) -> Path:
    """Give a folder a name by which anybody may remove it, and return the new path.

    What is half removed must never be taken for a drill's folder.
    """
    return folder.rename(folder.with_name(f"{folder.name}{GONE}{secrets.token_hex(4)}"))


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it; what somebody else removes meanwhile is fine.

    Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        top = _open(str(folder), None)
        try:
            while folders := _without_files(top, top):
                for name in folders:
                    with contextlib.suppress(FileNotFoundError):
                        _flatten(name, top)
        finally:
            os.close(top)
        folder.rmdir()


def _flatten(name: str, top: int) -> None:
    """Bring the folders in a folder up to the top and remove it.

    However deep they lie, two are open at a time.
    """
    descriptor = _open(name, top)
    try:
        _without_files(descriptor, top)
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=top)


def _without_files(descriptor: int, top: int) -> list[str]:
    """Remove a folder's files and bring its folders up to the top.

    At the top, return their names.
    """
    folders = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=descriptor)
                elif descriptor == top:
                    folders.append(entry.name)
                else:
                    # a folder must be writable itself to be moved
                    os.close(_open(entry.name, descriptor))
                    os.rename(
                        entry.name, secrets.token_hex(16), src_dir_fd=descriptor, dst_dir_fd=top
                    )
    return folders


def _open(name: str, parent: int | None) -> int:
    """Open a folder, never through a link; one that is closed to its own owner is opened to him."""
    path = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        with contextlib.suppress(PermissionError):  # somebody else's, and yet perhaps open
            Path(f"/proc/self/fd/{path}").chmod(0o700)
        return os.open(".", READ_FOLDER, dir_fd=path)
    finally:
        os.close(path)
