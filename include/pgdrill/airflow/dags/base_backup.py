"""The DAG that takes base backups."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG

from pgdrill.airflow.dags.common import MARGIN, base_backups, common, cron
from pgdrill.airflow.operators import BaseBackupOperator

if TYPE_CHECKING:
    from pgdrill.config import Cluster, Settings


def base_backup_dag(cluster: Cluster, settings: Settings, doc: str | None = None) -> DAG:
    """``<cluster>.base_backup``: one task, for the tool, its proof and the record belong
    together."""
    limits = cluster.backup
    with DAG(
        f"{cluster.name}.base_backup",
        schedule=cron(cluster, settings, "backup"),
        description=f"Base backup of cluster {cluster.name} with {cluster.repository.tool}",
        **common(cluster, "backup", doc, job="base_backup"),
    ) as dag:
        BaseBackupOperator(
            task_id="backup",
            cluster=cluster.name,
            outlets=[base_backups(cluster)],
            execution_timeout=timedelta(
                seconds=limits.timeout_seconds + limits.archive_wait_seconds
            )
            + MARGIN,
            retry_delay=timedelta(minutes=10),
            doc_md=(
                "Runs the backup tool beside the data directory, reads the new backup back from the"
                " listing, compares every part, waits for its WAL and records what production held."
            ),
        )
    return dag
