"""A run of random damages: so many of each area, drawn by a seed, each with what became of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from tests.damage.files import judge_sets, judge_single, plan_sets, plan_single
from tests.damage.outcome import CRASHED, Outcome
from tests.damage.repository import AREAS, draw, judge_object
from tests.damage.small import SETS, Small


def run(small: Small, *, seed: int, sets: int, singles: int, objects: int) -> Iterator[Outcome]:
    """``sets`` and ``singles`` are damages to the restored data directory, ``objects`` to the
    repository.

    Every damage has a generator of its own, so one of them can be repeated without the others.
    """
    steps: list[Callable[[random.Random], list[Outcome]]] = [
        *[lambda chance: judge_sets(small, plan_sets(small, chance))] * (sets // SETS),
        *[lambda chance: [judge_single(small, plan_single(small, chance))]] * singles,
        *[
            lambda chance, area=area: [judge_object(small, area, *draw(small, chance, area))]
            for number in range(objects)
            for area in [AREAS[number % len(AREAS)]]
        ],
    ]
    for number, step in enumerate(steps):
        try:
            yield from step(random.Random(f"{seed}/{number}"))
        except Exception as error:  # the other damages are still worth knowing
            yield Outcome(
                "any", "any", f"step {number}", CRASHED, f"{type(error).__name__}: {error}"
            )
