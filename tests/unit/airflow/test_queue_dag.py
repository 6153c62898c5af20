"""The DAG of a queue: tasks, limits, parameters, and what its Connection brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from pgdrill.airflow.hooks import QueueHook
from pgdrill.errors import ConfigError

DAGS = Path(__file__).parents[3] / "dags"
QUEUES = """
[queues.jobs]
cluster = "agents"
conn_id = "jobs_redis"
[queues.broken]
cluster = "agents"
schedule = "never"
[queues.lost]
cluster = "nobody"
"""


@pytest.fixture
def dag(write_config: Any) -> DAG:
    file: Path = write_config()
    file.write_text(file.read_text() + QUEUES)
    read = DagBag(str(DAGS / "queue_snapshot.py"))
    assert not read.import_errors
    assert set(read.dags) == {"jobs.queue_snapshot"}, "what is wrong with one is no other's"
    return read.dags["jobs.queue_snapshot"]


def test_it_copies_proves_and_only_then_prunes_every_hour(dag: DAG) -> None:
    assert [task.task_id for task in dag.topological_sort()] == ["snapshot", "verify", "prune"]
    assert dag.task_dict["prune"].upstream_task_ids == {"verify"}
    timetable = DagSerialization.to_dict(dag)["dag"]["timetable"]["__var"]
    assert (timetable["expression"], timetable["timezone"]) == ("7 * * * *", "UTC")
    assert (dag.catchup, dag.max_active_runs, dag.start_date) == (False, 1, None)
    assert {"pgdrill", "agents", "queue"} <= set(dag.tags)
    assert "red" in (dag.doc_md or "")
    for task in dag.tasks:
        assert task.execution_timeout
        assert task.doc_md
        assert task.retries == 2


def test_its_form_takes_a_snapshots_id_and_nothing_else(dag: DAG) -> None:
    for right in ("", "20261130T120000Z-0123ab"):
        dag.params["snapshot"] = right
        dag.params.validate()
    for wrong in ("LATEST", "20261130T120000Z-0123ab\n", "../x", 7):
        with pytest.raises(ParamValidationError):
            dag.params["snapshot"] = wrong


def test_what_is_wrong_with_a_queue_is_told_with_its_key(dag: DAG) -> None:
    read = DagBag(str(DAGS / "configuration.py"))
    (told,) = read.import_errors.values()
    assert "[queues.broken] schedule" in told
    assert "[queues.lost.cluster] 'nobody' is no cluster of this file" in told


def test_its_connection_brings_address_and_login_and_they_are_never_shown(
    dag: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"conn_type": "redis", "host": "r1", "port": 6380, "login": "u", "password": "hidden"}
    s3 = {"conn_type": "aws", "login": "key", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_AGENTS_S3", json.dumps(s3))
    monkeypatch.setenv("AIRFLOW_CONN_AGENTS_POSTGRES", json.dumps({"conn_type": "postgres"}))
    monkeypatch.setenv("AIRFLOW_CONN_JOBS_REDIS", json.dumps({**words, "extra": {"ssl": True}}))
    access = QueueHook("jobs").get_conn()
    assert (str(access.address), access.username, access.password) == ("r1:6380", "u", "hidden")
    assert access.tls
    assert "hidden" not in repr(access)
    monkeypatch.setenv("AIRFLOW_CONN_JOBS_REDIS", json.dumps({**words, "conn_type": "http"}))
    with pytest.raises(ConfigError, match="type 'http'"):
        QueueHook("jobs").get_conn()
