"""A row of the table: what was measured, as a ratio within one run, and what is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.measuring import Run


@dataclass(frozen=True, slots=True)
class Row:
    """``value`` is of medians; ``lowest`` and ``highest`` of single rounds.

    ``goal``: at most so much; None: told only.
    """

    measure: str
    value: float
    lowest: float
    highest: float
    goal: float | None
    unit: str = ""

    @property
    def verdict(self) -> str:
        """Whether the goal was kept."""
        return "" if self.goal is None else "kept" if self.value <= self.goal else "MISSED"


@dataclass(frozen=True, slots=True)
class Size:
    """How much a form of the bench does.

    ``segments``: few, many; ``scale``: of the demo, small and large. ``tool``: of all groups but
    ``replay``, which has both.
    """

    rounds: int
    segments: tuple[int, int]
    scale: tuple[float, float]
    tables: int
    rows: int
    tool: str


@dataclass(slots=True)
class Group:
    """Competitors that were run in turn, with the rows that they give."""

    name: str
    runs: dict[str, list[Run]]
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def ratio(
    measure: str,
    runs: Mapping[str, Sequence[Run]],
    one: str,
    other: str,
    goal: float | None,
    part: str = "",
) -> Row:
    """Seconds (or of a part) of one competitor to another's."""
    above, below = (_seconds(runs[one], part), _seconds(runs[other], ""))
    each = [a / b for a, b in zip(above, below, strict=True)]
    return Row(measure, median(above) / median(below), min(each), max(each), goal)


def of_parts(measure: str, runs: Sequence[Run], above: str, below: str, goal: float | None) -> Row:
    """One part of the same runs to another."""
    each = [run.parts[above] / run.parts[below] for run in runs]
    return Row(measure, median(each), min(each), max(each), goal)


def growth(measure: str, large: Sequence[Run], small: Sequence[Run], goal: float | None) -> Row:
    """Whole seconds of many to those of few."""
    each = [a.seconds / b.seconds for a, b in zip(large, small, strict=True)]
    return Row(
        measure,
        median(a.seconds for a in large) / median(b.seconds for b in small),
        min(each),
        max(each),
        goal,
    )


def memory(measure: str, runs: Sequence[Run], goal: float | None) -> Row:
    """The peak of resident memory of pgdrill's own processes, in MB (10^6 bytes)."""
    each = [run.own_peak_bytes / 1e6 for run in runs]
    return Row(measure, max(each), min(each), max(each), goal, "MB")


def _seconds(runs: Sequence[Run], part: str) -> list[float]:
    return [run.parts[part] if part else run.compared for run in runs]
