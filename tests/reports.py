"""Reports as drills leave them, for tests of what is made of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pgdrill.reports.belief import ESSENTIAL
from pgdrill.reports.model import CheckResult, Report, RestoredCluster, Stage, Target, Timings


def passed_report(
    drill_id: str,
    *,
    cluster: str = "agents",
    backup: str = "base_000000010000000000000002",
    **more: Any,
) -> Report:
    """One that passed, and shows it."""
    at = more.pop("started_at", datetime.now(UTC))
    report = Report(
        drill_id=drill_id,
        cluster=cluster,
        started_at=at,
        rpo_seconds=60,
        rto_seconds=3600,
        backup=backup,
        target=Target(kind="latest", value=f"pgdrill-{drill_id}"),
        restore=Stage(status="ok"),
        checks=Stage(status="ok"),
        timings=Timings(time_to_running_seconds=2.0, time_to_correct_vector_search_seconds=3.0),
        results=[
            CheckResult(name=f"a-question-of-{family}", family=family, status="pass")
            for family in ESSENTIAL
        ],
        restored=RestoredCluster(
            directory="/srv/d",
            data_directory="/srv/d/data",
            socket_directory="/tmp/s",
            port=5432,
            system_identifier=7,
            timeline=1,
            reached_lsn="0/3000028",
            expires_at=at + timedelta(hours=1),
        ),
        **more,
    )
    report.judge()
    return report
