"""The deadlines of each DAG, as Airflow keeps them, and callbacks that never fail a run."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from pgdrill.airflow import callbacks
from pgdrill.airflow.run_facts import ended_run, url_of

DAGS = Path(__file__).parents[3] / "dags"
JOBS = ("backup_health", "base_backup", "logical_dump", "restore_drill", "retention")
Write = Callable[..., Path]


@pytest.fixture
def dags(write_config: Write) -> dict[str, DAG]:
    read = DagBag(str(DAGS))
    assert not read.import_errors
    return dict(read.dags)


@pytest.mark.parametrize("job", JOBS)
def test_each_dag_has_a_warning_at_three_quarters_of_its_time_and_a_critical_one_in_full(
    dags: dict[str, DAG], job: str
) -> None:
    kept = DagSerialization.to_dict(dags[f"agents.{job}"])["dag"]["deadline"]
    assert len(kept) == 2
    both = dags[f"agents.{job}"].deadline
    assert both is not None
    promised = both[1].interval
    assert both[0].interval == 0.75 * promised
    assert promised > timedelta(0)
    for one, severity in zip(both, ("warning", "critical"), strict=True):
        assert one.reference.reference_name == "DagRunQueuedAtDeadline"
        kwargs = one.callback.kwargs
        assert json.loads(json.dumps(kwargs)) == kwargs, "plain JSON, or the scheduler breaks on it"
        assert kwargs == {
            "cluster": "agents",
            "job": job,
            "severity": severity,
            "promised_seconds": promised.total_seconds(),
        }
        module, _, name = one.callback.path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        assert asyncio.iscoroutinefunction(found), "the triggerer awaits it"


@pytest.mark.parametrize("job", JOBS)
def test_a_failure_is_told_by_the_task_and_by_the_run_for_a_killed_task_tells_nobody(
    dags: dict[str, DAG], job: str
) -> None:
    dag = dags[f"agents.{job}"]
    assert dag.on_failure_callback is callbacks.run_failed
    for task in dag.tasks:
        assert task.on_failure_callback == [callbacks.task_failed]
    passed = dag.on_success_callback
    assert passed is (None if job == "backup_health" else callbacks.run_passed)


def test_looks_do_not_pile_up(dags: dict[str, DAG]) -> None:
    dag = dags["agents.backup_health"]
    (task,) = dag.tasks
    assert (dag.catchup, dag.max_active_runs, task.retries) == (False, 1, 0)
    assert task.execution_timeout is not None
    assert task.execution_timeout < timedelta(minutes=5)


def context(**more: Any) -> Any:
    start = datetime(2026, 11, 30, 12, tzinfo=UTC)
    run = SimpleNamespace(
        run_after=start, start_date=start, end_date=start + timedelta(minutes=5), state="failed"
    )
    given = {
        "dag": SimpleNamespace(dag_id="agents.base_backup"),
        "dag_run": run,
        "run_id": "manual__2026-11-30T12:00:00+00:00",
        "ti": SimpleNamespace(task_id="backup"),
    }
    return {**given, **more}


def test_a_failed_task_is_told_in_its_own_words_with_its_hint() -> None:
    error = RuntimeError("s3://b: found 403; expected a list\nHint: mend the keys\nReport: s3://r")
    run = ended_run(context(exception=error), "failed")
    assert (run.said, run.hint) == ("s3://b: found 403; expected a list", "mend the keys")
    assert run.tasks == {"backup": "failed"}


def test_a_run_that_failed_without_a_word_says_so() -> None:
    run = ended_run(context(), "failed")
    assert "killed" in run.said
    assert "memory" in run.hint
    bare = ended_run({"dag": context()["dag"], "run_id": "r", "reason": "x"}, "failed")  # type: ignore[typeddict-item]
    assert bare.run_id == "r"


def test_the_link_is_the_run_s_page_and_nothing_of_a_run_id_leaves_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/")
    assert url_of("agents.retention", "manual__2026-11-30T12:00:00+00:00/../x") == (
        "https://airflow.example.org/dags/agents.retention/runs/"
        "manual__2026-11-30T12%3A00%3A00%2B00%3A00%2F..%2Fx"
    )


@pytest.mark.parametrize("broken", ["no file", "no TOML", "no cluster"])
def test_a_callback_that_cannot_tell_fails_nothing_and_says_so_in_the_log(
    write_config: Write, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_config("billing" if broken == "no cluster" else "agents")
    if broken == "no file":
        file.unlink()
    elif broken == "no TOML":
        file.write_text("[clusters")
    with caplog.at_level(logging.ERROR):
        callbacks.task_failed(context())
        callbacks.run_failed(context())
        callbacks.run_passed(context())
        asyncio.run(
            callbacks.deadline_missed(
                cluster="agents",
                job="base_backup",
                severity="warning",
                promised_seconds=1,
                context={"dag_run": {}},
            )
        )
    assert caplog.text.count("nobody could be told") == 4


def test_where_no_channel_is_configured_nothing_is_done(
    write_config: Write, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        callbacks.run_failed(context())
    assert "nobody is told: dr.toml has no [[alerts.channels]] for cluster agents" in caplog.text
