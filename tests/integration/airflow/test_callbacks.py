"""Airflow's callbacks and what arrives: one message when it starts, one when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgdrill.airflow import callbacks, run_facts
from pgdrill.config import load
from pgdrill.reports.model import CheckResult
from tests.integration.alerts.servers import Listening, listening
from tests.reports import passed_report

RUN = "manual__2026-11-30T12:00:00+00:00"
CONFIG = """
[clusters.agents.server]
data_directory = "/pgdata"
{connection}
[clusters.agents.repository]
url = "file://{home}/store"
[clusters.agents.drill]
work_directory = "{home}/work"
[[alerts.channels]]
name = "hook"
type = "webhook"
url = "{url}"
conn_id = "the_hook"
"""


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    monkeypatch.setenv("PGDRILL_CONFIG", str(tmp_path / "dr.toml"))
    monkeypatch.setenv("AIRFLOW_CONN_THE_HOOK", '{"conn_type": "generic", "password": "hook-key"}')
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org")
    with listening() as found:
        write(tmp_path, found)
        yield found


def write(home: Path, hook: Listening, connection: str = "") -> None:
    (home / "dr.toml").write_text(CONFIG.format(home=home, url=hook.url, connection=connection))


def context(job: str = "base_backup", error: str = "", **more: Any) -> Any:
    begun = datetime.now(UTC) - timedelta(minutes=3)
    run = SimpleNamespace(run_after=begun, start_date=begun, end_date=None)
    given = {
        "dag": SimpleNamespace(dag_id=f"agents.{job}"),
        "dag_run": run,
        "run_id": RUN,
        "ti": SimpleNamespace(task_id="backup"),
        **({"exception": RuntimeError(error)} if error else {}),
    }
    return {**given, **more}


def told(hook: Listening) -> list[str]:
    return [
        f"{one.json['kind']} {one.json['severity']} {one.json['cause']}" for one in hook.requests
    ]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A deadline is missed; Airflow says of the run what the arguments say, one after the other."""

    def call(severity: Any, *states: str, minutes: float = 100, **tasks: str) -> None:
        left = list(states)
        queued_at = datetime.now(UTC) - timedelta(minutes=minutes)
        monkeypatch.setattr(
            "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states",
            lambda **_: {RUN: tasks},
        )
        monkeypatch.setattr(
            run_facts, "state_of", lambda *_: left.pop(0) if len(left) > 1 else left[0]
        )
        asyncio.run(
            callbacks.deadline_missed(
                cluster="agents",
                job="base_backup",
                severity=severity,
                promised_seconds=6000,
                context={
                    "dag_run": {
                        "dag_id": "agents.base_backup",
                        "dag_run_id": RUN,
                        "queued_at": queued_at.isoformat(),
                        "start_date": queued_at.isoformat(),
                    }
                },
            )
        )

    return call


def test_a_failed_run_is_told_once_whoever_tells_and_is_over_when_one_passes(
    hook: Listening, late: Callable[..., None]
) -> None:
    callbacks.task_failed(context(error="s3://b: found 403; expected a list\nHint: mend the keys"))
    callbacks.run_failed(context())
    late("warning", "failed")
    late("critical", "failed")
    assert told(hook) == ["start critical base-backup-run"]
    text = hook.requests[0].json["text"]
    assert "failed in backup after " in text
    assert "first step: mend the keys" in text
    assert "https://airflow.example.org/dags/agents.base_backup/runs/manual__" in text
    callbacks.run_passed(context())
    callbacks.run_passed(context())
    assert told(hook)[1:] == ["end critical base-backup-run"]


def test_a_late_run_is_a_warning_then_critical_then_over(
    hook: Listening, late: Callable[..., None]
) -> None:
    late("warning", "running", minutes=75, backup="running")
    late("critical", "running", minutes=100, backup="running")
    callbacks.run_passed(context())
    kinds = ["start warning", "worse critical", "end critical"]
    assert told(hook) == [f"{one} base-backup-run" for one in kinds]
    assert "at work: backup" in hook.requests[0].json["text"]


def test_a_run_that_passes_while_its_deadline_is_told_leaves_no_alert(
    hook: Listening, late: Callable[..., None]
) -> None:
    late("critical", "running", "success", backup="running")
    assert told(hook) == ["start critical base-backup-run", "end critical base-backup-run"]


def test_an_alert_is_told_though_a_connection_is_what_is_wrong(
    hook: Listening, tmp_path: Path
) -> None:
    write(tmp_path, hook, 'conn_id = "not_there"')
    callbacks.task_failed(context(error="no connection"))
    assert told(hook) == ["start critical base-backup-run"]


def test_a_drill_s_report_is_told_as_soon_as_its_run_is_over(
    hook: Listening, tmp_path: Path
) -> None:
    from pgdrill.access import Access
    from pgdrill.airflow.drill_id import drill_id_of
    from pgdrill.reports.store import save_report

    (tmp_path / "store").mkdir()
    report = passed_report(drill_id_of(RUN), measured_rpo_seconds=61)
    report.ended_at = datetime.now(UTC)
    report.timings.time_to_running_seconds = 100
    report.timings.time_to_correct_vector_search_seconds = 191
    save_report(Access(load().cluster("agents")), report)
    callbacks.run_passed(context("restore_drill"))
    assert sorted(told(hook)) == ["start critical drill-search", "start warning drill-rpo"]
    broken = CheckResult(name="vector-values", family="vectors", status="fail", thing="items.v")
    report.results.append(broken)
    report.judge()
    save_report(Access(load().cluster("agents")), report)
    hook.requests.clear()
    callbacks.run_failed(context("restore_drill"))
    assert told(hook) == ["start critical restore-drill-run"], "it hides its verdict"
    text = hook.requests[0].json["text"]
    assert "checks failed, first vector-values items.v" in text
