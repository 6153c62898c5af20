"""Who watches the watchers: Airflow's scheduler, triggerer and DAG processor, and the DAGs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from pgdrill.errors import Gone
from pgdrill.health.airflow_api import AirflowApi
from pgdrill.health.answer import Answer, not_asked, unknown
from pgdrill.health.check import Ask, health_check
from pgdrill.health.runs import JOBS, check_of
from pgdrill.health.subject import HealthSubject
from pgdrill.reports.terminal import seconds as shown

COMPONENTS = {
    "scheduler": "no run begins, not even the next task of one that has begun",
    "triggerer": "no missed deadline is told",
    "dag_processor": "no change of a DAG is seen, and the end of no run is told",
}
QUEUED_SECONDS = 600.0
RUNS = tuple(map(check_of, JOBS))
WATCHERS = ("airflow-components", "airflow-dags", "airflow-import-errors", "airflow-queued")


@health_check(
    "airflow",
    "airflow",
    passing="Airflow's API answers and lets in",
    hint=(
        "name a Connection of type http in airflow.conn_id (or airflow.url, user and"
        " password_variable); airflow.watched = false where Airflow does not run the jobs"
    ),
    example="Airflow's API at http://airflow:8080: Connection refused",
    hides=(*WATCHERS, *RUNS),
)
def airflow(subject: HealthSubject) -> Iterator[Answer]:
    """Log in; where nothing says how, nobody knows whether Airflow still works."""
    subject.airflow_known = False
    settings = subject.access.cluster.airflow
    if not settings.watched:
        yield not_asked("airflow.watched is false: it does not run this cluster's jobs", "unused")
        return
    if subject.airflow is None:
        given = subject.access.airflow_login
        if not given["url"]:
            yield unknown(
                "nothing says how to ask Airflow whether it still works", "no-airflow-connection"
            )
            return
        subject.airflow = AirflowApi(given["url"], given["user"], given["password"])
    try:
        if subject.airflow.get("dags", limit=1) is None:
            yield unknown("there is no API of Airflow 3 at this address", "airflow-strange")
            return
    except Gone as error:
        words = error.problem
        yield Answer("critical", f"{words.thing}: {words.found}", reason=words.reason)
        return
    subject.airflow_known = True
    yield Answer("ok", f"{subject.airflow.url} answers")


def of_airflow(ask: Callable[[HealthSubject, AirflowApi], Iterator[Answer]]) -> Ask:
    """Return a question to Airflow that is asked if this look has reached it.

    That it could not be is told once, by the check ``airflow``, and ends no other's alert.
    """

    @functools.wraps(ask)
    def asked(subject: HealthSubject) -> Iterator[Answer]:
        if not subject.access.cluster.airflow.watched:
            yield not_asked("airflow.watched is false", "unused")
        elif subject.airflow_known and subject.airflow:
            yield from ask(subject, subject.airflow)

    return asked


@health_check(
    "airflow-components",
    "airflow",
    passing="scheduler, triggerer and DAG processor are healthy",
    hint="start it again: `airflow scheduler`, `airflow triggerer`, `airflow dag-processor`",
    example="scheduler: unhealthy, last heard of 6 min ago",
    after=("airflow",),
    hides=("airflow-queued", *RUNS),
)
@of_airflow
def components(subject: HealthSubject, api: AirflowApi) -> Iterator[Answer]:
    """Ask Airflow how its parts are."""
    told = api.health()
    for name, lost in COMPONENTS.items():
        yield judge_component(name, lost, told.get(name) or {}, subject.now)


def judge_component(name: str, lost: str, told: Mapping[str, Any], now: datetime) -> Answer:
    """Judge a part by what Airflow says of it."""
    thing, status = name.replace("_", "-"), told.get("status")
    if status == "healthy":
        return Answer("ok", "healthy", thing)
    heard = instant(told.get(f"latest_{name}_heartbeat"))
    ago = f"last heard of {shown((now - heard).total_seconds())} ago" if heard else "never heard of"
    return Answer(
        "critical", f"{status or 'not running'}, {ago}: {lost}", thing, "healthy",
        reason="component-down",
    )  # fmt: skip


@health_check(
    "airflow-dags",
    "airflow",
    passing="each DAG of the cluster is there, and none is paused",
    hint="`airflow dags unpause DAG`; one that is missing has an import error",
    example="agents.restore_drill: paused, so nothing of it runs",
    after=("airflow",),
)
@of_airflow
def dags(subject: HealthSubject, api: AirflowApi) -> Iterator[Answer]:
    """Ask for each DAG."""
    cluster = subject.access.cluster
    for job in JOBS:
        dag_id = f"{cluster.name}.{job}"
        found = api.get("dags", dag_id)
        if job == "logical_dump" and not cluster.retention.dumps_monthly:
            yield not_asked("no dumps are promised", "no-dumps", thing=dag_id)
        elif found is None:
            yield Answer("critical", "Airflow has no such DAG", dag_id, reason="dag-missing")
        elif found.get("is_paused"):
            yield Answer(
                "warning", "paused, so nothing of it runs", dag_id, "not paused",
                hint=f"`airflow dags unpause {dag_id}`", reason="dag-paused",
            )  # fmt: skip
        elif found.get("is_stale"):
            yield Answer("critical", "no DAG file has it any more", dag_id, reason="dag-missing")
        else:
            yield Answer("ok", "not paused", dag_id)


@health_check(
    "airflow-import-errors",
    "airflow",
    passing="Airflow reads the DAG files of pgdrill without an error",
    hint="`airflow dags list-import-errors` shows it whole; `pgdrill config check` what to correct",
    example="configuration.py: pgdrill.LeftOut: Cluster billing has no DAGs: …",
    after=("airflow",),
)
@of_airflow
def import_errors(subject: HealthSubject, api: AirflowApi) -> Iterator[Answer]:
    """Ask for import errors, and tell of those that are of pgdrill."""
    found = api.get("importErrors", limit=100) or {}
    ours = [one for one in found["import_errors"] if "pgdrill" in one["stack_trace"]]
    for one in ours:
        first = next(iter(one["stack_trace"].strip().splitlines()), "")
        yield Answer(
            "critical", first[:400], one["filename"].rpartition("/")[2], "no import error",
            reason="import-error",
        )  # fmt: skip
    if not ours:
        yield Answer("ok", "none")


@health_check(
    "airflow-queued",
    "airflow",
    passing=f"no task waits for a slot for more than {shown(QUEUED_SECONDS)}",
    hint=(
        "see that a worker of the task's queue runs and has a free slot, and the pool"
        " default_pool, too"
    ),
    example="agents.base_backup backup: queued for 25 min on queue db1",
    after=("airflow",),
)
@of_airflow
def queued(subject: HealthSubject, api: AirflowApi) -> Iterator[Answer]:
    """Ask for task instances that wait."""
    dag_ids = [f"{subject.name}.{job}" for job in JOBS]
    late = [
        (waited, one)
        for one in api.waiting_tasks(dag_ids)
        if (waited := _waited(one, subject.now)) > QUEUED_SECONDS
    ]
    for waited, one in late:
        where = f" on queue {one['queue']}" if one.get("queue") else ""
        yield Answer(
            "critical", f"{one['state']} for {shown(waited)}{where}",
            f"{one['dag_id']} {one['task_id']}", f"at most {shown(QUEUED_SECONDS)}",
            waited, QUEUED_SECONDS, "seconds", reason="task-queued",
        )  # fmt: skip
    if not late:
        yield Answer("ok", "none waits for long", promised=QUEUED_SECONDS, unit="seconds")


def _waited(one: Mapping[str, Any], now: datetime) -> float:
    since = instant(one.get("queued_when")) or instant(one.get("scheduled_when"))
    return (now - since).total_seconds() if since else 0.0


def instant(text: str | None) -> datetime | None:
    """Return an instant of Airflow's, if it has one."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
