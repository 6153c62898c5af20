"""What the tasks hand on by XCom: flat dictionaries of JSON's own types, units in the names, no row
content.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgdrill.reports.model import Report

Finding = dict[str, Any]


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
            report=where(report),
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
        findings = [
            {
                "check": r.name,
                "status": r.status,
                "thing": r.thing,
                "found": r.value,
                "expected": r.threshold,
                "message": r.message,
                "hint": r.hint,
            }
            for r in report.results
            if r.status != "pass"
        ]
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
            findings=findings,
            report=where(report),
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


def as_xcom(result: Any) -> dict[str, Any]:
    """A result dataclass as JSON's own types; Airflow would wrap a datetime or a tuple for its own
    eyes only.
    """
    return {key: _plain(value) for key, value in asdict(result).items()}


def where(report: Report) -> str:
    """Where the report is kept, the store's copy first: the local one stays on the drill's host."""
    return report.kept_at[-1] if report.kept_at else ""


def explanation(report: Report) -> str:
    """Why a drill is not green, in one line: thing, found, expected, hint and where to read on."""
    head = (
        f"drill {report.drill_id} of cluster {report.cluster}: {report.verdict} ({report.reason})"
    )
    return f"{head}. {_first_cause(report)} Report: {where(report)}"


def _first_cause(report: Report) -> str:
    for stage in (report.restore, report.checks):
        if it := stage.trouble:
            return f"{it.thing}: found {it.found}; expected {it.expected}. Hint: {it.hint}."
    from pgdrill.reports.grouping import by_telling

    for status in ("fail", "skip"):
        for r in by_telling(report.results):
            if r.status == status and (r.required or status == "fail"):
                found = (
                    " ".join(str(it) for it in (r.value, r.message) if it not in (None, ""))
                    or "no answer"
                )
                return (
                    f"{r.name} {r.thing}: found {found}; expected {r.threshold or 'an answer'}."
                    f" Hint: {r.hint or 'see the message'}."
                )
    if report.restore.status == "ok" and report.checks.status != "ok":
        return (
            "It was restored, and no check was asked of it to the end. Hint: clear `check`, which"
            " restores again."
        )
    return ""


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    return list(value) if isinstance(value, tuple) else value
