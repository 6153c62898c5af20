"""What the tasks of a drill hand on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pgdrill.airflow.xcom.plain import Finding, findings, where

if TYPE_CHECKING:
    from pgdrill.reports.model import Report


@dataclass(frozen=True, slots=True)
class BeginResult:
    """A drill that may begin. ``production`` is ``there``, or why nobody listens."""

    drill_id: str
    cluster: str
    tool: str
    repository: str
    target: str
    production: str


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """A restored cluster and what bringing it back took."""

    drill_id: str
    cluster: str
    tool: str
    backup: str
    backup_finished_at: datetime | None
    target: str
    reached_lsn: str
    timeline: int
    directory: str
    socket_directory: str
    port: int
    ends_by_itself_at: datetime
    measured_rpo_seconds: float | None
    baseline_seconds: float | None
    preflight_seconds: float | None
    fetch_seconds: float | None
    fetched_bytes: int | None
    fetch_mb_per_second: float | None
    sync_seconds: float | None
    replay_seconds: float | None
    replayed_wal_bytes: int | None
    time_to_running_seconds: float | None
    report: str

    @classmethod
    def of(cls, report: Report) -> RestoreResult:
        """From the report of a restore that succeeded."""
        restored, timings = report.restored, report.timings
        if restored is None:
            raise ValueError(f"drill {report.drill_id} restored nothing")
        return cls(
            drill_id=report.drill_id,
            cluster=report.cluster,
            tool=report.tool,
            backup=report.backup,
            backup_finished_at=report.backup_finished_at,
            reached_lsn=restored.reached_lsn,
            timeline=restored.timeline,
            target=f"{report.target.kind}:{report.target.value}" if report.target else "",
            directory=restored.directory,
            socket_directory=restored.socket_directory,
            port=restored.port,
            ends_by_itself_at=restored.expires_at,
            measured_rpo_seconds=report.measured_rpo_seconds,
            baseline_seconds=timings.baseline_seconds,
            preflight_seconds=timings.preflight_seconds,
            fetch_seconds=timings.fetch_seconds,
            fetched_bytes=timings.fetched_bytes,
            fetch_mb_per_second=timings.fetch_mb_per_second,
            sync_seconds=timings.sync_seconds,
            replay_seconds=timings.replay_seconds,
            replayed_wal_bytes=timings.replayed_wal_bytes,
            time_to_running_seconds=timings.time_to_running_seconds,
            report=where(report.kept_at),
        )


@dataclass(frozen=True, slots=True)
class DrillResult:
    """The verdict with the figures behind it. ``findings`` are the answers that are no pass."""

    drill_id: str
    cluster: str
    backup: str
    verdict: str
    reason: str
    summary: str
    checks_passed: int
    checks_warned: int
    checks_failed: int
    checks_skipped: int
    lowest_recall_at_10: float | None
    recall_at_10: dict[str, float]
    time_to_running_seconds: float | None
    vector_checks_seconds: float | None
    time_to_correct_vector_search_seconds: float | None
    rto_seconds: float
    measured_rpo_seconds: float | None
    rpo_seconds: float
    findings: list[Finding]
    report: str

    @classmethod
    def of(cls, report: Report) -> DrillResult:
        """From a report, finished or not."""
        count = Counter(result.status for result in report.results)
        recall = {
            result.thing: float(result.value)
            for result in report.results
            if result.name == "index-recall" and isinstance(result.value, int | float)
        }
        timings = report.timings
        return cls(
            drill_id=report.drill_id,
            cluster=report.cluster,
            backup=report.backup,
            verdict=report.verdict,
            reason=report.reason,
            summary=report.summary,
            checks_passed=count["pass"],
            checks_warned=count["warn"],
            checks_failed=count["fail"],
            checks_skipped=count["skip"],
            lowest_recall_at_10=min(recall.values(), default=None),
            recall_at_10=recall,
            time_to_running_seconds=timings.time_to_running_seconds,
            vector_checks_seconds=timings.vector_checks_seconds,
            time_to_correct_vector_search_seconds=timings.time_to_correct_vector_search_seconds,
            rto_seconds=report.rto_seconds,
            measured_rpo_seconds=report.measured_rpo_seconds,
            rpo_seconds=report.rpo_seconds,
            findings=findings(report.results),
            report=where(report.kept_at),
        )


@dataclass(frozen=True, slots=True)
class DestroyResult:
    """What became of the restored cluster."""

    drill_id: str
    cluster: str
    destroyed: bool
    directory: str
    connection: str
    ends_by_itself_at: datetime | None
    seconds: float | None
