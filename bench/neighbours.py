"""What a drill does to production's server on the same host: how long a small writer waits for its
commits meanwhile.

* ``no drill``: the writer alone, some seconds.
* ``drill``: as it is: what it starts yields cores and disk, and only its own files are brought to
  the disk.
* ``drill, unyielding``: priority ``normal``, and the whole file system synced, as where
  production's files lie elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path
from statistics import quantiles

import psycopg

from bench.drills import COMMAND
from bench.measuring import Meter, Run, in_turn
from bench.rows import Group, Row, Size, of_parts
from bench.stacks import running, write_segments
from pgdrill.backup import take_backup
from pgdrill_demo.stack import Stack

ALONE_SECONDS = 8.0
PAUSE_SECONDS = 0.002  # between two commits of the writer
AT = {"p50": 49, "p95": 94, "p99": 98}
PARTS = (*AT, "worst")
# what production's checkpoints have left to the kernel to write
WAITING_BYTES, EVERY_SECONDS = 200 * 2**20, 3.0


def measure(size: Size) -> Group:
    """By turns, with the writer at work all the while."""
    with running(size.tool, size.scale[0]) as stack:
        take_backup(stack.access)
        write_segments(stack, size.segments[0])
        with stack.connect() as connection:
            connection.execute("CREATE TABLE committed (n int, at timestamptz DEFAULT now())")
        unyielding = _unyielding(stack)
        runs = in_turn(
            {
                "no drill": lambda: _beside(stack, None),
                "drill": lambda: _beside(stack, stack.config_file),
                "drill, unyielding": lambda: _beside(stack, unyielding),
            },
            size.rounds,
        )
    rows = [
        _of(f"production's commits, {part}: {name} ÷ no drill", runs[name], runs["no drill"], part)
        for part in PARTS
        for name in ("drill", "drill, unyielding")
    ]
    rows.append(
        _of(
            "drill's seconds: as it is ÷ unyielding",
            runs["drill"],
            runs["drill, unyielding"],
            "seconds",
        )
    )
    return Group(
        "production's commits meanwhile",
        runs,
        rows,
        [
            f"{name}: "
            + ", ".join(
                f"{part} {min(r.parts[part] for r in found):.2f} to"
                f" {max(r.parts[part] for r in found):.2f} ms"
                for part in PARTS
            )
            for name, found in runs.items()
        ],
    )


def _of(measure: str, above: list[Run], below: list[Run], part: str) -> Row:
    pairs = [
        Run(0, 0, 0, 0, parts={"above": a.parts[part], "below": b.parts[part]})
        for a, b in zip(above, below, strict=True)
    ]
    return of_parts(measure, pairs, "above", "below", None)


def _beside(stack: Stack, config: Path | None) -> Run:
    """Commits while a drill runs, or for some seconds."""
    waits: list[float] = []
    over = threading.Event()
    writers = [
        threading.Thread(target=_write, args=(stack, waits, over)),
        threading.Thread(target=_leave, args=(stack, over)),
    ]
    with Meter() as meter:
        for writer in writers:
            writer.start()
        started = time.monotonic()
        if config is None:
            time.sleep(ALONE_SECONDS)
        else:
            environment = {**os.environ, **stack.environment, "PGDRILL_CONFIG": str(config)}
            done = subprocess.run(
                COMMAND, env=environment, capture_output=True, text=True, check=False
            )
            # the writer makes the last seconds uncertain; it restored, which is what counts here
            if done.returncode not in (0, 1):
                raise RuntimeError(f"no drill: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        seconds = time.monotonic() - started
        over.set()
        for writer in writers:
            writer.join()
    cuts = quantiles(waits, n=100)
    return meter.run(
        seconds,
        parts={
            "seconds": seconds,
            "worst": 1000 * max(waits),
            **{part: 1000 * cuts[at] for part, at in AT.items()},
        },
    )


def _write(stack: Stack, waits: list[float], over: threading.Event) -> None:
    with psycopg.connect(stack.conninfo(), autocommit=True) as connection:
        while not over.wait(PAUSE_SECONDS):
            started = time.perf_counter()
            connection.execute("INSERT INTO committed VALUES (1)")
            waits.append(time.perf_counter() - started)


def _leave(stack: Stack, over: threading.Event) -> None:
    """Pages beside production's files that nobody waits for, as a checkpoint leaves them before it
    syncs.
    """
    file = stack.primary.data_directory.parent / "left-to-the-kernel"
    block = os.urandom(2**20)
    while not over.wait(EVERY_SECONDS):
        with file.open("wb") as opened:
            for _ in range(WAITING_BYTES // len(block)):
                opened.write(block)


def _unyielding(stack: Stack) -> Path:
    """A configuration that takes production's files to be elsewhere."""
    text = stack.config_file.read_text().replace(
        f'data_directory = "{stack.home}/primary"', 'data_directory = "/nowhere"'
    )
    file = stack.home / "unyielding.toml"
    file.write_text(text.replace(".drill]\n", '.drill]\npriority = "normal"\n', 1))
    return file
