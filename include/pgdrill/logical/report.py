"""The report of a dump's restore: what came back, how long it took, what the checks say.

It is kept beside the dump.

It is a report of its own kind: a restored dump proves nothing about base backups, WAL or recovery
points, so it must never be taken for a drill of those.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import Field

from pgdrill.reports.model import (
    CheckResult,
    Compared,
    KnownDeviation,
    Part,
    Stage,
    Verdict,
    judge,
    worth_another_try,
)

DAMAGED = ("dump-damaged", "missing-part")


class IndexBuild(Part):
    """A vector index that was built.

    ``points`` are rows done after seconds, while it was being built.
    """

    database: str
    index: str
    table: str
    method: str
    kind: str
    dimensions: int | None
    m: int
    ef_construction: int
    rows: int
    seconds: float
    index_bytes: int
    needed_bytes: int
    maintenance_work_mem_bytes: int
    workers: int
    fits: bool
    points: list[tuple[int, float]] = Field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Rows of the table per second of building."""
        return self.rows / self.seconds if self.seconds else 0.0


class DumpTimings(Part):
    """Seconds of each step, and what they moved."""

    download_seconds: float | None = None
    downloaded_bytes: int | None = None
    initdb_seconds: float | None = None
    roles_seconds: float | None = None
    data_seconds: float | None = None
    rows: int | None = None
    vector_indexes_seconds: float | None = None
    others_seconds: float | None = None
    analyze_seconds: float | None = None
    migrations_seconds: float | None = None
    restore_seconds: float | None = None
    vector_checks_seconds: float | None = None

    @property
    def rows_per_second(self) -> float | None:
        """The rows loaded per second, before any index."""
        return (
            self.rows / self.data_seconds if self.rows is not None and self.data_seconds else None
        )


class LockTaken(Part):
    """A lock that a statement took on a relation."""

    relation: str
    mode: str


class StatementRun(Part):
    """A statement of a migration: where it stands, its first words, its seconds.

    It also has what the statement did to others.
    """

    file: str
    line: int
    words: str
    seconds: float
    strongest: LockTaken | None = None
    locks: list[LockTaken] = Field(default_factory=list)
    rewritten: list[str] = Field(default_factory=list)
    transactional: bool = True


class DumpServer(Part):
    """The place of the restored cluster."""

    directory: str
    socket_directory: str
    port: int
    server_version: str
    expires_at: datetime


class DumpReport(Part):
    """One restore of a dump."""

    version: Literal[1] = 1
    drill_id: str
    dump_id: str
    cluster: str
    trigger: str = "cli"
    started_at: datetime
    ended_at: datetime | None = None
    host: str = ""
    pgdrill: str = ""  # the version that ran it; empty in reports from before it was noted
    dump_server_version: str = ""
    durability: Literal["full", "fast"] = "full"
    # the fence around the restored server; empty in reports from before there were any
    fence: str = ""
    migrated: bool = False
    no_lease: str = ""  # why prunes on other hosts were not kept from deleting it meanwhile
    stored_bytes: int = 0
    timings: DumpTimings = Field(default_factory=DumpTimings)
    builds: list[IndexBuild] = Field(default_factory=list)
    statements: list[StatementRun] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    restore: Stage = Field(default_factory=Stage)
    checks: Stage = Field(default_factory=Stage)
    cleanup: Stage = Field(default_factory=Stage)
    results: list[CheckResult] = Field(default_factory=list)
    compared: Compared | None = None  # how much of the rows, and how
    deviations: list[KnownDeviation] = Field(default_factory=list)
    restored: DumpServer | None = None
    verdict: Verdict = "could not verify"
    reason: str = "unfinished"
    kept_at: list[str] = Field(default_factory=list)

    @property
    def proves(self) -> bool:
        """True if the dump is restorable and right as it is.

        A rehearsal of migrations tells of something else.
        """
        return self.verdict == "passed" and not self.migrated

    @property
    def disproves(self) -> bool:
        """True if the archive is no longer what was dumped.

        Any other failure is one of the place that it was restored into.
        """
        return self.restore.trouble is not None and self.restore.trouble.reason in DAMAGED

    def judge(self) -> None:
        """Set verdict and reason from the stages and the checks."""
        self.verdict, self.reason = judge(self.restore, self.checks, self.results)

    @property
    def worth_another_try(self) -> bool:
        """True if another try may come to a verdict."""
        return worth_another_try(self.restore, self.checks, self.results)


def counts(reports: Iterable[DumpReport]) -> bool:
    """Return whether a dump counts.

    It does if a restore of it has passed, and none since has found its archive damaged.
    """
    telling = [report for report in reports if report.proves or report.disproves]
    return bool(telling) and max(telling, key=lambda report: report.started_at).proves
