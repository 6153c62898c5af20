"""The report of loading a snapshot: what came back, and what the invariants say of it.

It is kept beside the snapshot, and proves nothing about any base backup.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from pgdrill.documents import Instant
from pgdrill.reports.model import CheckResult, Part, Stage, Verdict, judge, worth_another_try

FAMILY = "queues"
DAMAGED = ("dump-damaged", "missing-part", "record-broken", "record-changed")


class QueueFigures(Part):
    """What stands in one queue of the loaded file.

    ``active`` jobs had a worker and run twice; of the ``delayed`` ones ``due`` fire at once.
    """

    database: int
    queue: str
    version: str = ""
    states: dict[str, int]
    due: int = 0
    schedulers: int = 0
    orphans: int = 0

    @property
    def live(self) -> int:
        """The jobs that are not over."""
        return sum(n for state, n in self.states.items() if state not in ("completed", "failed"))

    @property
    def active(self) -> int:
        """The jobs that run twice."""
        return self.states.get("active", 0)


class SnapshotReport(Part):
    """One loading of a snapshot."""

    version: Literal[1] = 1
    drill_id: str
    snapshot_id: str
    queue: str
    cluster: str
    trigger: str = "cli"
    started_at: Instant
    ended_at: Instant | None = None
    host: str = ""
    pgdrill: str = ""
    loader: str = ""  # product and version of the server that loaded it
    fence: str = ""
    no_lease: str = ""
    of_no_instant: bool = False
    at: datetime | None = None
    keys: int = 0
    expired: int = 0
    queues: list[QueueFigures] = Field(default_factory=list)
    fetch_seconds: float | None = None
    load_seconds: float | None = None
    check_seconds: float | None = None
    restore: Stage = Field(default_factory=Stage)  # fetching and loading
    checks: Stage = Field(default_factory=Stage)
    cleanup: Stage = Field(default_factory=Stage)
    results: list[CheckResult] = Field(default_factory=list)
    verdict: Verdict = "could not verify"
    reason: str = "unfinished"
    kept_at: list[str] = Field(default_factory=list)

    @property
    def proves(self) -> bool:
        """True if it was loaded and found right."""
        return self.verdict == "passed"

    @property
    def disproves(self) -> bool:
        """True if what lies in the store is damaged."""
        return self.verdict == "failed"

    @property
    def live(self) -> int:
        """The jobs that are not over."""
        return sum(one.live for one in self.queues)

    @property
    def active(self) -> int:
        """The jobs that run twice."""
        return sum(one.active for one in self.queues)

    @property
    def history(self) -> int:
        """The jobs that are over."""
        return sum(sum(one.states.values()) for one in self.queues) - self.live

    def judge(self) -> None:
        """Set verdict and reason from the stages and the checks."""
        self.verdict, self.reason = judge(self.restore, self.checks, self.results, essential=FAMILY)

    @property
    def worth_another_try(self) -> bool:
        """True if another try may come to a verdict."""
        return worth_another_try(self.restore, self.checks, self.results)
