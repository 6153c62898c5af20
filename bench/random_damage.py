"""Random damage in the full form: ``make random-damage`` (or ``python -m bench.random_damage
--help``).

Exit code 1 if any damage passed over changed content, or ended a drill with a traceback;
``--summary FILE`` writes the figures for the documentation.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from pgdrill_demo.stack import preferred_tool
from tests.damage.outcome import CRASHED, MISSED, Outcome, table
from tests.damage.run import run
from tests.damage.small import SETS, small_cluster

BAD = (CRASHED, MISSED)


def main() -> int:
    """Run, show, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tool", choices=("wal-g", "barman-cloud"), default=preferred_tool())
    parser.add_argument(
        "--count", type=int, default=1000, help="damages in all; 10000 for the full form"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--objects", type=float, default=0.5, help="share of damages to the repository's objects"
    )
    parser.add_argument("--verbose", action="store_true", help="show every damage")
    parser.add_argument("--summary", type=Path)
    wanted = parser.parse_args()
    logging.disable(logging.CRITICAL)  # a thousand red drills say a lot
    objects = int(wanted.count * wanted.objects)
    singles = (wanted.count - objects) // 5
    sets = wanted.count - objects - singles
    sets -= sets % SETS
    singles = wanted.count - objects - sets
    started, outcomes = time.monotonic(), list[Outcome]()
    with small_cluster(wanted.tool) as small:
        for outcome in run(small, seed=wanted.seed, sets=sets, singles=singles, objects=objects):
            outcomes.append(outcome)
            if wanted.verbose:
                print(f"{time.monotonic() - started:6.1f} s {outcome}", flush=True)
            if outcome.end in BAD:
                print(f"BAD {outcome}", flush=True)
            if len(outcomes) % 50 < 1:
                print(
                    f"{len(outcomes)} of {wanted.count} after {time.monotonic() - started:.0f} s",
                    flush=True,
                )
    lines = [
        (
            f"{len(outcomes)} damages, {wanted.tool}, seed {wanted.seed},"
            f" {time.monotonic() - started:.0f} s"
        ),
        "",
        *table(outcomes),
    ]
    print("\n".join(lines))
    if wanted.summary:
        wanted.summary.write_text("\n".join(lines) + "\n")
    return 1 if any(outcome.end in BAD for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
