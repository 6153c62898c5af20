"""What all groups need: a stack for the while, small WAL segments, a throw-away server, a restored
base by the tool's own command.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg

from pgdrill.postgres.server import LocalServer
from pgdrill.postgres.wal import Segment
from pgdrill.repository.archiver import wait_archived
from pgdrill_demo.stack import DATABASE, Stack, binaries, preferred_tool

WRITTEN = (
    "CREATE TABLE written AS SELECT i AS n, repeat('x', i % 200) || md5(i::text) AS t FROM"
    " generate_series(1, 3000) i"
)
COUNT = "SELECT count(*) FROM embeddings"
NEAREST = (
    "SELECT id FROM embeddings ORDER BY embedding <=> (SELECT embedding FROM embeddings LIMIT 1)"
    " LIMIT 1"
)


@contextlib.contextmanager
def running(
    tool: str = "", scale: float = 1.0, *, sample: bool = True, **drill: object
) -> Iterator[Stack]:
    """A stack that archives only when told to; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    # A server that nobody writes to between rounds keeps no RPO, and no drill here is about that.
    stack = Stack(
        folder,
        tool=tool or preferred_tool(),
        archive_timeout_seconds=3600,
        drill={"rpo_seconds": 7 * 86_400, **drill},
    )
    try:
        stack.create(scale, sample=sample)
        stack.start()
        with stack.connect() as connection:
            connection.execute(WRITTEN)
        yield stack
    finally:
        stack.remove()


def write_segments(stack: Stack, count: int) -> None:
    """So many segments of about 0.8 MB of WAL each, archived when it returns."""
    with stack.connect() as connection:
        for _ in range(count):
            connection.execute("UPDATE written SET t = t || ''")
            last = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()[0]  # type: ignore[index]
        wait_archived(connection, stack.access.repository, Segment.parse(last), 900)


@contextlib.contextmanager
def scratch(stack: Stack, *, removed: bool = True) -> Iterator[tuple[LocalServer, dict[str, str]]]:
    """A throw-away server, ended and removed (or put aside) afterwards, and an environment for the
    tool.
    """
    folder = Path(tempfile.mkdtemp(prefix="pgdrill-", dir=stack.home))
    (folder / "data").mkdir(mode=0o700)
    environment = {**stack.access.tool.environment(), "HOME": str(folder), "TMPDIR": str(folder)}
    server = LocalServer(
        binaries(),
        folder / "data",
        folder,
        folder / "log",
        options={"listen_addresses": "", "max_connections": "120", "archive_mode": "off"},
        environment=environment,
    )
    try:
        yield server, environment
    finally:
        server.stop()
        if not removed:
            put_aside(server.data_directory, stack)
        shutil.rmtree(folder, ignore_errors=True)


def put_aside(folder: Path, stack: Stack) -> None:
    """Out of the way until the stack goes, where the disk is less than half full; else the caller
    removes it.
    """
    usage = shutil.disk_usage(stack.home)
    if folder.exists() and usage.free > usage.total / 2:
        aside = stack.home / "aside"
        aside.mkdir(exist_ok=True)
        folder.rename(aside / secrets.token_hex(4))


def fetch_base(stack: Stack, into: Path, environment: Mapping[str, str], **settings: str) -> None:
    """The tool's own command for the newest backup with the tool's own settings, and others where
    told.
    """
    access = stack.access
    newest = max(access.repository.backups(), key=lambda backup: backup.finish_time)
    command = access.tool.fetch(newest, into, {}, into.parent, 2).command
    subprocess.run(
        command.argv, env={**os.environ, **environment, **settings}, check=True, capture_output=True
    )


def answered(server: LocalServer, password: str) -> None:
    """Start; return when a server out of recovery has answered a count and a search."""
    launched = server.launch()
    server.wait_until(lambda: server.status() == "ready", "accepts connections", 900, launched)
    with psycopg.connect(
        server.conninfo(DATABASE, password=password), autocommit=True
    ) as connection:
        while connection.execute("SELECT pg_is_in_recovery()").fetchone()[0]:  # type: ignore[index]
            time.sleep(0.01)
        connection.execute(COUNT)
        connection.execute(NEAREST)
