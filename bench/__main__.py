"""``make bench`` (``python -m bench quick|full``): every goal of the restore's speed, measured;
nothing passes or fails.

Competitors of a group run in turn, some rounds; compared are medians within one run, for seconds of
another machine or day say nothing. The table goes to the screen; runs and plot are kept in
``.local/bench``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from bench import backups, bases, drills, growth, neighbours, replay
from bench.keeping import keep, machine, show
from bench.rows import Group, Size
from pgdrill_demo.stack import preferred_tool

FORMS = {
    "quick": Size(rounds=2, segments=(20, 100), scale=(0.5, 1), tables=20, rows=500, tool=""),
    "full": Size(rounds=5, segments=(80, 400), scale=(1, 4), tables=100, rows=2000, tool=""),
}
GROUPS: dict[str, Callable[[Size], Group]] = {
    "replay": replay.measure,
    "drills": drills.measure,
    "bases": bases.measure,
    "checks": drills.measure_checks,
    "growth": growth.measure,
    "backups": backups.measure,
    "neighbours": neighbours.measure,
}


def main() -> None:
    """Measure, show, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("form", choices=list(FORMS), nargs="?", default="quick")
    parser.add_argument(
        "--only", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="of the groups"
    )
    parser.add_argument("--rounds", type=int, help="of each group, instead of the form's own")
    parser.add_argument("--tool", choices=("wal-g", "barman-cloud"), default=preferred_tool())
    wanted = parser.parse_args()
    form = FORMS[wanted.form]
    size = replace(form, tool=wanted.tool, rounds=wanted.rounds or form.rounds)
    where = machine()
    console = Console()
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    console.print(
        f"{wanted.form}, {size.tool}: {where['cores']} cores, {where['memory_bytes'] / 1e9:.0f} GB,"
        f" load {where['load_before'][0]:.1f}; {versions}",
        soft_wrap=True,
    )
    groups, broken = [], []
    for name in wanted.only:
        console.print(f"{name} …")
        try:
            groups.append(GROUPS[name](size))
        except Exception:  # what the other groups measured is kept all the same
            console.print_exception()
            broken.append(name)
    show(groups, console)
    for file in keep(groups, size, wanted.form, where):
        console.print(f"kept {file}", soft_wrap=True)
    if broken:
        sys.exit(f"could not be measured: {', '.join(broken)}")


if __name__ == "__main__":
    main()
