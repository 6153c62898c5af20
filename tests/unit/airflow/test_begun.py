"""What a job began with: what is kept, for how long, and who is believed."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import AirflowFailException

from pgdrill.airflow import begun
from pgdrill.airflow.operators import (
    BaseBackupOperator,
    BeginDrillOperator,
    DestroyClusterOperator,
    PruneOperator,
)
from pgdrill.airflow.operators.base import refuse_unknown
from pgdrill.config import Cluster, load

JOB = "agents.restore_drill manual__2026-11-29T11:00:00+00:00"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))


@pytest.fixture
def agents(write_config: Any) -> Cluster:
    """The cluster as configured."""
    return load().cluster("agents")


def test_a_job_goes_on_with_what_it_began_with_though_the_file_is_gone(
    agents: Cluster, write_config: Any
) -> None:
    begun.keep(JOB, agents)
    write_config("agents").unlink()
    assert begun.kept(JOB) == agents
    assert begun.kept("agents.restore_drill another") is None


def test_what_the_file_left_to_a_connection_is_left_to_it_later_too(agents: Cluster) -> None:
    begun.keep(JOB, agents)
    again = begun.kept(JOB)
    assert again is not None
    assert "region" not in agents.repository.model_fields_set
    assert "region" not in again.repository.model_fields_set


def test_it_is_closed_to_others_and_holds_no_secret(
    agents: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "canary-of-postgres")
    begun.keep(JOB, agents)
    (file,) = begun.folder().iterdir()
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(begun.folder().stat().st_mode)) == (
        0o600,
        0o700,
    )
    assert "canary" not in file.read_text()


def test_a_job_is_at_work_until_what_it_made_is_destroyed_and_an_hour_more(
    agents: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(datetime):
        passed = timedelta()

        @classmethod
        def now(cls, zone: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(zone) + cls.passed

    monkeypatch.setattr(begun, "datetime", Later)
    begun.keep(JOB, agents)
    Later.passed = timedelta(seconds=agents.drill.timeout_seconds)
    assert list(begun.at_work()) == ["agents"]
    begun.over(JOB)
    assert list(begun.at_work()) == ["agents"]
    Later.passed += timedelta(hours=1, minutes=1)
    assert begun.at_work() == {}
    assert begun.kept(JOB) == agents, (
        "a destroy that is cleared later still means the folders of that time"
    )
    Later.passed += timedelta(days=31)
    begun.keep("another", agents)
    assert begun.kept(JOB) is None


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"cluster": "agents"}', "\udcff"],
    ids=["empty", "a list", "half", "a part", "no text"],
)
def test_what_cannot_be_read_counts_for_nothing(agents: Cluster, content: str) -> None:
    begun.keep(JOB, agents)
    (file,) = begun.folder().iterdir()
    file.write_bytes(content.encode(errors="surrogateescape"))
    assert begun.kept(JOB) is None
    assert begun.at_work() == {}


def test_a_folder_that_others_can_write_to_is_believed_nothing(
    agents: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    begun.keep(JOB, agents)
    begun.folder().chmod(0o777)
    assert begun.kept(JOB) is None
    assert begun.at_work() == {}
    begun.keep(JOB, agents)
    assert "a change of dr.toml will reach this job" in caplog.text


def test_where_nothing_can_be_kept_the_job_goes_on_and_says_so(
    agents: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    begun.folder().parent.parent.write_text("a file")
    begun.keep(JOB, agents)
    assert "a change of dr.toml will reach this job" in caplog.text


def context(**conf: Any) -> Any:
    return {
        "run_id": "manual__1",
        "dag_run": SimpleNamespace(run_type="manual", conf=conf),
        "params": {},
    }


@pytest.mark.parametrize("kind", [BaseBackupOperator, BeginDrillOperator, PruneOperator])
def test_a_parameter_that_no_form_has_is_refused_in_words(write_config: Any, kind: Any) -> None:
    with DAG("agents.job", schedule=None, tags={"pgdrill"}, params={"target": Param("latest")}):
        task = kind(task_id="begin", cluster="agents")
    with pytest.raises(
        AirflowFailException,
        match=r"'tagret' \(did you mean target\?\); expected only target\nHint: trigger it again",
    ):
        task.execute(context(tagret="random"))


def test_in_a_dag_of_somebody_elses_other_parameters_are_his(write_config: Any) -> None:
    with DAG("theirs", schedule=None, params={}):
        task = BeginDrillOperator(task_id="begin", cluster="agents")
    refuse_unknown(task, context(theirs=1))


def test_destroy_needs_neither_the_file_nor_a_connection(
    write_config: Any, agents: Cluster
) -> None:
    with DAG("agents.restore_drill", schedule=None, tags={"pgdrill"}):
        begin = BeginDrillOperator(task_id="begin", cluster="agents")
        destroy = DestroyClusterOperator(task_id="destroy", cluster="agents", drill_id="d1")
    begun.keep(begin.job(context()), agents)
    write_config("agents").write_text("no TOML [")
    left = agents.state_directory / "drills" / "d1"
    left.mkdir(parents=True)
    result = destroy.execute(context())
    assert not left.exists()
    assert result["directory"] == str(left)
    (kept,) = begun.at_work().values()
    assert kept == agents, "for the verdict, whose task may come later"
    (file,) = begun.folder().iterdir()
    assert datetime.fromisoformat(json.loads(file.read_text())["until"]) <= datetime.now(
        UTC
    ) + timedelta(hours=1)
