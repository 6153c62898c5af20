"""One base and its WAL in three layouts: wal-g's, barman's, plain files."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lz4.frame

from bench.stacks import fetch_base, running
from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.config import RepositorySettings
from pgdrill.host.process import Runner
from pgdrill.postgres.wal import Segment, parse_lsn
from pgdrill.recovery.goal import Goal
from pgdrill.recovery.preflight import Plan
from pgdrill.recovery.restore import plan_restore
from pgdrill.recovery.targets import RecoveryTarget
from pgdrill.recovery.workspace import Workspace
from pgdrill.repository.archiver import wait_archived
from pgdrill_demo.s3 import program
from pgdrill_demo.stack import Stack

SEGMENT_BYTES = 16 * 2**20
SUFFIX = ".lz4"
NAME_LENGTH = 24  # of a segment


@dataclass(frozen=True, slots=True)
class Mark:
    """A restore point behind so many segments."""

    name: str
    lsn: int
    segments: int


@dataclass(frozen=True, slots=True)
class Replays:
    """A repository with its plan. ``marks``: ``all``, ``few`` for barman-cloud, and a ``tenth``."""

    stack: Stack
    access: Access
    barman: Access
    plan: Plan
    base: Path
    plain: Path
    marks: dict[str, Mark]


@contextlib.contextmanager
def prepared(many: int, few: int, tenth: int) -> Iterator[Replays]:
    """A base backup by wal-g, then ``many`` segments."""
    with running("wal-g", sample=False) as stack:
        backup = take_backup(stack.access)
        marks = _written(stack, {"few": few, "tenth": tenth, "all": many})
        stack.primary.stop()
        access, last = stack.access, marks["all"]
        workspace = Workspace.of(access, "plan")
        plan = plan_restore(
            access,
            workspace,
            Goal(backup.name, RecoveryTarget("name", last.name), stop_lsn=last.lsn),
            Runner(),
        )
        workspace.destroy()
        base, plain = stack.home / "base", stack.home / "plain"
        fetch_base(stack, base, access.tool.environment())
        repository = RepositorySettings(
            url=f"s3://{stack.s3.bucket}/barman",
            tool="barman-cloud",
            binary=str(Path(program("barman-cloud-backup")).parent),
            endpoint_url=stack.s3.endpoint_url,
            compression="lz4",
        )
        barman = Access(
            stack.cluster.model_copy(update={"repository": repository}), stack.credentials
        )
        _lay_out(stack, barman, plain)
        yield Replays(stack, access, barman, plan, base, plain, marks)


@contextlib.contextmanager
def copied(bench: Replays, access: Access) -> Iterator[Workspace]:
    """A workspace with a copy of the base, on the disk; destroyed afterwards."""
    workspace = Workspace.of(access, "replay")
    workspace.create()
    try:
        shutil.rmtree(workspace.data_directory)
        subprocess.run(["cp", "-a", str(bench.base), str(workspace.data_directory)], check=True)
        os.sync()
        yield workspace
    finally:
        workspace.destroy()


def _written(stack: Stack, wanted: dict[str, int]) -> dict[str, Mark]:
    marks = {}
    with stack.connect() as connection:
        for number in range(1, max(wanted.values()) + 1):
            connection.execute("UPDATE written SET t = t || ''")
            for which, count in wanted.items():
                if count == number:
                    lsn = connection.execute(
                        "SELECT pg_create_restore_point(%s)::text", (which,)
                    ).fetchone()[0]  # type: ignore[index]
                    marks[which] = Mark(which, parse_lsn(lsn), number)
            last = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()[0]  # type: ignore[index]
        wait_archived(connection, stack.access.repository, Segment.parse(last), 900)
    return marks


def _lay_out(stack: Stack, barman: Access, plain: Path) -> None:
    """The same objects as barman names them, and decompressed, as an ``archive_command`` of ``cp``
    would leave them.
    """
    plain.mkdir()
    for file in sorted(
        (stack.s3.folder / stack.s3.bucket / stack.cluster_name / "wal_005").glob(f"*{SUFFIX}")
    ):
        name = file.name.removesuffix(SUFFIX)
        if len(name) == NAME_LENGTH:
            barman.objects.write(
                f"{stack.cluster_name}/wals/{name[:16]}/{file.name}", file.read_bytes()
            )
            (plain / name).write_bytes(lz4.frame.decompress(file.read_bytes()))
