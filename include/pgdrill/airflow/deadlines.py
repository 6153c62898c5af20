"""The deadlines of a DAG's runs: a warning at three quarters of the time, critical when it is up.

They count from when a run was queued: every run has that, by hand, by an asset or by cron. The
triggerer calls :func:`pgdrill.airflow.callbacks.deadline_missed` with nothing but plain values.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

# airflow.sdk has them too, where no type checker sees them
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from pgdrill.airflow.callbacks import deadline_missed
from pgdrill.reports.deadlines import WARNING_SHARE, deadline_seconds

if TYPE_CHECKING:
    from pgdrill.config import Cluster


def deadlines(cluster: Cluster, job: str) -> list[DeadlineAlert]:
    """Return both deadlines of a job's runs. Reads the configuration, and reports on this host."""
    promised = deadline_seconds(cluster, job)
    return [
        DeadlineAlert(
            name=name,
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(seconds=share * promised),
            callback=AsyncCallback(
                deadline_missed,
                kwargs={
                    "cluster": cluster.name,
                    "job": job,
                    "severity": severity,
                    "promised_seconds": promised,
                },
            ),
        )
        for name, share, severity in (
            ("three quarters of its time", WARNING_SHARE, "warning"),
            ("all of its time", 1.0, "critical"),
        )
    ]
