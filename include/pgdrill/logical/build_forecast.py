"""The forecast of how long an HNSW index takes to build at another number of rows.

It is learnt from builds that were timed.

One row costs a search of the graph built so far: a constant and a part that grows with the
logarithm of the rows. So ``seconds = a·n + b·n·ln(n)``, fitted to builds of several sizes, or
``b·n·ln(n)`` through a single one, as long as the graph fits in memory; beyond that a build takes
several times as long, and no figure is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pgdrill.logical.report import IndexBuild

FEWEST_ROWS = 2_000  # below, starting the workers is most of it
LEAST_ERROR = 0.10
# the error of a single build extrapolated four times; benchmarked, see docs/how-to/logical-dumps.md
UNKNOWN_ERROR = 0.25


@dataclass(frozen=True, slots=True)
class Forecast:
    """A forecast: ``seconds`` within a factor of 1 ± ``error``.

    It holds for ``needed_bytes`` of memory.
    """

    index: str
    rows: int
    seconds: float
    error: float
    needed_bytes: int
    from_rows: int
    method: str


def forecast(builds: Sequence[IndexBuild], index: str, rows: int) -> Forecast | None:
    """Forecast a build from the builds of this index, newest last.

    None where none of them was an HNSW build in memory of enough rows.
    """
    usable = [
        b
        for b in builds
        if b.index == index and b.method == "hnsw" and b.fits and b.rows >= FEWEST_ROWS
    ]
    if not usable:
        return None
    largest = max(usable, key=lambda build: build.rows)
    needed = int(largest.needed_bytes / largest.rows * rows)
    sizes = sorted({build.rows for build in usable})
    if sizes[-1] >= 2 * sizes[0]:
        points = [(build.rows, build.seconds) for build in usable]
        curve, method = fit(points), f"fitted to {len(usable)} builds"
        error = max(LEAST_ERROR, _residual(curve, points))
    else:
        curve, method = scaled(largest), "one build, scaled by n·ln(n)"
        error = UNKNOWN_ERROR
    return Forecast(
        index,
        rows,
        round(_at(curve, rows), 1),
        round(error * max(1.0, math.log(rows / largest.rows, 4)), 2)
        if rows > largest.rows
        else round(error, 2),
        needed,
        largest.rows,
        method,
    )


def scaled(build: IndexBuild) -> tuple[float, float]:
    """Return the curve through one build's end, all of its time growing with ``n·ln(n)``."""
    return 0.0, build.seconds / (build.rows * math.log(build.rows))


def fit(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Fit the curve by least squares of the relative error, neither part below zero."""
    rows = np.array([n for n, _ in points], dtype=float)
    seconds = np.array([s for _, s in points], dtype=float)
    terms = np.stack([rows / seconds, rows * np.log(rows) / seconds], axis=1)
    target = np.ones(len(points))
    (a, b), *_ = np.linalg.lstsq(terms, target, rcond=None)
    if a < 0:
        return 0.0, float(terms[:, 1] @ target / (terms[:, 1] @ terms[:, 1]))
    if b < 0:
        return float(terms[:, 0] @ target / (terms[:, 0] @ terms[:, 0])), 0.0
    return float(a), float(b)


def _at(curve: tuple[float, float], rows: int) -> float:
    return curve[0] * rows + curve[1] * rows * math.log(rows)


def _residual(curve: tuple[float, float], points: Sequence[tuple[int, float]]) -> float:
    return max(abs(_at(curve, n) - s) / s for n, s in points)
