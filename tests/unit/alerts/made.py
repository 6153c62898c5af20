"""Findings and looks, as a health check would have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pgdrill.alerts.looks import Look
from pgdrill.alerts.model import AlertState, Message
from pgdrill.alerts.policy import Policy
from pgdrill.alerts.transition import transition
from pgdrill.health.model import HealthFinding, HealthReport, HealthStatus

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
ALL = dict.fromkeys(("unknown", "warning", "critical"), ("mail",))
POLICY = Policy(routes=ALL)  # type: ignore[arg-type]


def finding(check: str, status: HealthStatus, **more: Any) -> HealthFinding:
    words = {"cluster": "agents", "found": f"{check} is {status}", "looked_at": NOON}
    return HealthFinding(**{**words, "check": check, "status": status, **more})  # type: ignore[arg-type]


def report(*findings: HealthFinding, at: datetime = NOON, host: str = "db1") -> HealthReport:
    return HealthReport(
        cluster="agents", host=host, started_at=at, seconds=0.1, findings=list(findings)
    )


class Life:
    """A cluster looked at again and again by the pure function alone."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.policy = policy
        self.state = AlertState()
        self.now = NOON
        self.told: list[Message] = []
        self.looks = 0

    def look(self, *findings: HealthFinding, after: float = 10) -> list[str]:
        """Look after so many seconds; return the messages as ``kind cause severity``."""
        self.now += timedelta(seconds=after)
        self.looks += 1
        seen = tuple(one.model_copy(update={"looked_at": self.now}) for one in findings)
        look = Look("agents", f"db1 {self.looks}", seen)
        self.state, messages = transition(self.state, look, self.now, self.policy)
        self.told += messages
        return [f"{one.kind} {one.cause} {one.severity}" for one in messages]

    def kinds(self) -> list[str]:
        return [one.kind for one in self.told]
