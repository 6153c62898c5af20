"""The model: a recovery's parts, each growing with one figure, fitted to what drills measured.

| part | grows with |
| --- | --- |
| fetch, sync | bytes of the base backup |
| redo | WAL segments: one costs about the same however full it is, as long as ``archive_timeout`` ends most of them |
| vector checks | bytes of the tables that hold vectors |
| start (preflight, server start, promotion) | nothing |

Drills of one size cannot tell what is fixed from what grows. Then the likely value takes all for growing, which is the
cautious side, and the interval reaches down to half of it being fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

HISTORY = 10  # newest drills that count
TELLING_SPREAD = 1.5  # largest over smallest size from which on a line can be fitted
FIXED_AT_MOST = 0.5
LEAST_DOUBT = 0.10  # of the likely value: two drills of the same thing differ by so much


@dataclass(frozen=True, slots=True)
class Load:
    """What a recovery has to bring back."""

    base_bytes: float
    wal_segments: float
    vector_bytes: float

    def times(self, factor: float) -> Load:
        """The same cluster, larger: data, vectors and writes alike."""
        return Load(self.base_bytes * factor, self.wal_segments * factor, self.vector_bytes * factor)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one drill took, in seconds, for its load."""

    load: Load
    start: float
    fetch: float
    sync: float
    redo: float
    vectors: float


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds: the likely value and the interval around it."""

    low: float
    likely: float
    high: float

    @classmethod
    def sum(cls, spans: Sequence[Span]) -> Span:
        """Doubts of different parts are added as independent ones are."""
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
    "vectors": lambda load: load.vector_bytes,
}


def forecast(history: Sequence[Sample], load: Load) -> Forecast:
    """For a load, from at least one drill, oldest first."""
    recent = history[-HISTORY:]
    parts = {
        name: _part([(size(sample.load), getattr(sample, name)) for sample in recent], size(load))
        for name, size in SIZES.items()
    }
    return Forecast(
        load, parts, running=Span.sum([span for name, span in parts.items() if name != "vectors"]),
        correct=Span.sum(list(parts.values())),
    )  # fmt: skip


def _part(points: Sequence[tuple[float, float]], size: float) -> Span:
    sizes, seconds = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    if not sizes.any():
        return _around(float(np.median(seconds)), float(seconds.std()))
    usable = sizes > 0
    sizes, seconds = sizes[usable], seconds[usable]
    if sizes.max() / sizes.min() >= TELLING_SPREAD:
        fixed, each = _line(sizes, seconds)
        doubt = float(np.abs(seconds - fixed - each * sizes).mean()) * max(1.0, size / sizes.max())
        return _around(fixed + each * size, doubt)
    ratio, middle = float(np.median(seconds / sizes)), float(np.median(sizes))
    likely = ratio * size
    known = _around(likely, float((seconds / sizes).std()) * size)
    fixed_half = likely + FIXED_AT_MOST * ratio * (middle - size)
    return Span(min(known.low, fixed_half), likely, max(known.high, fixed_half))


def _line(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Fixed seconds and seconds for each unit, neither negative; relative errors count, so small drills do, too."""
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


def breaks_at(history: Sequence[Sample], load: Load, rto_seconds: float, *, most: float = 1000.0) -> float | None:
    """How many times the load may grow until the likely time reaches the RTO; None: not within ``most``."""
    if forecast(history, load.times(most)).correct.likely <= rto_seconds:
        return None
    low, high = 0.0, most
    for _ in range(60):
        middle = (low + high) / 2
        late = forecast(history, load.times(middle)).correct.likely > rto_seconds
        low, high = (low, middle) if late else (middle, high)
    return low
