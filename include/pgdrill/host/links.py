"""Symbolic links in a data directory: what lies behind them is in no backup.

Only pg_wal and the tablespaces are followed. wal-g leaves a link out; barman-cloud keeps the link
and not what it leads to. Both end with success.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pgdrill.errors import BackupFault

logger = logging.getLogger(__name__)

SHOWN = 5
# Names in which PostgreSQL keeps its data, or without which it does not start. Other things are
# people's: keys, logs, configuration files.
NEEDED = frozenset(
    {
        "base",
        "global",
        "pg_commit_ts",
        "pg_dynshmem",
        "pg_logical",
        "pg_multixact",
        "pg_notify",
        "pg_replslot",
        "pg_serial",
        "pg_snapshots",
        "pg_stat",
        "pg_subtrans",
        "pg_tblspc",
        "pg_twophase",
        "pg_xact",
        "PG_VERSION",
        "backup_label",
    }
)


def links_inside(data_directory: Path) -> Iterator[Path]:
    """Yield every link below a data directory and its tablespaces that no backup tool follows."""
    yield from _below(data_directory, data_directory)
    for space in (data_directory / "pg_tblspc").glob("*"):
        if space.is_dir():
            yield from _below(space, data_directory)


def _below(folder: Path, data_directory: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:  # a database was dropped meanwhile
        return
    for entry in entries:
        path = Path(entry.path)
        if path.parent == data_directory / "pg_tblspc" or path == data_directory / "pg_wal":
            continue  # these are followed, and WAL is archived
        if entry.is_symlink():
            yield path
        elif entry.is_dir(follow_symlinks=False):
            yield from _below(path, data_directory)


def check_links(data_directory: Path) -> None:
    """Raise if a part of the data directory would be in no backup.

    Warn of what a recovery may do without.
    """
    links = list(links_inside(data_directory))
    needed = [link for link in links if _needed(link.relative_to(data_directory))]
    others = [link for link in links if link not in needed]
    if needed:
        raise BackupFault(
            "symbolic-link",
            f"{_shown(needed)} in the data directory",
            found="a symbolic link: what it leads to is in no backup",
            expected="plain files and folders; only pg_wal and tablespaces may lie elsewhere",
            hint=(
                "stop the server, put the folder itself in the link's place, start it; to keep it"
                " on the other disk, make it a tablespace, or bind-mount it there"
            ),
        )
    if others:
        logger.warning(
            "no backup holds what these symbolic links lead to, and a recovery has to do"
            " without: %s",
            _shown(others),
        )


def check_unpacked_links(removed: Iterable[Path], data_directory: Path, backup: str) -> None:
    """Raise if a fetched backup holds a link where data belongs."""
    for path in removed:
        inside = path.relative_to(data_directory) if path.is_relative_to(data_directory) else None
        # a tablespace's folder is all data
        if inside is None or (_needed(inside) and inside.parent != Path("pg_tblspc")):
            raise BackupFault(
                "symbolic-link",
                f"{inside or path} of backup {backup}",
                found="no plain file: a link, or a device",
                expected=(
                    "the file or folder itself: what a link of production led to is not in the"
                    " backup"
                ),
                hint=(
                    "put the folder itself in the link's place on production, then take a new base"
                    " backup; this one cannot be restored"
                ),
            )


def _needed(inside: Path) -> bool:
    return inside.parts[0] in NEEDED


def _shown(links: list[Path]) -> str:
    more = f" and {len(links) - SHOWN} more" if len(links) > SHOWN else ""
    return ", ".join(f"{link} -> {link.readlink()}" for link in sorted(links)[:SHOWN]) + more
