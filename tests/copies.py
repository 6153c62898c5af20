"""A throw-away server on a copy of a data directory: damaged, asked, and its folder used again for
the next copy.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from stat import S_IFMT, S_ISREG

from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.workspace import Workspace
from pgdrill_demo.stack import Stack


@contextmanager
def server_on_copy(
    data_directory: Path, stack: Stack, idle: list[Path], **options: str
) -> Iterator[LocalServer]:
    """A server on a copy, not started; stopped in the end.

    ``idle``: folders of earlier copies, which gets its own back.
    """
    folder = idle.pop() if idle else Path(tempfile.mkdtemp(prefix="pgdrill-", dir=stack.home))
    make_alike(Workspace(folder).data_directory, data_directory)
    configuration = Workspace(folder).configuration
    shutil.rmtree(configuration, ignore_errors=True)
    configuration.mkdir()
    (configuration / "pg_hba.conf").write_text("local all all trust\n")
    options = {
        "hba_file": str(configuration / "pg_hba.conf"),
        "listen_addresses": "",
        "fsync": "off",
        "archive_mode": "off",
        "autovacuum": "off",
        "max_connections": "120",
        **options,
    }
    server = replace(
        Workspace(folder).server(stack.access), options=options, lease_file=None, pid_file=None
    )
    server.log_file.unlink(missing_ok=True)
    try:
        yield server
    finally:
        server.stop(to_be_removed=True)
        shutil.rmtree(server.socket_directory, ignore_errors=True)
        idle.append(folder)


def make_alike(folder: Path, mould: Path) -> None:
    """Make ``folder`` the same as the mould: only what was written since, by size and time, is
    copied again.
    """
    wanted, found = entries(mould), entries(folder)
    strange = {
        path
        for path, entry in found.items()
        if path not in wanted or S_IFMT(wanted[path][0]) != S_IFMT(entry[0])
    }
    for path in sorted(strange, reverse=True):  # what is in a folder before the folder
        place = folder / path
        place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
    for path, entry in sorted(wanted.items()):
        if found.get(path) != entry and (mould / path).is_dir():
            (folder / path).mkdir(parents=True, exist_ok=True)
            shutil.copymode(mould / path, folder / path)
        elif found.get(path) != entry:
            shutil.copy2(mould / path, folder / path, follow_symlinks=False)


def entries(folder: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a folder: its mode and, of a file, its bytes and the time of its last
    write."""
    every = {}
    for place, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            path = Path(place, name)
            stat = path.lstat()
            is_file = S_ISREG(stat.st_mode)
            every[str(path.relative_to(folder))] = (
                (stat.st_mode, stat.st_size, stat.st_mtime_ns) if is_file else (stat.st_mode,)
            )
    return every
