"""Page checksums of production, where it computes none: the way to switch them on."""

from __future__ import annotations

import shlex
from pathlib import Path

import psycopg

PROGRAMS = ("pg_ctl", "pg_checksums")
NONE = "SELECT pg_catalog.current_setting('data_checksums') = 'off'"


def computes_none(connection: psycopg.Connection) -> bool:
    """Return True if this server's pages have no checksums."""
    row = connection.execute(NONE).fetchone()
    return bool(row and row[0])


def switch_on(bin_dir: Path, data_directory: Path) -> str:
    """Return in words what an administrator does to switch checksums on, in whole.

    Programs that lack here come first. pg_checksums refuses a server that runs. A standby keeps its
    own word of whether it has checksums.
    """
    lacking = [name for name in PROGRAMS if not (bin_dir / name).is_file()]
    first = (
        f"install PostgreSQL's server package ({bin_dir} has no {' and no '.join(lacking)}); "
        if lacking
        else ""
    )
    ctl, checksums, data = (
        shlex.quote(str(path)) for path in (*(bin_dir / name for name in PROGRAMS), data_directory)
    )
    return (
        f"{first}the server has to be stopped for it, for as long as all of its files take to read"
        f" and write: as their owner, `{ctl} stop -D {data} && {checksums} --enable --progress -D"
        f" {data}`, then start it as ever; a standby likewise"
    )
