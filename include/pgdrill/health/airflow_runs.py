"""The newest run of each DAG, as Airflow's API knows it: told even where no callback came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pgdrill.health.airflow import instant, of_airflow
from pgdrill.health.airflow_api import AirflowApi
from pgdrill.health.answer import Answer, not_asked
from pgdrill.health.check import health_check
from pgdrill.health.runs import JOBS, Run, check_of, judge_run
from pgdrill.health.subject import HealthSubject
from pgdrill.reports.deadlines import deadline_seconds

NEWEST_RUNS = 10
CONSEQUENCES = {
    "base_backup": ("base-backup-age",),
    "restore_drill": ("drill-age", "drill-verdict", "drill-rto", "drill-search", "drill-rpo"),
    "logical_dump": ("dump-age",),
    "retention": ("retention-age",),
}


def newest_run(subject: HealthSubject, api: AirflowApi, job: str) -> Iterator[Answer]:
    """Judge the run that is at work, if it is late, else the newest that is over.

    One that is at work in time proves nothing yet, and ends no alert.
    """
    dag_id = f"{subject.name}.{job}"
    found = api.get("dags", dag_id, "dagRuns", order_by="-run_after", limit=NEWEST_RUNS)
    runs = [_run(dag_id, one) for one in (found or {}).get("dag_runs", ())]
    promised = deadline_seconds(subject.access.cluster, job)
    at_work = [one for one in runs if one.ended_at is None]
    for one in at_work:
        if judge_run(one, promised, subject.now).status != "ok":
            told = api.get("dags", dag_id, "dagRuns", one.run_id, "taskInstances") or {}
            tasks = {it["task_id"]: it["state"] or "" for it in told.get("task_instances", ())}
            yield judge_run(replace(one, tasks=tasks), promised, subject.now)
            return
    over = [one for one in runs if one.ended_at is not None]
    if over:
        newest = max(over, key=lambda one: one.ended_at or one.queued_at)
        answer = judge_run(newest, promised, subject.now)
        if not at_work or answer.status != "ok":
            yield answer
    elif not at_work:
        yield not_asked("no run yet", "no-run")


def _run(dag_id: str, told: Mapping[str, Any]) -> Run:
    queued_at = instant(told.get("queued_at") or told.get("start_date") or told["run_after"])
    assert queued_at is not None  # noqa: S101 - run_after is never null
    over = told["state"] in ("success", "failed")
    return Run(
        dag_id=dag_id,
        run_id=told["dag_run_id"],
        state=told["state"],
        queued_at=queued_at,
        started_at=instant(told.get("start_date")),
        ended_at=(instant(told.get("end_date")) or queued_at) if over else None,
    )


def _register(job: str) -> None:
    @of_airflow
    def ask(subject: HealthSubject, api: AirflowApi) -> Iterator[Answer]:
        """Judge the newest run of a DAG."""
        return newest_run(subject, api, job)

    health_check(
        check_of(job),
        "airflow",
        passing=f"the newest run of the DAG {job} passed, and none is late",
        hint="see the run in Airflow, and the log of its red task, which ends with a hint",
        example="manual__2026-11-27T11:00:00+00:00: failed in restore after 12 min 3 s",
        after=("airflow",),
        hides=CONSEQUENCES.get(job, ()),
    )(ask)


for one_job in JOBS:
    _register(one_job)
