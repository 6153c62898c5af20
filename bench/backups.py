"""What pgdrill's backup adds to the tool's: the command around it, and the baseline that it records."""

from __future__ import annotations

import os
import subprocess
import time
from unittest.mock import patch

from bench.measuring import Meter, Run, in_turn
from bench.rows import Group, Size, ratio
from bench.stacks import running
from pgdrill import backup as backups
from pgdrill.baseline import Baseline, take_baseline
from pgdrill.tuning import cores, tune
from pgdrill_demo.stack import Stack

GOAL = 1.03


def measure(size: Size) -> Group:
    """In turn, of a server that nobody else writes to."""
    with running(size.tool, size.scale[1]) as stack:
        runs = in_turn({"pgdrill": lambda: run_pgdrill(stack), "tool": lambda: run_tool(stack)}, size.rounds)
    rows = [
        ratio("backup ÷ the tool alone, the baseline apart", runs, "pgdrill", "tool", GOAL, part="without_baseline"),
        ratio("the tool's own seconds within pgdrill ÷ alone", runs, "pgdrill", "tool", GOAL, part="tool"),
        ratio("baseline ÷ the tool alone", runs, "pgdrill", "tool", None, part="baseline"),
    ]
    return Group(f"base backups, scale {size.scale[1]:g}", runs, rows)


def run_pgdrill(stack: Stack) -> Run:
    """The job; the baseline's seconds are told apart from the others."""
    taken = []

    def timed(*given: object, **named: object) -> Baseline:
        began = time.monotonic()
        made = take_baseline(*given, **named)  # type: ignore[arg-type]
        taken.append(time.monotonic() - began)
        return made

    with Meter() as meter, patch.object(backups, "take_baseline", timed):
        result = backups.take_backup(stack.access)
    return meter.run(parts={"baseline": taken[0], "without_baseline": meter.seconds - taken[0], "tool": result.tool_seconds})


def run_tool(stack: Stack) -> Run:
    """The same command with the same settings, and nothing around it."""
    access = stack.access
    size = sum(file.stat().st_size for file in stack.primary.data_directory.rglob("*") if file.is_file() and "pg_wal" not in file.parts)
    command = access.tool.backup(stack.primary.data_directory, access.libpq_environment(), stack.home,
                                 tune(cores=cores(), latency_seconds=0.001, cluster_bytes=size))  # fmt: skip
    with Meter() as meter:
        subprocess.run(command.argv, env={**os.environ, **command.environment}, check=True, capture_output=True)
    return meter.run()
