"""How long a drill takes beside what people do by hand: ``make bench`` (or ``python -m bench.drill --help``).

One repository with at least 80 WAL segments after its base backup, one run of each competitor in turn, several
rounds. Compared are medians within this one run; seconds of another machine or day say nothing.

* ``pgdrill``: the drill's own clock, from preflight to the last passed vector check (baseline shown apart).
* ``script``: the four lines everybody writes: fetch LATEST, append ``restore_command``, start, count and one
  ``ORDER BY … LIMIT 1``. It has no recovery target and notices nothing.
* ``tool``: fetching the base backup alone. No server, no WAL.
* ``cp``: ``cp -a`` of a stopped data directory, start, the same two queries.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from pgdrill.archiving import wait_archived
from pgdrill.backup import take_backup
from pgdrill.drill import drill
from pgdrill.postgres.server import LocalServer
from pgdrill.postgres.wal import Segment
from pgdrill.tools import BackupTool
from pgdrill.tuning import Tuning
from pgdrill_demo.stack import DATABASE, Stack, binaries, preferred_tool

COUNT = "SELECT count(*) FROM embeddings"
NEAREST = "SELECT id FROM embeddings ORDER BY embedding <=> (SELECT embedding FROM embeddings LIMIT 1) LIMIT 1"
RESULTS = Path(__file__).parents[1] / ".local" / "bench"


def main() -> None:
    """Prepare, run all in turn, show medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", choices=("wal-g", "barman-cloud"), default=preferred_tool())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--segments", type=int, default=80)
    parser.add_argument("--scale", type=float, default=1.0)
    wanted = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    stack = Stack(home, tool=wanted.tool)
    try:
        backup = prepare(stack, wanted.scale, wanted.segments)
        runs = {name: [] for name in ("pgdrill", "script", "tool", "cp")}  # type: dict[str, list[dict[str, float]]]
        for round_number in range(wanted.rounds):
            names = list(runs)
            for name in names[round_number % 4 :] + names[: round_number % 4]:
                runs[name].append(COMPETITORS[name](stack, backup))
        show(wanted, runs)
    finally:
        stack.remove()


def prepare(stack: Stack, scale: float, segments: int) -> str:
    """A base backup, then small segments as ``archive_timeout`` makes them; gives the backup's name."""
    stack.create(scale)
    stack.start()
    backup = take_backup(stack.access)
    with stack.connect() as connection:
        last = ""
        for _ in range(segments):
            connection.execute("UPDATE agents SET name = name || ''")
            last = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()[0]  # type: ignore[index]
        wait_archived(connection, stack.access, Segment.parse(last), 600)
    stack.primary.stop()
    shutil.copytree(stack.primary.data_directory, stack.home / "stopped", symlinks=True)
    stack.primary.start()
    return backup.name


def run_pgdrill(stack: Stack, backup: str) -> dict[str, float]:
    """The drill, as the DAG runs it."""
    began = time.monotonic()
    report = drill(stack.access)
    whole = time.monotonic() - began
    if report.verdict != "passed":
        raise RuntimeError(f"the drill is not green: {report.reason}")
    timings = report.timings
    return {
        "seconds": timings.time_to_correct_vector_search_seconds or 0.0, "fetch": timings.fetch_seconds or 0.0,
        "replay": timings.replay_seconds or 0.0, "checks": timings.vector_checks_seconds or 0.0,
        "baseline": timings.baseline_seconds or 0.0, "whole": whole,
    }  # fmt: skip


def run_script(stack: Stack, backup: str) -> dict[str, float]:
    """The four lines."""
    with scratch(stack) as (server, environment):
        tool = stack.access.tool
        began = time.monotonic()
        fetch_base(stack, tool, backup, server.data_directory, environment)
        fetched = time.monotonic()
        words = " ".join(f'"{word}"' if word.startswith("%") else word for word in tool.wal_fetch())
        with (server.data_directory / "postgresql.auto.conf").open("a") as config:
            config.write(f"restore_command = '{words}'\n")
        (server.data_directory / "recovery.signal").touch()
        answered(server, stack.passwords["postgres"])
        return {"seconds": time.monotonic() - began, "fetch": fetched - began}


def run_tool(stack: Stack, backup: str) -> dict[str, float]:
    """The base backup alone."""
    with scratch(stack) as (server, environment):
        began = time.monotonic()
        fetch_base(stack, stack.access.tool, backup, server.data_directory, environment)
        return {"seconds": time.monotonic() - began}


def run_cp(stack: Stack, backup: str) -> dict[str, float]:
    """A copy of a stopped cluster: what no backup can beat."""
    with scratch(stack) as (server, _):
        server.data_directory.rmdir()
        began = time.monotonic()
        subprocess.run(["cp", "-a", str(stack.home / "stopped"), str(server.data_directory)], check=True)
        answered(server, stack.passwords["postgres"])
        return {"seconds": time.monotonic() - began}


COMPETITORS: dict[str, Callable[[Stack, str], dict[str, float]]] = {
    "pgdrill": run_pgdrill, "script": run_script, "tool": run_tool, "cp": run_cp
}  # fmt: skip


class scratch:
    """A throw-away server in a folder of its own, ended and removed afterwards."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def __enter__(self) -> tuple[LocalServer, dict[str, str]]:
        self.folder = Path(tempfile.mkdtemp(prefix="pgdrill-", dir=self.stack.home))
        (self.folder / "data").mkdir(mode=0o700)
        environment = {**self.stack.access.tool.environment(), "HOME": str(self.folder)}
        self.server = LocalServer(
            binaries(), self.folder / "data", self.folder, self.folder / "log",
            options={"listen_addresses": "", "max_connections": "120"}, environment=environment,
        )  # fmt: skip
        return self.server, environment

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def fetch_base(stack: Stack, tool: BackupTool, backup: str, into: Path, environment: dict[str, str]) -> None:
    """The tool's own command with the tool's own settings, not pgdrill's."""
    found = next(b for b in tool.backups(stack.access.repository) if b.name == backup)
    command = tool.fetch(found, into, {}, into.parent, Tuning(2, 2, 0)).command
    subprocess.run(command.argv, env={**os.environ, **environment}, check=True, capture_output=True)


def answered(server: LocalServer, password: str) -> None:
    """Start; return when a server out of recovery has answered both queries."""
    server.launch()
    server.wait_until(lambda: server.status() == "ready", "accepts connections", 600)
    with psycopg.connect(server.conninfo(DATABASE, password=password), autocommit=True) as connection:
        while connection.execute("SELECT pg_is_in_recovery()").fetchone()[0]:  # type: ignore[index]
            time.sleep(0.01)
        connection.execute(COUNT)
        connection.execute(NEAREST)


def show(wanted: argparse.Namespace, runs: dict[str, list[dict[str, float]]]) -> None:
    """Medians with their spread, and each against the script."""
    medians = {name: statistics.median(run["seconds"] for run in found) for name, found in runs.items()}
    table = Table(title=f"{wanted.tool}, {wanted.segments} segments, scale {wanted.scale:g}, {wanted.rounds} rounds")
    for heading in ("competitor", "median s", "min", "max", "÷ script"):
        table.add_column(heading, justify="left" if heading == "competitor" else "right")
    for name, found in runs.items():
        seconds = [run["seconds"] for run in found]
        table.add_row(name, f"{medians[name]:.2f}", f"{min(seconds):.2f}", f"{max(seconds):.2f}",
                      f"{medians[name] / medians['script']:.2f}")  # fmt: skip
    console = Console()
    console.print(table)
    parts = {part: statistics.median(run[part] for run in runs["pgdrill"])
             for part in ("fetch", "replay", "checks", "baseline", "whole")}  # fmt: skip
    console.print("pgdrill's parts, median s: " + ", ".join(f"{part} {value:.2f}" for part, value in parts.items()))
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"drill-{wanted.tool}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine(), "python": platform.python_version()}
    file.write_text(json.dumps({"arguments": vars(wanted), "machine": machine, "runs": runs, "medians": medians}, indent=1))
    console.print(f"kept in {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")


if __name__ == "__main__":
    main()
