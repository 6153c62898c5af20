"""The protected server's own environment.

Its archive_command gets the keys of the bucket from it, and from nowhere else.
"""

from __future__ import annotations

from pathlib import Path

import psycopg

from pgdrill.config import Cluster
from pgdrill.postgres.server import pid_lines
from pgdrill.repository.object_store import KEYS

DEBIAN = Path("/etc/postgresql")  # …/18/main/environment is read by pg_ctlcluster
UNIT = "the file that EnvironmentFile= of the server's systemd unit names"


def config_file(connection: psycopg.Connection) -> Path | None:
    """Return where the server says that it has its settings from.

    A role without pg_monitor is not told: None.
    """
    row = connection.execute(
        "SELECT setting FROM pg_settings WHERE name = 'config_file'"
    ).fetchone()
    return Path(str(row[0])) if row and row[0] else None


def keys_hint(connection: psycopg.Connection, cluster: Cluster) -> str:
    """Return a hint which keys to add where, if archiving to a bucket fails.

    Empty where the running server has both, or needs none.
    """
    if not cluster.repository.url.startswith("s3://"):
        return ""
    known = _of_the_postmaster(cluster.server.data_directory)
    lacking = [name for name in KEYS if not (known or {}).get(name)]
    if not lacking:
        return ""
    file, restart = _file(connection)
    if known is None:
        begin = f"if it says that there are no credentials, set {' and '.join(KEYS)} in {file}"
    else:
        begin = (
            f"the running server has no {' and no '.join(lacking)}: unless its machine's role opens"
            f" the bucket, set {' and '.join(KEYS)} in {file}"
        )
    return (
        f"{begin} (`pgdrill archive-command {cluster.name} --environment` prints all that belongs"
        f" there), and {restart}: it is read only at a start"
    )


def _of_the_postmaster(data_directory: Path) -> dict[str, str] | None:
    """Return the variables that the server was started with.

    None where it is on another host, or another user's.
    """
    try:
        pid = int(pid_lines(data_directory)[0])
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):
        return None
    return dict(word.decode(errors="replace").partition("=")[::2] for word in words if word)


def _file(connection: psycopg.Connection) -> tuple[str, str]:
    """Return where the keys belong, and how the server is started anew."""
    file = config_file(connection)
    folder = file.parent if file else None
    if folder and folder.is_relative_to(DEBIAN) and len(folder.parts) == len(DEBIAN.parts) + 2:
        return (
            f"{folder / 'environment'} (mode 0600)",
            f"restart it (`pg_ctlcluster {folder.parts[-2]} {folder.parts[-1]} restart`)",
        )
    if folder and (folder / "environment").is_file():
        return f"{folder / 'environment'}", "restart the server"
    return UNIT, "restart the server"
