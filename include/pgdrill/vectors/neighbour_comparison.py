"""Exact neighbours beside those of the baseline.

It tells what no write explains, and what updates and deletes may. Both lists hold stable rows only
(older than the baseline's snapshot), by place and writer. Such a row can go; it cannot come nearer,
move away, or appear.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field


@dataclass
class Comparison:
    """The comparison over all probes of a column."""

    probes: int = 0
    wrong: list[str] = field(default_factory=list)  # places, and what is wrong there
    gone: set[str] = field(default_factory=set)  # rows that are not there any more

    def add(
        self,
        before: Mapping[str, float],
        now: Mapping[str, float],
        present: Set[str],
        k: int,
        tolerance: float,
    ) -> None:
        """Compare a probe's neighbours, place -> distance, then and now.

        ``present``: which of the former are still rows.
        """
        self.probes += 1
        worst = max(before.values(), default=0.0) if len(before) >= k else float("inf")
        reach = max(now.values(), default=0.0) if len(now) >= k else float("inf")
        for place, distance in now.items():
            known = before.get(place)
            if known is None and distance < worst - tolerance:
                self.wrong.append(f"{place}: nearer than it was")
            elif known is not None and abs(distance - known) > tolerance:
                self.wrong.append(f"{place}: distance {distance:.6g}, was {known:.6g}")
        for place, distance in before.items():
            if place in now:
                continue
            if place not in present:
                self.gone.add(place)
            elif distance < reach - tolerance:
                self.wrong.append(f"{place}: farther than it was")
