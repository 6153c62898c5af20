"""How long WAL takes to replay, by who fetches it: ``python -m bench.wal_replay --help``.

One base backup and many small segments, as ``archive_timeout`` makes them. Each competitor starts the same copy of the
base with its own ``restore_command`` and is timed from the server's start until it has promoted itself at the same
restore point. All are cold: nothing is fetched before the clock starts, pgdrill's process is not even started.
Rounds are interleaved; compared are medians within one run.

* ``pgdrill``: reads the repository ahead (``drill.wal_fetch = "auto"``), comparing every 50th segment with the tool.
* ``pgdrill by tool``: the same, every segment by wal-g itself, as in an encrypted repository.
* ``wal-g``: ``wal-g wal-fetch %f %p`` with wal-g's own defaults.
* ``pgdrill barman``: reads barman's layout ahead. ``barman-cloud``: ``barman-cloud-wal-restore``, on fewer segments
  (it takes most of a second for each); both are compared by the segment.
* ``cp``: from a folder of whole segments.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from pgdrill.access import Access
from pgdrill.archiving import wait_archived
from pgdrill.backup import take_backup
from pgdrill.config import Repository
from pgdrill.postgres import harmless
from pgdrill.postgres.server import LocalServer
from pgdrill.postgres.wal import Segment, parse_lsn
from pgdrill.preflight import Plan
from pgdrill.process import Runner
from pgdrill.restore import Goal, plan_restore
from pgdrill.targets import RecoveryTarget
from pgdrill.tools import restore_command
from pgdrill.tuning import tune
from pgdrill.walfetch.child import WalAhead
from pgdrill.walfetch.ordering import wal_ahead
from pgdrill.workspace import Workspace
from pgdrill_demo.s3 import program
from pgdrill_demo.stack import Stack, binaries

RESULTS = Path(__file__).parents[1] / ".local" / "bench"
SEGMENT_BYTES = 16 * 2**20
FEW = 40  # segments for barman-cloud alone
GOALS = (
    ("pgdrill", "wal-g", 0.35), ("pgdrill barman", "barman-cloud", 0.08), ("pgdrill", "cp", 1.5),
    ("pgdrill by tool", "wal-g", 0.8),
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """A repository with its plan; ``marks`` are restore points: few segments, all of them."""

    stack: Stack
    access: Access
    barman: Access
    plan: Plan
    base: Path
    plain: Path
    marks: dict[str, tuple[str, int, int]]  # few, all -> name, LSN, segments


@dataclass
class Run:
    """One replay. CPU seconds: of server, restore_command and fetching; of the store apart."""

    seconds: float
    segments: int
    cpu_seconds: float
    store_cpu_seconds: float
    waited_seconds: float = 0.0
    by_tool: int = 0
    compared: int = 0

    @property
    def ms_per_segment(self) -> float:
        """What is compared."""
        return self.seconds / self.segments * 1000


def main() -> None:
    """Prepare, run all in turn, show medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--segments", type=int, default=400)
    parser.add_argument("--only", nargs="*", choices=list(COMPETITORS), default=list(COMPETITORS))
    wanted = parser.parse_args()
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool="wal-g", archive_timeout_seconds=3600)
    try:
        bench = prepare(stack, wanted.segments)
        runs: dict[str, list[Run]] = {name: [] for name in wanted.only}
        for number in range(wanted.rounds):
            names = list(runs)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                runs[name].append(COMPETITORS[name](bench))
                print(f"round {number + 1}: {name} {runs[name][-1].ms_per_segment:.1f} ms/segment", flush=True)
        show(wanted, runs)
    finally:
        stack.remove()


def prepare(stack: Stack, segments: int) -> Bench:
    """A base backup, then segments of about 0.8 MB of real WAL each, in wal-g's and in barman's layout and as plain files."""
    stack.create(sample=False)
    stack.start()
    with stack.connect() as connection:
        connection.execute("CREATE TABLE filled (n int, t text)")
        connection.execute("INSERT INTO filled SELECT i, repeat('x', i % 200) || md5(i::text) FROM generate_series(1, 3000) i")
        backup = take_backup(stack.access)
        first = Segment.parse(connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()[0])  # type: ignore[index]
        marks = {}
        for number in range(1, segments + 1):
            connection.execute("UPDATE filled SET t = t || ''")
            if number in (min(FEW, segments), segments):
                name = f"mark{number}"
                lsn = connection.execute("SELECT pg_create_restore_point(%s)::text", (name,)).fetchone()[0]  # type: ignore[index]
                marks["all" if number == segments else "few"] = (name, parse_lsn(lsn), number)
            last = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()[0]  # type: ignore[index]
        wait_archived(connection, stack.access, Segment.parse(last), 900)
    marks.setdefault("few", marks["all"])
    stack.primary.stop()
    plain, base = stack.home / "plain", stack.home / "base"
    lay_out(stack, plain, first)
    access = stack.access
    workspace = Workspace.of(access, "plan")
    name, lsn, _ = marks["all"]
    plan = plan_restore(access, workspace, Goal(backup.name, RecoveryTarget("name", name), stop_lsn=lsn), Runner())
    tuning = tune(latency_seconds=0.001, base_bytes=plan.backup.uncompressed_bytes, fsync=True) if False else None
    del tuning
    fetch_base(stack, plan, base)
    folder = Path(program("barman-cloud-backup")).parent
    repository = Repository(url=f"s3://{stack.s3.bucket}/barman", tool="barman-cloud", binary=str(folder),
                            endpoint_url=stack.s3.endpoint_url, compression="lz4")  # fmt: skip
    barman = Access(stack.cluster.model_copy(update={"repository": repository}), stack.credentials)
    return Bench(stack, access, barman, plan, base, plain, marks)
