"""A real Airflow tells of its runs: late, failed, killed, passed, and of a DAG that is paused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgdrill_demo.airflow import Airflow
from tests.e2e.airflow_site import BACKUP, DUMP, HEALTH, RETENTION, wait_until
from tests.integration.alerts.servers import Listening, listening

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

SECONDS = 4  # of a run's deadline
PATIENCE_SECONDS = 300
HOOK_KEY = "the-key-of-the-hook"
CONFIG = """
[clusters.agents.server]
dsn = "host={home} dbname=agents"
data_directory = "{home}/pgdata"
[clusters.agents.repository]
url = "file://{home}/store"
[clusters.agents.drill]
work_directory = "{home}/work"
[clusters.agents.backup]
deadline_seconds = {seconds}
[clusters.agents.retention]
deadline_seconds = {seconds}
[clusters.agents.airflow]
conn_id = "pgdrill_api"
[[alerts.channels]]
name = "hook"
type = "webhook"
url = "{url}"
conn_id = "pgdrill_hook"
"""


@pytest.fixture(scope="module")
def hook() -> Iterator[Listening]:
    with listening() as found:
        yield found


@pytest.fixture(scope="module")
def airflow(hook: Listening) -> Iterator[Airflow]:
    """An Airflow whose cluster has a store and no server: enough for runs that are late, fail, and
    look. Backups and prunes are late after seconds.
    """
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    (home / "store").mkdir()
    config = home / "dr.toml"
    config.write_text(CONFIG.format(home=home, url=hook.url, seconds=SECONDS))
    secret = {"conn_type": "generic", "password": HOOK_KEY}
    made = Airflow(
        home / "airflow",
        {
            "PGDRILL_CONFIG": str(config),
            "AIRFLOW_CONN_PGDRILL_HOOK": json.dumps(secret),
            "AIRFLOW__CORE__PARALLELISM": "2",
        },
    )
    try:
        made.launch()
        made.wait_healthy(3 * PATIENCE_SECONDS)
        add_api(made)
        yield made
    finally:
        made.stop()
        shutil.rmtree(home)


def add_api(airflow: Airflow) -> None:
    """The Connection by which its own health is asked."""
    user, password = airflow.login
    body = {
        "connection_id": "pgdrill_api",
        "conn_type": "http",
        "host": "127.0.0.1",
        "port": airflow.ports[0],
        "login": user,
        "password": password,
    }
    airflow.call("POST", "/connections", json=body)


def told(hook: Listening, check: str) -> list[Any]:
    """What came of one check, in its order."""
    return [one.json for one in hook.requests if one.json["key"] == f"pgdrill/agents/{check}"]


def kinds(hook: Listening, check: str) -> list[str]:
    return [f"{one['kind']} {one['severity']}" for one in told(hook, check)]


def until_told(hook: Listening, check: str, *wanted: str) -> list[Any]:
    """Wait until that was told, and see that nothing else was."""
    wait_until(
        lambda: len(told(hook, check)) >= len(wanted), PATIENCE_SECONDS, lambda: kinds(hook, check)
    )
    assert kinds(hook, check) == list(wanted)
    return told(hook, check)


def deadlines_handled(airflow: Airflow, dag_id: str, number: int) -> None:
    """Wait until so many missed deadlines of a DAG's runs were handed to the callback, and well."""

    def states() -> list[str]:
        with sqlite3.connect(f"file:{airflow.home}/airflow.db?mode=ro", uri=True) as base:
            found = base.execute("SELECT state, data FROM callback WHERE type = 'triggerer'")
            return [state for state, data in found if f'"{dag_id}"' in str(data)]

    wait_until(lambda: states().count("success") >= number, PATIENCE_SECONDS, states)


def ended(airflow: Airflow, dag_id: str, run_id: str) -> str:
    return airflow.wait_for_run(dag_id, run_id, lambda *_: None, PATIENCE_SECONDS)


def test_a_run_that_never_starts_is_told_once_although_it_has_two_deadlines(
    airflow: Airflow, hook: Listening
) -> None:
    airflow.wait_for_dag(RETENTION, PATIENCE_SECONDS)
    body = {"logical_date": None}  # the DAG is paused
    airflow.call("POST", f"/dags/{RETENTION}/dagRuns", json=body)
    deadlines_handled(airflow, RETENTION, 2)
    (start,) = until_told(hook, "retention-run", "start critical")
    assert "and never started (promised: over within 4 s of being queued)" in start["text"]
    assert f"{airflow.url}/dags/{RETENTION}/runs/manual__" in start["text"]


def test_a_failed_task_is_told_once_by_task_run_and_both_deadlines_together(
    airflow: Airflow, hook: Listening
) -> None:
    run_id = airflow.trigger(BACKUP, {"tagret": "x"})
    assert ended(airflow, BACKUP, run_id) == "failed"
    deadlines_handled(airflow, BACKUP, 2)
    found = told(hook, "base-backup-run")
    # a machine that is busy starts the task after its deadline, and that is news before
    kinds_of = [one["kind"] for one in found]
    assert kinds_of == ["start"]
    if "never started" not in found[0]["text"] and "late: " not in found[0]["text"]:
        assert "failed in backup" in found[0]["text"]
        assert "'tagret'" in found[0]["text"]
        assert "first step: trigger it again without them" in found[0]["text"]


def test_a_task_that_is_killed_tells_nobody_so_its_run_does_and_the_next_that_passes_ends_it(
    airflow: Airflow, hook: Listening
) -> None:
    run_id = airflow.trigger(HEALTH)
    path = f"/dags/{HEALTH}/dagRuns/{run_id}/taskInstances/look"

    def process() -> int:
        told_of = airflow.call("GET", path)
        return int(told_of["pid"] or 0) if told_of["state"] == "running" else 0

    wait_until(lambda: bool(process()), PATIENCE_SECONDS, lambda: airflow.call("GET", path))
    os.kill(process(), signal.SIGKILL)
    assert ended(airflow, HEALTH, run_id) == "failed"
    (start,) = until_told(hook, "backup-health-run", "start critical")
    assert "failed in look" in start["text"]
    assert "without a word" in start["text"]
    assert ended(airflow, HEALTH, airflow.trigger(HEALTH)) == "success"
    until_told(hook, "backup-health-run", "start critical", "end critical")


def test_a_paused_dag_is_seen_by_a_look_at_health(airflow: Airflow, hook: Listening) -> None:
    run_id = airflow.trigger(HEALTH)
    assert ended(airflow, HEALTH, run_id) == "success", "what it finds makes no red run"
    found = airflow.xcom(HEALTH, run_id, "look")
    assert found["nobody"] == ""
    paused = [one for one in found["worst"] if one["check"] == "airflow-dags"]
    assert DUMP in {one["thing"] for one in paused}, found["worst"]
    assert {one["status"] for one in paused} == {"warning"}
    assert kinds(hook, "airflow-dags") == ["start warning"]
    assert not [one for one in found["worst"] if one["check"] == "airflow-components"]
    assert HOOK_KEY not in json.dumps([one.json for one in hook.requests])
