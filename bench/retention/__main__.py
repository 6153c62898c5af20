"""How long planning takes, from the names of a listing to the plan: ``python -m bench.retention
[--backups 5000]``.

Sizes are doubled up to what is asked for, so that one sees whether time grows in step with them.
``plain``: backups and WAL without a break. ``eventful``: every fourth backup is a delta, every
fiftieth a failover to a new timeline, every hundredth lost a segment and is damaged, every
two-hundredth is held; and a clone has archived beside it.
"""

from __future__ import annotations

import argparse
import gc
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pgdrill.config import Retention
from pgdrill.postgres.wal import Segment, TimelineSwitch
from pgdrill.repository.wal_ranges import Wal, parse_wal
from pgdrill.retention.inventory import Backup, Hold, Inventory
from pgdrill.retention.plan import make_plan, remaining
from pgdrill.retention.unused_objects import findings
from pgdrill.retention.window import window_of

SEGMENT_BYTES = 16 * 2**20
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def history(backups: int, segments: int, *, eventful: bool) -> tuple[Inventory, dict[str, int]]:
    """Backups six hours apart, and the archived segments' names with their sizes; the inventory's
    WAL is yet to be read.
    """
    each = segments // backups
    found: list[Backup] = []
    holds: list[Hold] = []
    sizes: dict[str, int] = {}
    histories: dict[int, tuple[TimelineSwitch, ...]] = {}
    line = 1
    for number in range(backups):
        start = NOW - timedelta(hours=6 * (backups - number))
        first = 1 + number * each
        if eventful and number % 50 == 25:
            line += 1
            histories[line] = (
                *histories.get(line - 1, ()),
                TimelineSwitch(line - 1, first * SEGMENT_BYTES),
            )
        delta = eventful and number % 4 == 3 and found[-1].timeline == line
        backup = Backup(
            f"base_{Segment(line, first).name}",
            7,
            18,
            line,
            first * SEGMENT_BYTES + 40,
            (first + 1) * SEGMENT_BYTES - 1,
            start,
            start + timedelta(minutes=30),
            parent=found[-1].name if delta else "",
            stored_bytes=10**10,
            damage="part_003 is missing" if eventful and number % 100 == 60 else "",
        )
        found.append(backup)
        sizes.update((Segment(line, at).name, 5_000_000) for at in range(first, first + each))
        if eventful and number % 100 == 60:
            del sizes[Segment(line, first + each // 2).name]
        if eventful and number % 200 == 0:
            holds.append(Hold(backup.name, "a lawsuit", NOW + timedelta(days=90)))
    if eventful:
        histories[line + 1] = (TimelineSwitch(1, SEGMENT_BYTES),)
        sizes.update((Segment(line + 1, at).name, 5_000_000) for at in range(1, 100))
    wal = Wal((), histories)
    return Inventory(tuple(found), wal, drilled={found[0].name: NOW}, holds=tuple(holds)), sizes


def measure(backups: int, segments: int, *, eventful: bool) -> tuple[list[float], int]:
    """Seconds for reading the names, for the plan, for planning again after it, and for window and
    hygiene; what goes.
    """
    inventory, sizes = history(backups, segments, eventful=eventful)
    gc.collect()
    moments = [time.perf_counter()]
    inventory = replace(inventory, wal=replace(inventory.wal, runs=parse_wal(sizes)))
    moments.append(time.perf_counter())
    policy = Retention(daily=30, monthly=12, yearly=5)
    plan = make_plan(inventory, policy, NOW)
    moments.append(time.perf_counter())
    again = make_plan(remaining(inventory, plan.steps, plan.wal), policy, NOW)
    moments.append(time.perf_counter())
    assert window_of("agents", inventory, policy, NOW).spans
    assert bool(findings(inventory, policy, NOW)) is eventful
    moments.append(time.perf_counter())
    assert not again.steps
    assert plan.steps
    return [after - before for before, after in pairwise(moments)], len(plan.going("backup"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backups", type=int, default=5_000)
    parser.add_argument("--segments", type=int, default=5_000_000)
    given = parser.parse_args()
    print(
        f"{'':>9} {'backups':>8} {'segments':>10} {'names s':>8} {'plan s':>8} {'both s':>8}"
        f" {'again s':>8} {'window s':>9} {'goes':>6}"
    )
    for eventful in (False, True):
        for part in (8, 4, 2, 1):
            (names, plan, again, window), goes = measure(
                given.backups // part, given.segments // part, eventful=eventful
            )
            print(
                f"{'eventful' if eventful else 'plain':>9} {given.backups // part:>8}"
                f" {given.segments // part:>10} {names:8.2f} {plan:8.2f} {names + plan:8.2f}"
                f" {again:8.2f} {window:9.2f} {goes:>6}"
            )


if __name__ == "__main__":
    main()
