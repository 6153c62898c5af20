"""The DAGs of a configured cluster.

Drawing them reads the configuration and nothing else: no server, no Connection.
"""

from __future__ import annotations

from pgdrill.airflow.dags.backup_health import backup_health_dag
from pgdrill.airflow.dags.base_backup import base_backup_dag
from pgdrill.airflow.dags.drawing import check_configuration, draw, draw_queues
from pgdrill.airflow.dags.logical_dump import logical_dump_dag
from pgdrill.airflow.dags.queue_snapshot import queue_snapshot_dag
from pgdrill.airflow.dags.restore_drill import restore_drill_dag
from pgdrill.airflow.dags.retention import retention_dag

__all__ = [
    "backup_health_dag",
    "base_backup_dag",
    "check_configuration",
    "draw",
    "draw_queues",
    "logical_dump_dag",
    "queue_snapshot_dag",
    "restore_drill_dag",
    "retention_dag",
]
