"""The results of a look at a cluster's health: findings of data, each with measure and promise."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pgdrill.documents import StrictModel

# ok: measured, and as promised. warning: it goes the wrong way. critical: a promise is broken.
# unknown: could not be looked at, which is never ok. not asked: no matter here, and ``found`` says
# why.
HealthStatus = Literal["ok", "warning", "critical", "unknown", "not asked"]
# the worst first: what is looked at first, and what decides
BY_GRAVITY: tuple[HealthStatus, ...] = ("critical", "unknown", "warning", "ok", "not asked")


class HealthFinding(StrictModel):
    """One answer of one health check, about one thing."""

    cluster: str
    check: str  # stable name in kebab-case, e.g. "archiver", "replay-lag"
    thing: str = ""  # what was looked at (a slot, a standby, a file); empty: the cluster
    status: HealthStatus
    found: str  # in words, with units
    promise: str = ""  # what was promised, in words
    value: float | None = None  # the measure in base units; None: unknown
    promised: float | None = None  # the promise in the same unit
    unit: Literal["seconds", "bytes", "ratio", "count", ""] = ""
    # what would be lost if production died now, where the check knows
    would_lose_seconds: float | None = None
    hint: str = ""  # first step
    reason: str = ""  # stable code
    looked_at: datetime


class HealthReport(StrictModel):
    """All findings of one look at one cluster."""

    cluster: str
    host: str
    started_at: datetime
    seconds: float
    findings: list[HealthFinding]

    def count(self, status: HealthStatus) -> int:
        """Return how many findings have this status."""
        return sum(finding.status == status for finding in self.findings)

    @property
    def worst_first(self) -> list[HealthFinding]:
        """The findings by gravity, the worst first; within it in the order of asking."""
        return sorted(self.findings, key=lambda one: BY_GRAVITY.index(one.status))

    def after(self, earlier: HealthReport | None) -> HealthReport:
        """Return this look with the answers of an earlier one that it did not ask for."""
        if earlier is None:
            return self
        asked = {one.check for one in self.findings}
        kept = [one for one in earlier.findings if one.check not in asked]
        return self.model_copy(update={"findings": [*self.findings, *kept]})

    @property
    def nagios_code(self) -> int:
        """The exit code as Nagios has it: 0 ok, 1 warning, 2 critical, 3 unknown."""
        if self.count("critical"):
            return 2
        if self.count("warning"):
            return 1
        return 3 if self.count("unknown") or not self.count("ok") else 0
