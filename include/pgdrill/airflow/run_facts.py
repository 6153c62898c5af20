"""A run of a DAG as Airflow's callbacks know it, for those who judge it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pgdrill.errors import PgdrillError
from pgdrill.text import one_line

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.access import Access
    from pgdrill.health.runs import Run
    from pgdrill.reports.model import Report

logger = logging.getLogger(__name__)
HINT = "Hint: "
SILENT = "the task ended without a word, as one that was killed does"
SEE_LOG = "read the task's log; if it just ends, see whether the host ran out of memory"


def job_of(context: Context) -> tuple[str, str, str]:
    """Return cluster, job and run id of a callback's run."""
    dag = context.get("dag")
    dag_id = dag.dag_id if dag is not None else context["dag_run"].dag_id
    cluster, _, job = dag_id.partition(".")
    return cluster, job, str(context["run_id"])


def ended_run(context: Context, state: str) -> Run:
    """Return a run that has failed or passed, from a callback's context."""
    from pgdrill.health.runs import Run

    cluster, job, run_id = job_of(context)
    dag_run, task = context.get("dag_run"), context.get("ti")
    now = datetime.now(UTC)
    queued = getattr(dag_run, "run_after", None) or getattr(dag_run, "start_date", None) or now
    started = getattr(dag_run, "start_date", None)
    said, hint = _words(context.get("exception"))
    name = getattr(task, "task_id", "") if state == "failed" else ""
    return Run(
        dag_id=f"{cluster}.{job}",
        run_id=run_id,
        state=state,
        queued_at=max(queued, started) if started else queued,
        started_at=started,
        ended_at=getattr(dag_run, "end_date", None) or now,
        tasks={name: "failed"} if name else {},
        said=said or (SILENT if name else ""),
        hint=hint or (SEE_LOG if state == "failed" else ""),
    )


def late_run(dag_run: Mapping[str, Any]) -> Run:
    """Return a run as it stands now, from what a deadline's callback was given of it.

    Only in the triggerer, which asks Airflow for its state and its tasks'.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    from pgdrill.health.runs import Run

    dag_id, run_id = dag_run["dag_id"], dag_run["dag_run_id"]
    states = RuntimeTaskInstance.get_task_states(dag_id=dag_id, run_ids=[run_id])
    tasks = {task: str(state or "") for task, state in states.get(run_id, {}).items()}
    started = _instant(dag_run.get("start_date"))
    begun = any(state not in ("", "scheduled", "queued") for state in tasks.values())
    return Run(
        dag_id=dag_id,
        run_id=run_id,
        state=state_of(dag_id, run_id),
        queued_at=_instant(dag_run.get("queued_at")) or datetime.now(UTC),
        # a run whose tasks all wait for a slot has not started in any sense that helps
        started_at=started if begun else None,
        ended_at=_instant(dag_run.get("end_date")),
        tasks=tasks,
        hint=SEE_LOG,
    )


def state_of(dag_id: str, run_id: str) -> str:
    """Return the state of a run, now; in the triggerer."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    found = RuntimeTaskInstance.get_dagrun_state(dag_id, run_id)
    return str(getattr(found, "value", found))


def report_of(access: Access, run_id: str) -> Report | None:
    """Return the report of the newest drill of a run; None where there is none to be read."""
    from pgdrill.airflow.attempts import newest_attempt
    from pgdrill.airflow.drill_id import drill_id_of
    from pgdrill.reports.store import load_report

    try:
        drill_id = newest_attempt(access, drill_id_of(run_id))
        return load_report(access, drill_id) if drill_id else None
    except PgdrillError as error:
        logger.warning("the drill's report is not told of: %s", error)
        return None


def with_report(run: Run, report: Report | None) -> Run:
    """Return a run with what its drill's report says: how far it came, and why it is red."""
    from dataclasses import replace

    from pgdrill.airflow.xcom.explanation import explanation
    from pgdrill.reports.terminal import seconds

    if report is None:
        return run
    timings = report.timings
    figures = (
        ("running after", timings.time_to_running_seconds),
        ("correct vector search after", timings.time_to_correct_vector_search_seconds),
    )
    measured = tuple(f"{words} {seconds(value)}" for words, value in figures if value is not None)
    if run.state != "failed" or report.verdict == "passed" or report.ended_at is None:
        return replace(run, measured=measured)
    said, hint = _words("\n".join(explanation(report)))
    return replace(run, measured=measured, said=said, hint=hint or run.hint)


def url_of(dag_id: str, run_id: str = "") -> str:
    """Return the address of a DAG's page in Airflow, or of a run's; empty where Airflow does not
    know its own.
    """
    from airflow.sdk.configuration import conf

    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    page = f"{base}/dags/{quote(dag_id)}"
    if not base:
        return ""
    return f"{page}/runs/{quote(run_id, safe='')}" if run_id else page


def _words(error: object) -> tuple[str, str]:
    """Return what an exception says, and its hint."""
    lines = str(error or "").splitlines()
    said = " ".join(line for line in lines if line and not line.startswith((HINT, "Report: ")))
    hint = next((line.removeprefix(HINT) for line in lines if line.startswith(HINT)), "")
    if error and not said:
        said = type(error).__name__
    return one_line(said), one_line(hint)


def _instant(text: object) -> datetime | None:
    if isinstance(text, datetime):
        return text
    return datetime.fromisoformat(str(text).replace("Z", "+00:00")) if text else None
