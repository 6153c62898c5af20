"""A real Airflow tells of its runs: late, failed, killed, passed, and of a DAG that is paused."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgdrill_demo.airflow import Airflow
from pgdrill_demo.stack import Stack, tear_down
from tests.e2e.airflow_site import BACKUP, DUMP, HEALTH, RETENTION, Site, wait_until
from tests.integration.alerts.servers import Listening, listening

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

SECONDS = 4  # of a run's deadline
PATIENCE_SECONDS = 120
CONFIG = """
[clusters.agents.airflow]
conn_id = "pgdrill_api"

[[alerts.channels]]
name = "hook"
type = "webhook"
url = "{url}"
conn_id = "pgdrill_hook"
"""
HOOK_KEY = "the-key-of-the-hook"


@pytest.fixture(scope="module")
def hook() -> Iterator[Listening]:
    with listening() as found:
        yield found


@pytest.fixture(scope="module")
def site(hook: Listening) -> Iterator[Site]:
    """A stack whose backups and prunes are late after seconds, and an Airflow that may tell."""
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    stack = Stack(home)
    try:
        stack.s3.start()
        stack.write_config()
        text = stack.config_file.read_text()
        for section in ("backup", "retention"):
            table = f"[clusters.agents.{section}]"
            late = f"{table}\ndeadline_seconds = {SECONDS}"
            text = text.replace(table, late) if table in text else f"{text}\n{late}\n"
        stack.config_file.write_text(text + CONFIG.format(url=hook.url))
        secret = {"conn_type": "generic", "password": HOOK_KEY}
        environment = {**stack.environment, "AIRFLOW_CONN_PGDRILL_HOOK": json.dumps(secret)}
        airflow = Airflow(home / "airflow", environment)
        airflow.launch()
        stack.create(scale=0.05)
        stack.start()
        airflow.wait_healthy()
        add_api(airflow)
        yield Site(stack, airflow)
    finally:
        tear_down(home)


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


def deadlines_handled(site: Site, dag_id: str, number: int) -> None:
    """Wait until so many missed deadlines of a DAG's runs were handed to the callback, and well."""

    def states() -> list[str]:
        with sqlite3.connect(f"file:{site.airflow.home}/airflow.db?mode=ro", uri=True) as base:
            found = base.execute("SELECT state, data FROM callback WHERE type = 'triggerer'")
            return [state for state, data in found if f'"{dag_id}"' in str(data)]

    wait_until(lambda: states().count("success") >= number, PATIENCE_SECONDS, states)


def test_a_run_that_never_starts_is_told_once_and_over_when_it_has_passed(
    site: Site, hook: Listening
) -> None:
    site.airflow.wait_for_dag(RETENTION)
    site.run(BACKUP)  # the plan has something to plan
    body = {"logical_date": None}
    run_id = site.airflow.call("POST", f"/dags/{RETENTION}/dagRuns", json=body)["dag_run_id"]
    (start,) = until_told(hook, "retention-run", "start critical")
    deadlines_handled(site, RETENTION, 2)
    assert kinds(hook, "retention-run") == ["start critical"], (
        "not once more for the other deadline"
    )
    assert "and never started" in start["text"]
    assert "promised: over within 4 s of being queued" in start["text"]
    assert f"{site.airflow.url}/dags/{RETENTION}/runs/" in start["text"]
    site.airflow.call("PATCH", f"/dags/{RETENTION}", json={"is_paused": False})
    assert site.ended(RETENTION, run_id) == "success"
    until_told(hook, "retention-run", "start critical", "end critical")


def test_a_failed_task_is_told_once_by_task_run_and_both_deadlines_together(
    site: Site, hook: Listening
) -> None:
    before = kinds(hook, "base-backup-run")
    run_id = site.airflow.trigger(BACKUP, {"tagret": "x"})
    assert site.ended(BACKUP, run_id) == "failed"
    wait_until(
        lambda: len(kinds(hook, "base-backup-run")) > len(before),
        PATIENCE_SECONDS,
        lambda: kinds(hook, "base-backup-run"),
    )
    deadlines_handled(site, BACKUP, 2)
    found = told(hook, "base-backup-run")[len(before) :]
    assert [one["kind"] for one in found] == ["start"]
    assert "failed in backup" in found[0]["text"]
    assert "'tagret'" in found[0]["text"]
    assert "first step: trigger it again without them" in found[0]["text"]
    assert site.run(BACKUP) == "success"
    wait_until(
        lambda: kinds(hook, "base-backup-run")[-1].startswith("end"),
        PATIENCE_SECONDS,
        lambda: kinds(hook, "base-backup-run"),
    )
    assert len(told(hook, "base-backup-run")) == len(before) + 2


def test_a_task_that_is_killed_tells_nobody_so_its_run_does_and_the_next_that_passes_ends_it(
    site: Site, hook: Listening
) -> None:
    server = site.stack.primary.process()
    assert server is not None
    server.suspend()  # so that the look is held in the middle
    try:
        run_id = site.airflow.trigger(HEALTH)
        path = f"/dags/{HEALTH}/dagRuns/{run_id}/taskInstances/look"
        wait_until(
            lambda: (
                bool(site.airflow.call("GET", path)["pid"])
                and site.airflow.call("GET", path)["state"] == "running"
            ),
            PATIENCE_SECONDS,
            lambda: site.airflow.call("GET", path)["state"],
        )
        os.kill(site.airflow.call("GET", path)["pid"], signal.SIGKILL)
        assert site.airflow.wait_for_run(HEALTH, run_id, lambda *_: None, 120) == "failed"
    finally:
        server.resume()
    (start,) = until_told(hook, "backup-health-run", "start critical")
    assert "failed in look" in start["text"]
    assert "without a word" in start["text"]
    assert site.run(HEALTH) == "success"
    until_told(hook, "backup-health-run", "start critical", "end critical")


def test_a_paused_dag_is_seen_by_a_look_at_health(site: Site, hook: Listening) -> None:
    run_id = site.airflow.trigger(HEALTH)
    assert site.ended(HEALTH, run_id) == "success", "what it finds makes no red run"
    found = site.airflow.xcom(HEALTH, run_id, "look")
    assert found["nobody"] == ""
    assert found["answers"]["ok"] > 5
    paused = [one for one in found["worst"] if one["check"] == "airflow-dags"]
    assert DUMP in {one["thing"] for one in paused}, found["worst"]
    assert {one["status"] for one in paused} == {"warning"}
    assert kinds(hook, "airflow-dags") == ["start warning"]
    assert not [one for one in found["worst"] if one["check"] == "airflow-components"]
    assert HOOK_KEY not in json.dumps([one.json for one in hook.requests])
