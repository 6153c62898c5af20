"""What a look at a cluster's health hands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pgdrill.health.model import HealthReport

WORST = 20  # answers; all of them are in the task's log


@dataclass(frozen=True, slots=True)
class HealthResult:
    """How many answers there are of each kind, and the worst of those that are not ok.

    ``nobody``: why nobody is told; empty where somebody is.
    """

    cluster: str
    answers: dict[str, int]
    worst: list[dict[str, Any]]
    messages: int
    nobody: str
    seconds: float

    @classmethod
    def of(cls, report: HealthReport, messages: int, nobody: str) -> HealthResult:
        """From a look, and what came of it."""
        from pgdrill.health.model import HealthStatus

        # what is known first: one dead server leaves a dozen questions open
        told = sorted(
            (one for one in report.worst_first if one.status not in ("ok", "not asked")),
            key=lambda one: one.status == "unknown",
        )
        return cls(
            cluster=report.cluster,
            answers={status: report.count(status) for status in get_args(HealthStatus)},
            worst=[
                {
                    "check": one.check,
                    "status": one.status,
                    "thing": one.thing[:100],
                    "found": one.found[:300],
                }
                for one in told[:WORST]
            ],
            messages=messages,
            nobody=nobody,
            seconds=report.seconds,
        )
