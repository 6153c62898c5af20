"""What pgdrill adds to the tool: the command around a base backup, the baseline recorded with it,
the script around wal-push.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from bench.measuring import Meter, Run, in_turn
from bench.rows import Group, Size, ratio
from bench.stacks import running
from pgdrill import backup as backups
from pgdrill.access import Access
from pgdrill.baseline import Baseline, take_baseline
from pgdrill.host.tuning import cores, tune
from pgdrill.postgres.wal import SEGMENT_NAME, Segment
from pgdrill.repository.tools import archive_command
from pgdrill_demo.stack import Stack

GOAL = 1.03
SEGMENTS = 10


def measure(size: Size) -> Group:
    """In turn, of a server that nobody else writes to."""
    with running(size.tool, size.scale[1]) as stack:
        runs = in_turn(
            {"pgdrill": lambda: run_pgdrill(stack), "tool": lambda: run_tool(stack)}, size.rounds
        )
        runs |= in_turn(
            {
                "archived by the script": lambda: run_push(stack, by_script=True),
                "archived by the tool": lambda: run_push(stack, by_script=False),
            },
            size.rounds,
        )
    rows = [
        ratio(
            "backup ÷ the tool alone, the baseline apart",
            runs,
            "pgdrill",
            "tool",
            GOAL,
            part="without_baseline",
        ),
        ratio(
            "the tool's own seconds within pgdrill ÷ alone",
            runs,
            "pgdrill",
            "tool",
            GOAL,
            part="tool",
        ),
        ratio("baseline ÷ the tool alone", runs, "pgdrill", "tool", None, part="baseline"),
        ratio(
            "archiving a WAL segment by the script ÷ the tool alone",
            runs,
            "archived by the script",
            "archived by the tool",
            None,
        ),
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
    return meter.run(
        parts={
            "baseline": taken[0],
            "without_baseline": meter.seconds - taken[0],
            "tool": result.tool_seconds,
        }
    )


def run_tool(stack: Stack) -> Run:
    """The same command with the same settings, and nothing around it."""
    access = stack.access
    with stack.connect() as connection:
        (size,) = connection.execute(backups.CLUSTER_BYTES).fetchone() or (0,)
    command = access.tool.backup(
        stack.primary.data_directory,
        access.libpq_environment(),
        stack.home,
        tune(cores=cores(), latency_seconds=0.001, cluster_bytes=size),
    )
    with Meter() as meter:
        subprocess.run(
            command.argv, env={**os.environ, **command.environment}, check=True, capture_output=True
        )
    return meter.run()


def run_push(stack: Stack, *, by_script: bool) -> Run:
    """``archive_command`` as PostgreSQL runs it, for some segments in a row, into a repository of
    the run's own.
    """
    repository = stack.cluster.repository
    own = repository.model_copy(update={"url": f"{repository.url}-{secrets.token_hex(4)}"})
    tool = Access(stack.cluster.model_copy(update={"repository": own}), stack.credentials).tool
    source = next(
        file
        for file in sorted((stack.primary.data_directory / "pg_wal").iterdir())
        if SEGMENT_NAME.fullmatch(file.name)
    )
    line = archive_command(tool, stack.segment_bytes) if by_script else " ".join(tool.wal_push())
    with tempfile.TemporaryDirectory(dir=stack.home) as folder:
        files = [
            Path(folder) / Segment(9, number, stack.segment_bytes).name
            for number in range(1, SEGMENTS + 1)
        ]
        for file in files:
            shutil.copyfile(source, file)
        with Meter() as meter:
            for file in files:
                words = line.replace("%p", str(file)).replace("%f", file.name)
                subprocess.run(  # noqa: S602 - as PostgreSQL does
                    words,
                    shell=True,
                    env={**os.environ, **tool.environment(), "HOME": folder, "TMPDIR": folder},
                    check=True,
                    capture_output=True,
                )
    return meter.run(units=SEGMENTS)
