"""The DAGs, run to their end by ``dag.test()`` against a real server, a real tool and a real
store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import obstore
import psutil
import pytest

from pgdrill.airflow.drill_id import drill_id_of
from pgdrill.airflow.operators.restore_cluster import end_at_once
from pgdrill.drill import restore_stage
from pgdrill.errors import Busy
from pgdrill.host.process import TERM_GRACE_SECONDS
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import Report
from pgdrill.reports.store import load_report
from pgdrill_demo.stack import Stack
from tests.e2e.conftest import AirflowHome, DagRun

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

AIRFLOW_KILLS_AFTER_SECONDS = 5.0
BACKUP, DRILL = "agents.base_backup", "agents.restore_drill"


@pytest.fixture(scope="module")
def backup(airflow_home: AirflowHome) -> DagRun:
    """A run of the backup DAG."""
    return airflow_home.run(BACKUP)


@pytest.fixture(scope="module")
def drill(airflow_home: AirflowHome, backup: DagRun) -> DagRun:
    """A run of the drill DAG on that backup."""
    return airflow_home.run(DRILL)


@pytest.fixture
def damaged(stack: Stack, backup: DagRun) -> Iterator[str]:
    """The largest object of the base backup is gone from the store; it comes back afterwards.

    Through the store and not in its folder: the demo's store remembers its listing for a while.
    """
    repository, name = stack.access.objects, backup.xcom["backup"]["name"]
    parts = {
        key: size
        for key, size in repository.sizes().items()
        if name in key and not key.startswith("pgdrill/")
    }
    part = max(parts, key=lambda key: parts[key])
    content = repository.read(part)
    assert content
    obstore.delete(repository.store, part)
    yield part
    repository.write(part, content)


def report_of(stack: Stack, run: DagRun) -> Report:
    """The drill's report, as the store has it."""
    return load_report(stack.access, drill_id_of(run.run_id))


def nothing_is_left(stack: Stack, run: DagRun) -> None:
    """No folder, no socket folder, no process of the restored cluster."""
    workspace = Workspace.of(stack.access, drill_id_of(run.run_id))
    assert not workspace.directory.exists()
    assert not workspace.socket_directory.exists()
    lines = {
        " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    }
    assert not [line for line in lines if str(workspace.directory) in line]


def test_a_backup_is_green_and_tells_its_figures(stack: Stack, backup: DagRun) -> None:
    assert backup.state == "success", backup.log[-3000:]
    told = backup.xcom["backup"]
    assert told["cluster"] == "agents"
    assert told["tool"] == stack.tool
    assert told["name"]
    assert told["stored_bytes"] > 0
    assert told["mb_per_second"] > 0
    assert told["finished_at"].endswith("Z")
    assert "__classname__" not in json.dumps(told)
    assert backup.assets["agents.base_backups"]["backup"] == told["name"]


def test_a_drill_of_a_good_backup_is_green_with_figures(drill: DagRun, backup: DagRun) -> None:
    assert drill.state == "success", drill.log[-3000:]
    assert set(drill.tasks.values()) == {"success"}
    restored, checked = drill.xcom["restore"], drill.xcom["check"]
    assert restored["backup"] == backup.xcom["backup"]["name"]
    assert restored["time_to_running_seconds"] > 0
    assert checked["verdict"] == "passed"
    assert checked["recall_at_10"]
    assert 0 < checked["lowest_recall_at_10"] <= 1
    assert 0 < checked["time_to_correct_vector_search_seconds"] < checked["rto_seconds"]
    assert checked["checks_failed"] == 0
    assert "__classname__" not in json.dumps(drill.xcom)


def test_all_tasks_of_a_run_mean_the_same_drill(drill: DagRun) -> None:
    told = dict(drill.xcom)
    assert told.pop("passed") == "passed"  # the newest verdict
    assert {one["drill_id"] for one in told.values()} == {drill_id_of(drill.run_id)}


def test_nothing_of_a_green_drill_is_left(stack: Stack, drill: DagRun) -> None:
    assert drill.xcom["destroy"]["destroyed"] is True
    assert report_of(stack, drill).cleanup.status == "ok"
    nothing_is_left(stack, drill)


def test_a_drill_of_a_damaged_backup_is_red_and_says_why(
    stack: Stack, airflow_home: AirflowHome, damaged: str
) -> None:
    run = airflow_home.run(DRILL)
    assert run.state == "failed"
    assert run.tasks == {
        "begin": "success",
        "restore": "failed",
        "check": "upstream_failed",
        "passed": "failed",
        "destroy": "success",
    }
    assert run.tries["restore"] == 1, "a damaged backup was tried again"
    report = report_of(stack, run)
    assert report.verdict == "failed"
    assert report.restore.trouble is not None
    # barman-cloud's listing does not tell how a part that is gone was compressed
    assert damaged.partition(".tar")[0] in report.restore.trouble.thing
    assert report.restore.trouble.thing in run.log
    assert report.restore.trouble.hint in run.log
    nothing_is_left(stack, run)


def test_a_kept_cluster_can_be_asked_and_is_said_where_it_is(
    stack: Stack, airflow_home: AirflowHome
) -> None:
    run = airflow_home.run(DRILL, keep=True, checks=["recovery", "vectors"])
    drill_id = drill_id_of(run.run_id)
    workspace = Workspace.of(stack.access, drill_id)
    try:
        assert run.state == "success", run.log[-3000:]
        told = run.xcom["destroy"]
        assert told["destroyed"] is False
        assert told["ends_by_itself_at"]
        with workspace.server(stack.access).connect("agents") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(
            Busy, match=rf"held by {drill_id}, kept for a look, until .*clear `destroy` of its run"
        ):
            restore_stage(stack.access, "another")
    finally:
        workspace.destroy()
    nothing_is_left(stack, run)


def test_no_secret_is_in_any_log_xcom_rendered_field_database_or_report(
    stack: Stack, airflow_home: AirflowHome, backup: DagRun, drill: DagRun
) -> None:
    secrets = {*stack.passwords.values(), stack.s3.secret_key}
    assert all(len(secret) >= 16 for secret in secrets)
    for run in (backup, drill):
        assert len(run.log) > 1000
        said = f"{run.log}{run.xcom}{run.rendered}{run.assets}"
        assert not [secret for secret in secrets if secret in said]
    reports = [
        *stack.cluster.state_directory.rglob("*.json"),
        *(stack.s3.folder / stack.s3.bucket).rglob("*.json"),
    ]
    # the database is here
    kept = [file for file in airflow_home.folder.rglob("*") if file.is_file()]
    assert reports
    assert any(file.name == "airflow.db" for file in kept)
    found = [
        file
        for file in (*reports, *kept)
        for secret in secrets
        if secret.encode() in file.read_bytes()
    ]
    assert not found


def test_a_server_that_was_no_child_of_the_task_is_gone_within_the_time_a_kill_leaves(
    stack: Stack,
) -> None:
    process = stack.primary.process()
    assert process is not None
    family = [process, *process.children(recursive=True)]
    started = time.monotonic()
    try:
        end_at_once(stack.primary)
        # the rest is the tool's
        assert time.monotonic() - started < AIRFLOW_KILLS_AFTER_SECONDS - TERM_GRACE_SECONDS
        psutil.wait_procs(family, timeout=1)
        assert not [
            one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE
        ]
        end_at_once(stack.primary)  # nothing left to end
    finally:
        stack.primary.start()
