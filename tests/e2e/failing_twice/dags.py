"""The DAGs as they are; in runs with ``dies`` in their conf every task fails twice, after its work,
as if its worker had died.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowException

from pgdrill.airflow.dags import (
    backup_health_dag,
    base_backup_dag,
    logical_dump_dag,
    restore_drill_dag,
    retention_dag,
)
from pgdrill.config import load

# more tries than deaths: Airflow loses one now and then where all cores are busy
DEATHS, RETRIES = 2, 6


def deaths_file(run_id: str) -> Path:
    """Who has died in a run, by line."""
    return Path(os.environ["AIRFLOW_HOME"]) / f"died-{run_id}"


def deaths(run_id: str, task_id: str) -> int:
    """How often a task has."""
    file = deaths_file(run_id)
    return file.read_text().split().count(task_id) if file.exists() else 0


def dying(kind: Any) -> None:
    """Let a kind of task do its work, and the third try tell of it.

    On the class: what a worker runs is a copy of the task.
    """
    work = kind.execute

    @wraps(work)
    def execute(self: Any, context: Any) -> Any:
        result = work(self, context)
        if (context["dag_run"].conf or {}).get("dies") and deaths(
            context["run_id"], self.task_id
        ) < DEATHS:
            with deaths_file(context["run_id"]).open("a") as file:
                file.write(f"{self.task_id}\n")
            raise AirflowException(f"try {context['ti'].try_number} died after its work")
        return result

    kind.execute = execute


settings = load()
for cluster in settings.clusters.values():
    for make in (
        backup_health_dag,
        base_backup_dag,
        logical_dump_dag,
        restore_drill_dag,
        retention_dag,
    ):
        dag = make(cluster, settings)
        dag.params["dies"] = Param(False, type="boolean")
        for task in dag.tasks:
            task.retry_delay, task.retries = timedelta(seconds=1), task.retries and RETRIES
            if task.task_id != "approve" and "execute" in vars(type(task)):
                dying(type(task))
