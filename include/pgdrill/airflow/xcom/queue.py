"""What the tasks of a queue's snapshot hand on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pgdrill.airflow.xcom.plain import Finding, findings, where

if TYPE_CHECKING:
    from pgdrill.queues.record import SnapshotRecord
    from pgdrill.queues.report import SnapshotReport


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """A snapshot that is whole in the store, and not yet loaded."""

    snapshot_id: str
    queue: str
    cluster: str
    method: str
    source: str
    server_version: str
    at: datetime | None
    started_at: datetime
    ended_at: datetime
    keys: int
    queues: int
    stored_bytes: int
    encrypted: bool
    postgres_before_lsn: str
    postgres_after_lsn: str
    seconds: float

    @classmethod
    def of(cls, record: SnapshotRecord) -> SnapshotResult:
        """From the record that was written last."""
        span = record.postgres
        return cls(
            snapshot_id=record.snapshot_id,
            queue=record.queue,
            cluster=record.cluster,
            method=record.method,
            source=record.source,
            server_version=f"{record.product} {record.server_version}",
            at=record.at,
            started_at=record.started_at,
            ended_at=record.ended_at,
            keys=record.keys_before,
            queues=len(record.queues),
            stored_bytes=record.file.stored_bytes,
            encrypted=record.file.encrypted,
            postgres_before_lsn=span.before_lsn if span else "",
            postgres_after_lsn=span.after_lsn if span else "",
            seconds=record.seconds,
        )


@dataclass(frozen=True, slots=True)
class QueueVerifyResult:
    """The verdict on a snapshot with the figures behind it."""

    drill_id: str
    snapshot_id: str
    queue: str
    verdict: str
    reason: str
    checks_pass: int
    checks_warn: int
    checks_fail: int
    checks_skip: int
    loader: str
    keys: int
    live_jobs: int
    history_jobs: int
    jobs_that_run_twice: int
    delayed_jobs_due: int
    fetch_seconds: float | None
    load_seconds: float | None
    check_seconds: float | None
    findings: list[Finding]
    report: str

    @classmethod
    def of(cls, report: SnapshotReport) -> QueueVerifyResult:
        """From a report, finished or not."""
        count = Counter(result.status for result in report.results)
        return cls(
            drill_id=report.drill_id,
            snapshot_id=report.snapshot_id,
            queue=report.queue,
            verdict=report.verdict,
            reason=report.reason,
            checks_pass=count["pass"],
            checks_warn=count["warn"],
            checks_fail=count["fail"],
            checks_skip=count["skip"],
            loader=report.loader,
            keys=report.keys,
            live_jobs=report.live,
            history_jobs=report.history,
            jobs_that_run_twice=report.active,
            delayed_jobs_due=sum(one.due for one in report.queues),
            fetch_seconds=report.fetch_seconds,
            load_seconds=report.load_seconds,
            check_seconds=report.check_seconds,
            findings=findings(report.results),
            report=where(report.kept_at),
        )
