"""The model: a recovery's parts, each with what is fixed and what grows with one figure.

The figures are as drills measured them.

| part | grows with |
| --- | --- |
| start (preflight, the server's start, promotion) | nothing |
| fetch | bytes of the base backup; the seconds that go into files, however large, are fixed |
| sync | the same |
| redo (with the checkpoint after it) | WAL segments; beyond those that lay ready it is no faster than they are fetched |
| prewarm | bytes of the tables that hold vectors |
| vectors (their checks) | the same for reading; searches through HNSW grow by so much with each doubling |

A single drill measures both sides of each part: see :mod:`pgdrill.recovery.fetch_cost` and
:mod:`pgdrill.reports.forecast.samples`. Drills of several sizes show what grows by themselves; then
a line through their seconds counts instead.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

HISTORY = 10  # newest drills that count
TELLING_SPREAD = 1.5  # largest over smallest size from which on a line can be fitted
DOUBTED = 0.25  # of what is fixed may grow after all, and the other way round
LEAST_DOUBT = 0.10  # of the likely value: two drills of the same thing differ by so much


@dataclass(frozen=True, slots=True)
class Load:
    """The load that a recovery has to bring back.

    ``vector_bytes``: of tables that hold vectors, indexes included.
    """

    base_bytes: float
    wal_segments: float
    vector_bytes: float

    def times(self, factor: float) -> Load:
        """Return the load of the same cluster, larger: data, vectors and writes alike.

        The number of tables stays.
        """
        return Load(
            self.base_bytes * factor, self.wal_segments * factor, self.vector_bytes * factor
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Seconds of one part of a drill, divided by how they change at ``factor`` times its size.

    ``growing`` with the factor, ``doubling`` more with each doubling. Something that goes on beside
    it, for which the drill did not wait, takes ``beside`` seconds for each time the size beyond the
    factor ``from_factor``: the longer of the two counts.
    """

    fixed: float = 0.0
    growing: float = 0.0
    doubling: float = 0.0
    from_factor: float = math.inf
    beside: float = 0.0

    def at(self, factor: float) -> float:
        """Return the seconds at so many times the size."""
        slow = self.doubling * math.log2(factor) if factor > 0 else 0.0
        beside = self.beside * (factor - self.from_factor) if factor > self.from_factor else 0.0
        return max(0.0, self.fixed + max(self.growing * factor, beside) + slow)


@dataclass(frozen=True, slots=True)
class Sample:
    """One drill: its load and what its parts took, by name."""

    load: Load
    parts: Mapping[str, Part]


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds: the likely value and the interval around it."""

    low: float
    likely: float
    high: float

    @classmethod
    def sum(cls, spans: Sequence[Span]) -> Span:
        """Return the sum of spans. Doubts of different parts are added as independent ones are."""
        likely = sum(span.likely for span in spans)
        down = sum((span.likely - span.low) ** 2 for span in spans) ** 0.5
        up = sum((span.high - span.likely) ** 2 for span in spans) ** 0.5
        return cls(max(0.0, likely - down), likely, likely + up)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Parts by name, and the two times that are promised."""

    load: Load
    parts: dict[str, Span]
    running: Span
    correct: Span


SIZES: dict[str, Callable[[Load], float]] = {
    "start": lambda load: 0.0,
    "fetch": lambda load: load.base_bytes,
    "sync": lambda load: load.base_bytes,
    "redo": lambda load: load.wal_segments,
    "prewarm": lambda load: load.vector_bytes,
    "vectors": lambda load: load.vector_bytes,
}
AFTER_RUNNING = ("prewarm", "vectors")


def forecast(history: Sequence[Sample], load: Load) -> Forecast:
    """Forecast the parts and times for a load, from at least one drill, oldest first."""
    recent = history[-HISTORY:]
    parts = {
        name: _part([(size(sample.load), sample.parts[name]) for sample in recent], size(load))
        for name, size in SIZES.items()
    }
    return Forecast(
        load,
        parts,
        running=Span.sum([span for name, span in parts.items() if name not in AFTER_RUNNING]),
        correct=Span.sum(list(parts.values())),
    )


def _part(points: Sequence[tuple[float, Part]], size: float) -> Span:
    usable = [(drilled, part) for drilled, part in points if drilled > 0]
    if not usable:
        fixed = np.array([part.at(1) for _, part in points])
        return _around(float(np.median(fixed)), float(fixed.std()))
    sizes = np.array([drilled for drilled, _ in usable])
    if sizes.max() / sizes.min() >= TELLING_SPREAD:
        seconds = np.array([part.at(1) for _, part in usable])
        fixed_seconds, each = _line(sizes, seconds)
        doubt = float(np.abs(seconds - fixed_seconds - each * sizes).mean()) * max(
            1.0, size / sizes.max()
        )
        return _around(fixed_seconds + each * size, doubt)
    expected = np.array([part.at(size / drilled) for drilled, part in usable])
    known = _around(float(np.median(expected)), float(expected.std()))
    grown = float(np.median(size / sizes)) - 1
    fixed_seconds, growing = (
        float(np.median([getattr(part, name) for _, part in usable]))
        for name in ("fixed", "growing")
    )
    less, more = sorted((-DOUBTED * growing * grown, DOUBTED * fixed_seconds * grown))
    return Span(
        max(0.0, min(known.low, known.likely + less)),
        known.likely,
        max(known.high, known.likely + more),
    )


def _line(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Fit a line; return fixed seconds and seconds for each unit, neither negative.

    Relative errors count, so small drills do, too.
    """
    weights = 1 / np.maximum(seconds, 1e-3)
    columns = np.stack([weights, weights * sizes], axis=1)
    fixed, each = np.linalg.lstsq(columns, weights * seconds, rcond=None)[0]
    if fixed < 0:
        return 0.0, float(np.median(seconds / sizes))
    if each < 0:
        return float(np.median(seconds)), 0.0
    return float(fixed), float(each)


def _around(likely: float, doubt: float) -> Span:
    wide = max(2 * doubt, LEAST_DOUBT * likely)
    return Span(max(0.0, likely - wide), likely, likely + wide)


def breaks_at(
    history: Sequence[Sample], load: Load, rto_seconds: float, *, most: float = 1000.0
) -> float | None:
    """Return how many times the load may grow until the likely time reaches the RTO.

    None: not within ``most``.
    """
    if forecast(history, load.times(most)).correct.likely <= rto_seconds:
        return None
    low, high = 0.0, most
    for _ in range(60):
        middle = (low + high) / 2
        late = forecast(history, load.times(middle)).correct.likely > rto_seconds
        low, high = (low, middle) if late else (middle, high)
    return low
