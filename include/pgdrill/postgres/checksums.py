"""Page checksums of production, where it computes none: the way to switch them on."""

from __future__ import annotations

import shlex
from pathlib import Path

import psycopg

NONE = "SELECT pg_catalog.current_setting('data_checksums') = 'off'"


def computes_none(connection: psycopg.Connection) -> bool:
    """Return True if this server's pages have no checksums."""
    row = connection.execute(NONE).fetchone()
    return bool(row and row[0])


def switch_on(bin_dir: Path, data_directory: Path) -> str:
    """Return in words what an administrator does to switch checksums on, in whole.

    pg_checksums refuses a server that runs. A standby keeps its own word of whether it has
    checksums.
    """
    ctl, checksums, data = (
        shlex.quote(str(path))
        for path in (bin_dir / "pg_ctl", bin_dir / "pg_checksums", data_directory)
    )
    return (
        "the server has to be stopped for it, for as long as all of its files take to read and"
        f" write: as their owner, `{ctl} stop -D {data} && {checksums} --enable --progress -D"
        f" {data}`, then start it as ever; a standby likewise"
    )
