"""Recall beside recall, with bounds instead of bare numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgdrill.vectors.chance import as_lopsided, as_uneven
from pgdrill.vectors.index_search import K

Z = 1.645  # one-sided 95 %
FEWEST_PAIRS = 5


@dataclass(frozen=True, slots=True)
class Loss:
    """The share by which less was found than before."""

    mean: float
    # the true value is in these bounds, with 95 % certainty each
    lowest: float
    highest: float
    pairs: int
    luck: float = 0.0  # the chance that the probes show so much though nothing was lost

    def __str__(self) -> str:
        how = f"on {self.pairs} same probes" if self.pairs else "on other probes"
        if not (self.mean or self.lowest or self.highest):
            return f"no loss {how}"
        mean, lowest, highest = (
            f"{round(share, 4) + 0.0:.4f}" for share in (self.mean, self.lowest, self.highest)
        )
        return f"loss {mean} (95 %: {lowest} to {highest}) {how}"


def paired_loss(before: Sequence[float], now: Sequence[float]) -> Loss | None:
    """Return the loss between the same probes' recalls; None of too few probes.

    Neighbours of one probe are found or missed together, so a probe is one observation.
    """
    if len(before) < FEWEST_PAIRS:
        return None
    differences = [old - new for old, new in zip(before, now, strict=True)]
    mean = sum(differences) / len(differences)
    variance = sum((difference - mean) ** 2 for difference in differences) / (len(differences) - 1)
    error = Z * (variance / len(differences)) ** 0.5
    worse, better = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    return Loss(mean, mean - error, mean + error, len(differences), as_lopsided(worse, better))


def unpaired_loss(hits_before: int, wanted_before: int, hits: int, wanted: int) -> Loss:
    """Return the loss between the recalls of different probes.

    It is the distance of two Wilson intervals, with each probe's neighbours as one observation.
    """
    now, then = _probes(hits, wanted), _probes(hits_before, wanted_before)
    (low, high), (low_before, high_before) = wilson(*now), wilson(*then)
    mean = hits_before / max(wanted_before, 1) - hits / max(wanted, 1)
    return Loss(
        mean,
        low_before - high,
        high_before - low,
        0,
        as_uneven(now[1] - now[0], now[1], then[1] - then[0], then[1]),
    )


def _probes(hits: int, wanted: int) -> tuple[int, int]:
    """Return how many probes were found, and how many these neighbours are of.

    Each probe counts as found or missed as a whole: that is the least they can tell.
    """
    trials = -(-wanted // K)
    return round(trials * hits / wanted) if wanted else 0, trials


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return Wilson's score interval of a share: bounds that hold with 95 % certainty each."""
    if trials == 0:
        return 0.0, 1.0
    share, square = hits / trials, Z**2 / trials
    middle = (share + square / 2) / (1 + square)
    half = Z * (share * (1 - share) / trials + square / (4 * trials)) ** 0.5 / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
