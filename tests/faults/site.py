"""A small stack for the faults: two base backups, a hold, a dump that was restored, and copies of
its repository.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.logical.drill import drill_dump
from pgdrill.logical.take import take_dump
from pgdrill.postgres.wal import Segment, format_lsn, parse_lsn
from pgdrill.repository.archiver import wait_archived
from pgdrill.retention import holds
from pgdrill.vectors.labels import Label
from pgdrill_demo.stack import Stack
from tests.damage.small import SmallStack

TABLE = """
CREATE EXTENSION vector;
CREATE TABLE items (id int PRIMARY KEY, word text, v vector(8)) WITH (autovacuum_enabled = off);
CREATE INDEX ON items USING hnsw (v vector_l2_ops);
COMMENT ON COLUMN items.v IS '{}';
"""
ROWS = """
INSERT INTO items
SELECT i, 'w' || i,
       (SELECT array_agg(10 * sin(i % 9 + d) + sin(i * d * 0.37) ORDER BY d)
        FROM generate_series(1, 8) d)::vector
FROM generate_series({}, {}) i
"""
CONTENT = "SELECT count(*), sum(hashtext(i::text)) FROM items i"
STALL = 8.0
LIMITS = {
    "drill": {
        "stall_seconds": STALL,
        "timeout_seconds": 90.0,
        "statement_timeout_seconds": 20.0,
        "keep_free_bytes": 2**20,
        "priority": "normal",
    },
    "backup": {"stall_seconds": STALL, "timeout_seconds": 90.0, "archive_wait_seconds": 20.0},
    "dump": {"stall_seconds": STALL, "timeout_seconds": 90.0},
    "retention": {
        "stall_seconds": STALL,
        "timeout_seconds": 90.0,
        "weekly": 1,
        "dumps_monthly": 0,
        "require_drill": False,
        "max_share": 1.0,
    },
}
NUMBERS = itertools.count(1)


@dataclass
class Site:
    """What the cases share. ``content`` is what the table held at ``target``."""

    stack: Stack
    golden: Path
    target: str
    content: tuple[int, int]
    backups: tuple[str, ...]
    held: str
    dump: str
    system_identifier: int
    later: datetime  # when the first backup may go, but for its hold, and the second

    @property
    def bucket(self) -> Path:
        """The store's folder."""
        return self.stack.s3.folder / self.stack.s3.bucket

    @contextmanager
    def copy(self) -> Iterator[Place]:
        """A repository of its own."""
        name = f"c{next(NUMBERS)}"
        shutil.copytree(self.golden, self.bucket / name)
        place = Place(self, name, self.stack.home / "work" / name)
        try:
            yield place
        finally:
            shutil.rmtree(self.bucket / name, ignore_errors=True)
            shutil.rmtree(place.work, ignore_errors=True)

    @contextmanager
    def live(self) -> Iterator[Place]:
        """The repository that production archives into; what came of it but WAL goes again."""
        name = self.stack.cluster_name
        before = set(files(self.bucket / name))
        place = Place(self, name, self.stack.home / "work" / f"live{next(NUMBERS)}")
        try:
            yield place
        finally:
            for file in set(files(self.bucket / name)) - before:
                if not file.startswith(("wal_005/", f"{name}/wals/")):
                    (self.bucket / name / file).unlink(missing_ok=True)
            shutil.rmtree(place.work, ignore_errors=True)


@dataclass(frozen=True)
class Place:
    """One case's repository and drill host."""

    site: Site
    name: str
    work: Path

    @property
    def folder(self) -> Path:
        """Its objects as files."""
        return self.site.bucket / self.name

    def access(self, endpoint_url: str = "") -> Access:
        """By way of the proxy, or straight."""
        cluster, store = self.site.stack.cluster, self.site.stack.s3
        own = {name: dict(values) for name, values in LIMITS.items()}
        own["drill"]["work_directory"] = self.work
        own["repository"] = {
            "url": f"s3://{store.bucket}/{self.name}",
            "endpoint_url": endpoint_url or store.endpoint_url,
        }
        changed = {
            name: getattr(cluster, name).model_copy(update=values) for name, values in own.items()
        }
        return Access(cluster.model_copy(update=changed), self.site.stack.credentials)

    def without_production(self, access: Access) -> Access:
        """A drill host that cannot reach it."""
        own = {
            "dsn": f"host={self.site.stack.home}/gone",
            "system_identifier": self.site.system_identifier,
        }
        server = access.cluster.server.model_copy(update=own)
        return Access(
            access.cluster.model_copy(update={"server": server}),
            Credentials({}, access.credentials.environment),
        )


def files(folder: Path) -> dict[str, str]:
    """Every object with its content's digest."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@contextmanager
def site(tool: str) -> Iterator[Site]:
    """Made once for all cases of a tool."""
    stack = SmallStack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=tool)
    cached = os.environ.get("RCLONE_DIR_CACHE_TIME")
    os.environ["RCLONE_DIR_CACHE_TIME"] = "1ms"  # files change behind its back
    try:
        stack.create(sample=False)
        stack.start()
        yield _fill(stack)
    finally:
        stack.remove()
        os.environ.pop("RCLONE_DIR_CACHE_TIME")
        if cached is not None:
            os.environ["RCLONE_DIR_CACHE_TIME"] = cached


def _fill(stack: Stack) -> Site:
    access = stack.access
    with stack.connect() as connection:
        connection.execute(TABLE.format(Label(model="made", version="1", text_column="word").line))
        connection.execute(ROWS.format(1, 150))
        backups = [take_backup(access).name, take_backup(access).name]
        connection.execute(ROWS.format(151, 300))
        connection.execute("SELECT pg_switch_wal()")
        backups.append(take_backup(access).name)
        identifier = access.repository.backups()[0].system_identifier
        dump = take_dump(access).dump_id
        drilled = drill_dump(access)
        assert drilled.verdict == "passed", [
            drilled.reason,
            *(result for result in drilled.results if result.status == "fail"),
        ]
        content = connection.execute(CONTENT).fetchone()
        lsn, line = connection.execute(
            "SELECT pg_current_wal_lsn()::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
        ).fetchone()
        connection.execute("SELECT pg_logical_emit_message(true, 'x', 'x')")
        connection.execute("SELECT pg_switch_wal()")
        wait_archived(
            connection, access.repository, Segment.holding(parse_lsn(lsn), int(line, 16)), 60
        )
    now = datetime.now(UTC)
    holds.add_hold(access, backups[0], why="case 77/26", until=now + timedelta(days=200))
    golden = stack.home / "golden"
    shutil.copytree(stack.s3.folder / stack.s3.bucket / stack.cluster_name, golden)
    return Site(
        stack,
        golden,
        f"lsn:{format_lsn(parse_lsn(lsn))}",
        content,
        tuple(backups),
        backups[0],
        dump,
        identifier,
        now + timedelta(days=100),
    )
