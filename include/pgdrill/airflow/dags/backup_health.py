"""The DAG that looks at the health of backups every five minutes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, CronTriggerTimetable

from pgdrill.airflow.dags.common import common
from pgdrill.airflow.operators import BackupHealthOperator

if TYPE_CHECKING:
    from pgdrill.config import Cluster, Settings

EVERY_FIVE_MINUTES = "*/5 * * * *"
LOOK_TIMEOUT = timedelta(minutes=4)  # before the next one is due


def backup_health_dag(cluster: Cluster, settings: Settings, doc: str | None = None) -> DAG:
    """``<cluster>.backup_health``: one task, which only looks and tells.

    A run that is due while another goes on is left out: with ``catchup`` off none pile up.
    """
    shared = common(cluster, "health", doc, job="backup_health")
    # The task says itself that it passed: a callback every five minutes is a process every time.
    shared["on_success_callback"] = None
    with DAG(
        f"{cluster.name}.backup_health",
        schedule=CronTriggerTimetable(
            EVERY_FIVE_MINUTES, timezone="UTC", run_immediately=timedelta(0)
        ),
        description=f"Looks at the backups of cluster {cluster.name}, and alerts",
        **shared,
    ) as dag:
        BackupHealthOperator(
            task_id="look",
            cluster=cluster.name,
            execution_timeout=LOOK_TIMEOUT,
            retries=0,  # the next look is another try
            doc_md=(
                "Asks every health check, and hands what it finds to the alerts. Red: nothing could"
                " be looked at."
            ),
        )
    return dag
