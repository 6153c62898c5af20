"""Fourteen weeks of history, made by a real tool within a minute or two, and what the tool alone
makes of it.

The times are put where the tool reads them: wal-g's sentinels, metadata and objects' own times;
barman's backup.info and ids. The repository is a folder, of which tests take copies.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import psycopg

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.baseline import backup_record
from pgdrill.postgres.server import LocalServer
from pgdrill.postgres.wal import Segment, parse_lsn
from pgdrill.repository.archiver import wait_archived
from pgdrill_demo.s3 import S3Server
from pgdrill_demo.stack import Stack, binaries

WEEKS = 14
WINDOW = timedelta(days=35)
DAY = timedelta(days=1)
WAL_FILE = re.compile(r"(wal_005|\w+/wals/[0-9A-F]{16})/[0-9A-F]{24}")
# Days of backups by hand: before a migration, say. One of barman-cloud's takes seconds, so it has
# few.
EXTRAS = {"wal-g": (86, 87, 89, 90, 92, 93, 95, 96), "barman-cloud": (96,)}


@dataclass(frozen=True)
class Instant:
    """What production held at a moment of the invented calendar."""

    at: datetime
    lsn: str
    rows: int


class Listed(NamedTuple):
    """A base backup as the tool lists it."""

    name: str
    started: datetime
    ended: datetime
    permanent: bool


@dataclass
class Repository:
    """A copy of the repository, and the tool alone: as somebody has it who knows nothing of
    pgdrill.
    """

    folder: Path
    stack: Stack

    def access(self, **retention: object) -> Access:
        """For pgdrill."""
        cluster = self.stack.cluster
        drill = cluster.drill.model_copy(update={"work_directory": self.folder.parent / "prune"})
        kept = cluster.retention.model_copy(update=retention)
        where = cluster.repository.model_copy(update=self.place)
        return Access(
            cluster.model_copy(update={"repository": where, "drill": drill, "retention": kept}),
            self.credentials,
        )

    def run(self, program: str, *words: str) -> str:
        done = subprocess.run(
            [program, *words],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def files(self) -> set[str]:
        """The tool's objects."""
        return {
            str(f.relative_to(self.folder))
            for f in self.folder.rglob("*")
            if f.is_file() and "pgdrill" not in f.parts
        }

    def segments(self) -> set[str]:
        """The archived segments' names."""
        return {Path(name).name[:24] for name in self.files() if WAL_FILE.match(name)}

    def newest_before(self, instant: Instant) -> str | None:
        """The base backup that a person would take: the newest that the tool lists and that had
        ended by then.
        """
        fitting = [backup for backup in self.listed() if backup.ended <= instant.at]
        return max(fitting, key=lambda backup: backup.started).name if fitting else None

    def restored_rows(self, backup: str, lsn: str = "") -> int:
        """Fetch a base backup and replay WAL to a position (or to the backup's own end), by the
        tool alone; then count.
        """
        place = Path(tempfile.mkdtemp(prefix="r", dir=self.stack.home))
        data = place / "data"
        self.fetch(backup, data)
        data.chmod(0o700)
        (data / "recovery.signal").touch()
        target = {"recovery_target_lsn": lsn} if lsn else {"recovery_target": "immediate"}
        server = LocalServer(
            binaries(),
            data,
            place / "s",
            place / "log",
            options={
                **target,
                "recovery_target_action": "promote",
                "restore_command": self.restore_command,
                "archive_mode": "off",
                "listen_addresses": "",
                "fsync": "off",
                "shared_buffers": "16MB",
                "max_connections": "120",
            },
            environment=self.environment,
        )
        try:
            server.start()
            words = server.conninfo("agents")
            with psycopg.connect(
                words, password=self.stack.passwords["postgres"], autocommit=True
            ) as connection:
                server.wait_until(
                    lambda: connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,),
                    "has recovered",
                    60,
                )
                return count(connection)
        finally:
            server.stop()
            shutil.rmtree(place)


class WalG(Repository):
    """wal-g takes a folder as it takes a bucket."""

    restore_command = "wal-g wal-fetch %f %p"

    @property
    def credentials(self):
        return self.stack.credentials

    @property
    def place(self) -> dict[str, str]:
        return {"url": f"file://{self.folder}", "endpoint_url": ""}

    @property
    def environment(self) -> dict[str, str]:
        home = self.folder.parent / "tool-home"
        home.mkdir(exist_ok=True)
        return {
            "WALG_FILE_PREFIX": str(self.folder),
            "WALG_COMPRESSION_METHOD": "lz4",
            "HOME": str(home),
            "TMPDIR": str(home),
            "WALG_DOWNLOAD_CONCURRENCY": "1",
        }

    def listed(self) -> list[Listed]:
        found = json.loads(self.run("wal-g", "backup-list", "--detail", "--json") or "[]")
        return [
            Listed(
                b["backup_name"],
                *(datetime.fromisoformat(b[key]) for key in ("start_time", "finish_time")),
                b["is_permanent"],
            )
            for b in found
        ]

    def fetch(self, backup: str, into: Path) -> None:
        self.run("wal-g", "backup-fetch", str(into), backup)

    def date(self, name: str, began: datetime) -> str:
        """Give a backup the times of the invented calendar, of the same length, for its record
        knows the sizes; and its record.
        """
        place, ended = self.folder / "basebackups_005", began + timedelta(hours=1)
        sentinel = place / f"{name}_backup_stop_sentinel.json"
        metadata = place / name / "metadata.json"
        for file, names in (
            (sentinel, ("StartTime", "FinishTime")),
            (metadata, ("start_time", "finish_time")),
        ):
            text = file.read_text()
            for key, moment in zip(names, (began, ended), strict=True):
                was = json.loads(text)[key]
                text = text.replace(was, f"{moment:%Y-%m-%dT%H:%M:%S}.{'0' * (len(was) - 21)}Z")
            file.write_text(text)
        redate_record(self.folder, name, name, ended)
        for file in (sentinel, *(place / name).rglob("*")):
            os.utime(file, (ended.timestamp(),) * 2)
        return name


class Barman(Repository):
    """barman-cloud knows object stores only: each copy has one of its own, so that none remembers
    what was there before.
    """

    @cached_property
    def store(self) -> S3Server:
        made = S3Server(self.folder.parents[1])
        assert self.folder.parent.name == made.bucket
        made.start()
        return made

    @property
    def credentials(self):
        credentials = self.stack.credentials
        return type(credentials)(credentials.postgres, self.store.environment)

    @property
    def place(self) -> dict[str, str]:
        return {
            "url": f"s3://{self.store.bucket}/{self.folder.name}",
            "endpoint_url": self.store.endpoint_url,
        }

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.store.environment,
            "AWS_DEFAULT_REGION": "us-east-1",
            "HOME": str(self.stack.home),
        }

    @property
    def words(self) -> tuple[str, ...]:
        return ("--endpoint-url", self.store.endpoint_url, "--addressing-style", "path")

    @property
    def where(self) -> tuple[str, str]:
        return (self.place["url"], self.stack.cluster_name)

    @property
    def restore_command(self) -> str:
        return " ".join(("barman-cloud-wal-restore", *self.words, *self.where, "%f", "%p"))

    def listed(self) -> list[Listed]:
        found = json.loads(
            self.run("barman-cloud-backup-list", *self.words, "--format", "json", *self.where)
        )["backups_list"]
        return [
            Listed(
                b["backup_id"],
                *(datetime.fromisoformat(b[key]) for key in ("begin_time_iso", "end_time_iso")),
                False,
            )
            for b in found
        ]

    def fetch(self, backup: str, into: Path) -> None:
        self.run("barman-cloud-restore", *self.words, *self.where, backup, str(into))

    def date(self, name: str, began: datetime) -> str:
        """Its id is the second in which it began; the rest is in backup.info, in lines of the same
        length.
        """
        place = self.folder / self.stack.cluster_name / "base"
        ended = began + timedelta(hours=1)
        new = f"{began:%Y%m%dT%H%M%S}"
        info = place / name / "backup.info"
        lines = dict(line.partition("=")[::2] for line in info.read_text().splitlines())
        for key, moment in (("begin_time", began), ("end_time", ended)):
            digits = len(lines[key]) - len(f"{moment:%Y-%m-%d %H:%M:%S}.+00:00")
            lines[key] = f"{moment:%Y-%m-%d %H:%M:%S}.{'0' * digits}+00:00"
        info.write_text(
            "".join(f"{key}={value}\n" for key, value in lines.items()).replace(name, new)
        )
        (place / name).rename(place / new)
        redate_record(self.folder, name, new, ended)
        return new


REPOSITORIES: dict[str, type[Repository]] = {"wal-g": WalG, "barman-cloud": Barman}


def redate_record(folder: Path, name: str, new: str, ended: datetime) -> None:
    """pgdrill's own record of the backup."""
    recorded = folder / "pgdrill" / backup_record.key(name)
    text = recorded.read_text().replace(name, new)
    recorded.unlink()
    (folder / "pgdrill" / backup_record.key(new)).write_text(
        json.dumps({**json.loads(text), "finished_at": ended.isoformat()})
    )


@dataclass
class History:
    """What is known of it. ``now`` is a Saturday, 14:00."""

    stack: Stack
    now: datetime
    whole: Repository = field(init=False)
    instants: list[Instant] = field(default_factory=list)
    bases: dict[str, datetime] = field(default_factory=dict)  # name -> when it ended
    rows: dict[str, int] = field(default_factory=dict)  # name -> rows at its end

    @property
    def weekly(self) -> list[str]:
        return [name for name, ended in self.bases.items() if ended.weekday() == 6]

    @property
    def source(self) -> Path:
        return self.stack.s3.folder / self.stack.s3.bucket / self.stack.cluster_name

    def copy(self, name: str) -> Repository:
        """The repository once more, with the objects' times."""
        # the store marks its process beside "s3"
        place = self.stack.home / name / "s3" / self.stack.s3.bucket / self.stack.cluster_name
        place.parent.mkdir(parents=True)
        subprocess.run(
            ["cp", "-a", self.source if name == "whole" else self.whole.folder, place], check=True
        )
        return REPOSITORIES[self.stack.tool](place, self.stack)

    def promised(self) -> list[Instant]:
        return [instant for instant in self.instants if instant.at >= self.now - WINDOW]


def live_through(history: History) -> None:
    """Base backups on Sundays at 02:00 and on some other days; rows, and WAL, in between."""
    stack, begin = history.stack, history.now - timedelta(days=97, hours=12)
    days = sorted([*(7 * week for week in range(WEEKS)), *EXTRAS[stack.tool]])
    taken: list[tuple[str, datetime, int]] = []
    with stack.connect() as connection:
        connection.execute("CREATE TABLE t (n int PRIMARY KEY)")
        for day, following in zip(days, [*days[1:], 98], strict=True):
            began = begin + DAY * day
            taken.append((take_backup(stack.access).name, began, count(connection)))
            # Saturday evening lies in the window whose first base backup is Sunday's: it needs the
            # one of the week before.
            moments = (
                [began + DAY * 1.6, began + DAY * 6.7]
                if following - day >= 7 and day >= 56
                else [began + timedelta(hours=9)]
            )
            for at in moments:
                lsn = live_on(connection)
                history.instants.append(Instant(min(at, history.now), lsn, count(connection)))
            age(history.source, began + DAY * (following - day) * 0.9)
        wait_archived(connection, stack.access.repository, Segment.holding(parse_lsn(lsn), 1), 60)
        age(history.source, history.now)
    stack.stop()
    history.whole = history.copy("whole")
    for name, began, rows in taken:
        dated = history.whole.date(name, began)
        history.bases[dated], history.rows[dated] = began + timedelta(hours=1), rows


def live_on(connection: psycopg.Connection) -> str:
    """Some rows, and the position after them; the next rows come in a segment of their own."""
    connection.execute(
        "INSERT INTO t SELECT (SELECT coalesce(max(n), 0) FROM t) + i FROM generate_series(1, 10) i"
    )
    (lsn,) = connection.execute("SELECT pg_create_restore_point('here')::text").fetchone()
    connection.execute("SELECT pg_switch_wal()")
    return str(lsn)


def count(connection: psycopg.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def age(folder: Path, at: datetime) -> None:
    """What was archived lately was archived then; barman-cloud asks for no object's time."""
    for file in (folder / "wal_005").glob("*"):
        if file.stat().st_mtime > at.timestamp():
            os.utime(file, (at.timestamp(),) * 2)
