"""When to look next: at the usual time, or when a promise would just have been broken."""

from __future__ import annotations

from pgdrill.health.model import HealthFinding, HealthReport

LEAST_SECONDS = 1.0
BEHIND_SECONDS = 0.2  # looked at a moment later, so that it has run out by then


def next_look(report: HealthReport, every_seconds: float) -> float:
    """Return after how many seconds to look again.

    What grows older second by second is looked at when its promise runs out, if that is sooner: so
    an alert of it comes at its time, however seldom looks are.
    """
    left = [seconds for one in report.findings if (seconds := _left(one)) is not None]
    soonest = min((one for one in left if one < every_seconds), default=every_seconds)
    return max(LEAST_SECONDS, soonest)


def _left(one: HealthFinding) -> float | None:
    if one.status != "ok" or one.unit != "seconds" or not one.value or one.promised is None:
        return None
    left = one.promised - one.value  # of what should be more than promised there is no end
    return left + BEHIND_SECONDS if left > 0 else None
