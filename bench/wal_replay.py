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

import lz4.frame
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
from pgdrill.tuning import Tuning
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
    access = stack.access
    workspace = Workspace.of(access, "plan")
    name, lsn, _ = marks["all"]
    plan = plan_restore(access, workspace, Goal(backup.name, RecoveryTarget("name", name), stop_lsn=lsn), Runner())
    command = access.tool.fetch(plan.backup, base, {}, workspace.home, Tuning(2, 2, 0)).command
    subprocess.run(command.argv, env={**os.environ, **command.environment}, check=True, capture_output=True)
    folder = Path(program("barman-cloud-backup")).parent
    repository = Repository(url=f"s3://{stack.s3.bucket}/barman", tool="barman-cloud", binary=str(folder),
                            endpoint_url=stack.s3.endpoint_url, compression="lz4")  # fmt: skip
    barman = Access(stack.cluster.model_copy(update={"repository": repository}), stack.credentials)
    lay_out(stack, barman, plain)
    return Bench(stack, access, barman, plan, base, plain, marks)


def lay_out(stack: Stack, barman: Access, plain: Path) -> None:
    """The same objects as barman names them, and decompressed, as an ``archive_command`` of ``cp`` would leave them."""
    plain.mkdir()
    for file in sorted((stack.s3.folder / stack.s3.bucket / stack.cluster_name / "wal_005").glob("*.lz4")):
        name = file.name.removesuffix(".lz4")
        if len(name) != 24:
            continue
        barman.repository.write(f"{stack.cluster_name}/wals/{name[:16]}/{file.name}", file.read_bytes())
        (plain / name).write_bytes(lz4.frame.decompress(file.read_bytes()))


def replay(
    bench: Bench, mark: str, fetch: str | Callable[[Workspace], WalAhead], access: Access | None = None,
    environment: dict[str, str] | None = None,
) -> Run:  # fmt: skip
    """Start a copy of the base; ``fetch`` is a whole restore_command, or what makes pgdrill's."""
    access = access or bench.access
    workspace = Workspace.of(access, "replay")
    workspace.create()
    shutil.rmtree(workspace.data_directory)
    subprocess.run(["cp", "-a", str(bench.base), str(workspace.data_directory)], check=True)
    os.sync()
    name, _, segments = bench.marks[mark]
    control = binaries().control_data(workspace.data_directory)
    ahead = None if isinstance(fetch, str) else fetch(workspace)
    command = fetch if isinstance(fetch, str) else ahead.restore_command(restore_command(access.tool, SEGMENT_BYTES))  # type: ignore[union-attr]
    values = harmless.settings(
        limits=control.limits, restore_command=command, target=RecoveryTarget("name", name).settings, timeline="1",
        preload="", fast=False,
    )  # fmt: skip
    options = harmless.write(workspace.directory, workspace.data_directory, values)
    inherited = access.tool.wal_environment(workspace.home) if environment is None else environment
    server = LocalServer(binaries(), workspace.data_directory, workspace.socket_directory, workspace.log_file,
                         options=options, environment=inherited)  # fmt: skip
    store = psutil.Process(bench.stack.s3.process.pid)  # type: ignore[union-attr]
    store_cpu, cpu = sum(store.cpu_times()[:2]), children_cpu()
    try:
        began = time.monotonic()
        if ahead:
            ahead.start()
        launched = server.launch()
        server.wait_until(lambda: server.status() == "ready", "reaches the target", 900, launched)
        seconds = time.monotonic() - began
        found = ahead.finish() if ahead else None
        server.stop()
        launched.wait()
        return Run(
            seconds, segments, children_cpu() - cpu, sum(store.cpu_times()[:2]) - store_cpu,
            *((found.waited_seconds, found.by_tool, found.compared) if found else ()),
        )  # fmt: skip
    except Exception:
        print(workspace.log_file.read_text()[-3000:], ahead.fault if ahead else "")
        raise
    finally:
        if ahead:
            ahead.stop()
        workspace.destroy(access)


def children_cpu() -> float:
    """CPU seconds of every process that ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_pgdrill(bench: Bench) -> Run:
    """As a drill does it, but cold."""
    return replay(bench, "all", lambda workspace: wal_ahead(bench.access, workspace, bench.plan, SEGMENT_BYTES))


def run_by_tool(bench: Bench) -> Run:
    """As if the repository were encrypted."""

    def make(workspace: Workspace) -> WalAhead:
        ahead = wal_ahead(bench.access, workspace, bench.plan, SEGMENT_BYTES)
        ahead.order = dataclasses.replace(ahead.order, readable=False)
        return ahead

    return replay(bench, "all", make)


def run_pgdrill_barman(bench: Bench) -> Run:
    """The other layout."""
    make = lambda workspace: wal_ahead(bench.barman, workspace, bench.plan, SEGMENT_BYTES)  # noqa: E731
    return replay(bench, "all", make, bench.barman)


def run_walg(bench: Bench) -> Run:
    """The tool's own command with the tool's own settings."""
    words = (*bench.access.tool.wal_fetch()[:2], '"%f"', '"%p"')
    home = {"HOME": str(bench.stack.home)}
    return replay(bench, "all", " ".join(words), environment={**bench.access.tool.environment(), **home})


def run_barman(bench: Bench) -> Run:
    """The same of the other tool, on fewer segments."""
    words = (f'"{word}"' if word.startswith("%") else word for word in bench.barman.tool.wal_fetch())
    home = {"HOME": str(bench.stack.home)}
    return replay(bench, "few", " ".join(words), bench.barman, {**bench.barman.tool.environment(), **home})


def run_cp(bench: Bench) -> Run:
    """What every manual shows."""
    return replay(bench, "all", f'cp "{bench.plain}/%f" "%p"', environment={})


COMPETITORS: dict[str, Callable[[Bench], Run]] = {
    "pgdrill": run_pgdrill, "pgdrill by tool": run_by_tool, "pgdrill barman": run_pgdrill_barman,
    "wal-g": run_walg, "barman-cloud": run_barman, "cp": run_cp,
}  # fmt: skip


def show(wanted: argparse.Namespace, runs: dict[str, list[Run]]) -> None:
    """Medians with their spread, and what the goals ask for."""
    medians = {name: statistics.median(run.ms_per_segment for run in found) for name, found in runs.items()}
    table = Table(title=f"replay of {wanted.segments} small segments, started cold, {wanted.rounds} rounds")
    for heading in ("competitor", "ms/segment", "min", "max", "CPU ms", "store's CPU ms", "waited ms", "compared"):
        table.add_column(heading, justify="left" if heading == "competitor" else "right")
    for name, found in runs.items():
        times = [run.ms_per_segment for run in found]
        per = [statistics.median(getattr(run, field) / run.segments * 1000 for run in found)
               for field in ("cpu_seconds", "store_cpu_seconds", "waited_seconds")]  # fmt: skip
        table.add_row(name, f"{medians[name]:.1f}", f"{min(times):.1f}", f"{max(times):.1f}",
                      *(f"{value:.1f}" for value in per), str(found[-1].compared))  # fmt: skip
    console = Console()
    console.print(table)
    for name, other, goal in GOALS:
        if name in medians and other in medians:
            ratio = medians[name] / medians[other]
            console.print(f"{name} ÷ {other}: {ratio:.3f} (goal {goal:g}: {'kept' if ratio <= goal else 'missed'})")
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"wal-replay-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine(), "python": platform.python_version(),
               "load": os.getloadavg()}  # fmt: skip
    kept = {name: [dataclasses.asdict(run) for run in found] for name, found in runs.items()}
    file.write_text(json.dumps({"arguments": vars(wanted), "machine": machine, "runs": kept, "medians": medians}, indent=1))
    console.print(f"kept in {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")


if __name__ == "__main__":
    main()
