"""What is kept of a bench: the table on the screen, every run as JSON, a plot as SVG, and on what
machine that was.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench.plot import plot
from bench.rows import Group, Size
from pgdrill_demo.stack import binaries

RESULTS = Path(__file__).parents[1] / ".local" / "bench"
VERSIONS = (
    ("wal-g", "--version"),
    ("barman-cloud-restore", "--version"),
    ("rclone", "version"),
    ("pgbackrest", "version"),
)


def machine() -> dict[str, Any]:
    """Cores, memory, kernel, load, and the versions of everything that competes."""
    versions = {
        "postgres": _said(binaries().path("postgres"), "--version"),
        "python": platform.python_version(),
    }
    versions |= {name: _said(name, argument) for name, argument in VERSIONS}
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "machine": platform.machine(),
        "kernel": platform.release(),
        "load_before": os.getloadavg(),
        "versions": versions,
    }


def _said(program: str, argument: str) -> str:
    if not shutil.which(program):
        return "not installed"
    done = subprocess.run([program, argument], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0].replace("\t", " ")


def show(groups: Sequence[Group], console: Console) -> None:
    """The competitors of each group, then the goals."""
    for group in groups:
        table = Table(title=group.name, title_justify="left")
        for heading in (
            "competitor",
            "median s",
            "min",
            "max",
            "each ms",
            "CPU s",
            "peak MB",
            "read MB",
        ):
            table.add_column(heading, justify="left" if heading == "competitor" else "right")
        for name, runs in group.runs.items():
            seconds = [run.seconds for run in runs]
            table.add_row(
                name,
                *(f"{value:.2f}" for value in (median(seconds), min(seconds), max(seconds))),
                f"{1000 * median(run.compared for run in runs):.1f}" if runs[0].units > 1 else "",
                f"{median(run.cpu_seconds for run in runs):.2f}",
                f"{max(run.peak_bytes for run in runs) / 1e6:.0f}",
                f"{median(run.read_bytes for run in runs) / 1e6:.0f}",
            )
        console.print(table)
        for remark in group.remarks:
            console.print(remark, soft_wrap=True)
    goals = Table(title="goals", title_justify="left")
    for heading in ("measure", "value", "min", "max", "goal", ""):
        goals.add_column(heading, justify="left" if heading in ("measure", "") else "right")
    for row in (row for group in groups for row in group.rows):
        value, low, high = (
            f"{number:.0f}" if row.unit else f"{number:.3f}"
            for number in (row.value, row.lowest, row.highest)
        )
        goals.add_row(
            row.measure,
            f"{value} {row.unit}".strip(),
            low,
            high,
            "" if row.goal is None else f"≤ {row.goal:g}",
            row.verdict,
        )
    console.print(goals)


def keep(
    groups: Sequence[Group], size: Size, form: str, where: dict[str, Any]
) -> tuple[Path, Path]:
    """Write both files; gives their paths."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = f"{form}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    told = {
        "form": form,
        "size": asdict(size),
        "machine": {**where, "load_after": os.getloadavg()},
        "groups": [asdict(group) for group in groups],
    }
    data, picture = RESULTS / f"{name}.json", RESULTS / f"{name}.svg"
    data.write_text(json.dumps(told, indent=1))
    picture.write_text(plot(groups))
    return data, picture
