"""How long planning takes, from the names of a listing to the plan: ``python -m bench.retention [--backups 5000]``.

Sizes are doubled up to what is asked for, so that one sees whether time grows in step with them.
"""

from __future__ import annotations

import argparse
import gc
import time
from datetime import UTC, datetime, timedelta

from pgdrill.config import Retention
from pgdrill.postgres.wal import Segment
from pgdrill.retention.inventory import Backup, Inventory
from pgdrill.retention.plan import make_plan, remaining
from pgdrill.retention.wal import Wal, parse_wal

SEGMENT_BYTES = 16 * 2**20
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def history(backups: int, segments: int) -> tuple[tuple[Backup, ...], dict[str, int]]:
    """Backups six hours apart, WAL without a gap."""
    each = segments // backups
    found = []
    for number in range(backups):
        start = NOW - timedelta(hours=6 * (backups - number))
        first = 1 + number * each
        found.append(Backup(
            f"base_{Segment(1, first).name}", 7, 18, 1, first * SEGMENT_BYTES + 40, (first + 1) * SEGMENT_BYTES - 1, start,
            start + timedelta(minutes=30), stored_bytes=10**10,
        ))  # fmt: skip
    return tuple(found), {Segment(1, number).name: 5_000_000 for number in range(1, segments + 1)}


def measure(backups: int, segments: int) -> tuple[float, float, float, int]:
    """Seconds for reading the names, for the plan, and for planning again after it."""
    found, sizes = history(backups, segments)
    gc.collect()
    started = time.perf_counter()
    wal = Wal(parse_wal(sizes))
    named = time.perf_counter()
    inventory = Inventory(found, wal, drilled={found[0].name: NOW})
    policy = Retention(daily=30, monthly=12, yearly=5)
    plan = make_plan(inventory, policy, NOW)
    planned = time.perf_counter()
    again = make_plan(remaining(inventory, plan.steps, plan.wal), policy, NOW)
    done = time.perf_counter()
    assert not again.steps
    assert plan.steps
    return named - started, planned - named, done - planned, len(plan.going("backup"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backups", type=int, default=5_000)
    parser.add_argument("--segments", type=int, default=5_000_000)
    given = parser.parse_args()
    print(f"{'backups':>8} {'segments':>10} {'names s':>8} {'plan s':>8} {'again s':>8} {'total s':>8} {'goes':>6}")
    for part in (8, 4, 2, 1):
        names, plan, again, goes = measure(given.backups // part, given.segments // part)
        print(f"{given.backups // part:>8} {given.segments // part:>10} {names:8.2f} {plan:8.2f} {again:8.2f} {names + plan:8.2f} {goes:>6}")


if __name__ == "__main__":
    main()
