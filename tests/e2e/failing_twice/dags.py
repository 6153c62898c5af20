"""The DAGs as they are; in runs with ``dies`` in their conf every task fails twice, after its work, as if its worker had died."""

from __future__ import annotations

from datetime import timedelta
from functools import wraps
from typing import Any

from airflow.sdk.exceptions import AirflowException

from pgdrill.airflow.dags import base_backup_dag, logical_dump_dag, restore_drill_dag, retention_dag
from pgdrill.config import load

TRIES = 3


def dying(kind: Any) -> None:
    """Let a kind of task do its work, and the third try tell of it. On the class: what a worker runs is a copy of the task."""
    work = kind.execute

    @wraps(work)
    def execute(self: Any, context: Any) -> Any:
        result = work(self, context)
        if (context["dag_run"].conf or {}).get("dies") and context["ti"].try_number < TRIES:
            raise AirflowException(f"try {context['ti'].try_number} died after its work")
        return result

    kind.execute = execute


settings = load()
for cluster in settings.clusters.values():
    for make in (base_backup_dag, logical_dump_dag, restore_drill_dag, retention_dag):
        dag = make(cluster, settings)
        for task in dag.tasks:
            task.retry_delay = timedelta(seconds=1)
            if task.task_id != "approve" and "execute" in vars(type(task)):
                dying(type(task))
