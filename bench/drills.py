"""Whole drills beside the four lines that everybody writes; and the checks beside the restore, in a
larger demo.

* ``pgdrill``: the command in a process of its own; seconds are the drill's, from preflight to the
  last passed vector check.
* ``script``: fetch the base, append ``restore_command``, start, count and search once. No target,
  notices nothing.
* ``tool, base alone``: its fetch, nothing started.
* ``cp -a``: of a stopped data directory, start, the same two queries: what no backup can beat.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from statistics import median

from bench.bases import run_tool
from bench.measuring import Meter, Run, in_turn
from bench.rows import Group, Row, Size, memory, of_parts, ratio
from bench.stacks import answered, fetch_base, running, scratch, write_segments
from pgdrill.backup import take_backup
from pgdrill.reports.model import Report
from pgdrill_demo.stack import Stack

MEMORY_MB, CHECKS = 300, 1.0
TO_SCRIPT = ((400, 0.5), (80, 0.8))  # from so many segments on: what to stay below
COMMAND = (sys.executable, "-c", "from pgdrill.cli import main; main()", "drill", "--json")


def measure(size: Size) -> Group:
    """With few segments and with many."""
    few, many = size.segments
    with running(size.tool, size.scale[0]) as stack:
        take_backup(stack.access)
        runs: dict[str, list[Run]] = {}
        written = 0
        for count in (few, many):
            write_segments(stack, count - written)
            written = count
            _keep_stopped(stack)
            found = in_turn(
                {
                    f"pgdrill, {count} segments": lambda: run_pgdrill(stack),
                    f"script, {count} segments": lambda: run_script(stack),
                    f"tool, base alone, {count} segments": lambda: run_tool(stack),
                    f"cp -a, {count} segments": lambda: run_cp(stack),
                },
                size.rounds,
            )
            runs |= found
    small, large = runs[f"pgdrill, {few} segments"], runs[f"pgdrill, {many} segments"]
    rows = [
        ratio(
            f"drill to correct search ÷ script, {count} segments",
            runs,
            f"pgdrill, {count} segments",
            f"script, {count} segments",
            next((goal for least, goal in TO_SCRIPT if count >= least), None),
        )
        for count in (few, many)
    ]
    peaks = [max(run.own_peak_bytes for run in found) for found in (large, small)]
    rows += [
        memory("pgdrill's own memory, any drill", [*small, *large], MEMORY_MB),
        Row(
            f"its memory, {many / few:.0f} x segments ÷ 1 x",
            peaks[0] / peaks[1],
            peaks[0] / peaks[1],
            peaks[0] / peaks[1],
            1.1,
        ),
    ]
    return Group("whole drills", runs, rows, [_parts(large)])


def measure_checks(size: Size) -> Group:
    """All checks ÷ the restore, and memory, in the larger demo."""
    with running(size.tool, size.scale[1]) as stack:
        take_backup(stack.access)
        write_segments(stack, size.segments[0])
        runs = in_turn({"pgdrill": lambda: run_pgdrill(stack)}, size.rounds)
    scale = f"scale {size.scale[1]:g}"
    rows = [
        of_parts(
            f"all checks ÷ restore, {scale}", runs["pgdrill"], "all checks", "restore", CHECKS
        ),
        memory(f"pgdrill's own memory, {scale}", runs["pgdrill"], MEMORY_MB),
    ]
    return Group(f"checks of a drill, {scale}", runs, rows, [_parts(runs["pgdrill"])])


def run_pgdrill(stack: Stack) -> Run:
    """The command, as an operator runs it."""
    with Meter() as meter:
        done = subprocess.run(
            COMMAND,
            env={**os.environ, **stack.environment},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the drill is not green: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    report = Report.model_validate(json.loads(done.stdout))
    times = report.timings
    return meter.run(
        times.time_to_correct_vector_search_seconds,
        parts={
            "fetch": times.fetch_seconds or 0.0,
            "replay": times.replay_seconds or 0.0,
            "restore": times.time_to_running_seconds or 0.0,
            "prewarm": times.prewarm_seconds or 0.0,
            "vector checks": times.vector_checks_seconds or 0.0,
            "all checks": report.checks.seconds or 0.0,
            "baseline": times.baseline_seconds or 0.0,
        },
    )


def run_script(stack: Stack) -> Run:
    """The four lines."""
    with Meter() as meter, scratch(stack) as (server, environment):
        fetch_base(stack, server.data_directory, environment)
        words = " ".join(
            f'"{word}"' if word.startswith("%") else word for word in stack.access.tool.wal_fetch()
        )
        with (server.data_directory / "postgresql.auto.conf").open("a") as config:
            config.write(f"restore_command = '{words}'\n")
        (server.data_directory / "recovery.signal").touch()
        answered(server, stack.passwords["postgres"])
        seconds = meter.elapsed
    return meter.run(seconds)


def run_cp(stack: Stack) -> Run:
    """Of a stopped cluster."""
    with Meter() as meter, scratch(stack) as (server, _):
        server.data_directory.rmdir()
        subprocess.run(
            ["cp", "-a", str(stack.home / "stopped"), str(server.data_directory)], check=True
        )
        answered(server, stack.passwords["postgres"])
        seconds = meter.elapsed
    return meter.run(seconds)


def _keep_stopped(stack: Stack) -> None:
    stack.primary.stop()
    shutil.rmtree(stack.home / "stopped", ignore_errors=True)
    shutil.copytree(stack.primary.data_directory, stack.home / "stopped", symlinks=True)
    stack.primary.start()


def _parts(runs: list[Run]) -> str:
    return "pgdrill's parts, median s: " + ", ".join(
        f"{part} {median(run.parts[part] for run in runs):.2f}" for part in runs[0].parts
    )
