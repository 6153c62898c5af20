"""What Airflow does with a cleared run, without its scheduler: the DAGs' own tasks, rendered and
run one after another on a real stack.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

_HOME = tempfile.mkdtemp(prefix="pgdrill-airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.setdefault("AIRFLOW_HOME", _HOME)

from airflow.sdk.exceptions import (  # noqa: E402 - it reads its home when imported
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
)

from pgdrill.airflow.dags import logical_dump_dag, restore_drill_dag  # noqa: E402
from pgdrill.airflow.drill_id import drill_id_of  # noqa: E402
from pgdrill.backup import take_backup  # noqa: E402
from pgdrill.logical import store as keep  # noqa: E402
from pgdrill.recovery.workspace import Workspace  # noqa: E402
from pgdrill.reports import store  # noqa: E402
from pgdrill_demo.stack import Stack, preferred_tool  # noqa: E402

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

DRILL = ("begin", "restore", "check", "destroy", "passed")
CHECK_ALONE = DRILL  # what Airflow runs if `check` is cleared without what follows


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One that is written to all the time, with a base backup; its Connections are in the
    environment.
    """
    made = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool(), canary_rows=20)
    try:
        made.create(scale=0.1)
        made.start()
        made.start_writer(rate_per_second=20)
        made.start_heartbeat()
        take_backup(made.access)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in made.environment.items():
                patch.setenv(name, value)
            yield made
    finally:
        made.remove()


@dataclass
class TaskInstance:
    """As much of one as the operators use; Airflow forgets what a task has handed on when it starts
    again.
    """

    task_id: str
    handed_on: dict[tuple[str, str], Any]
    waiting_since: datetime | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        self.handed_on[self.task_id, key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.handed_on.get((task_ids, key))

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.waiting_since


@dataclass
class Run:
    """A run of a DAG. ``states`` as Airflow would show them."""

    dag: Any
    run_id: str
    params: dict[str, Any] = field(default_factory=dict)
    handed_on: dict[tuple[str, str], Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def work(self, *task_ids: str) -> dict[str, str]:
        """Run these tasks in this order; one whose forerunner failed is left out, unless it is a
        teardown.
        """
        failed = False
        for task_id in task_ids:
            task = self.dag.get_task(task_id)
            if failed and not task.is_teardown:
                self.states[task_id] = "upstream_failed"
                continue
            self.states[task_id] = self.try_once(task_id)
            failed = failed or self.states[task_id] == "failed"
        return self.states

    def try_once(self, task_id: str) -> str:
        """One try of a task."""
        for key in [key for key in self.handed_on if key[0] == task_id]:
            del self.handed_on[key]
        task = self.dag.get_task(task_id).prepare_for_execution()
        context = {
            "run_id": self.run_id,
            "ti": TaskInstance(task_id, self.handed_on),
            "params": {**self.dag.params.dump(), **self.params},
            "dag_run": SimpleNamespace(run_type="manual", conf={}, logical_date=None),
        }
        context["outlet_events"] = {asset: SimpleNamespace(extra=None) for asset in task.outlets}
        task.render_template_fields(context)
        try:
            self.handed_on[task_id, "return_value"] = task.execute(context)
        except AirflowRescheduleException:
            return "up_for_reschedule"
        except AirflowFailException as error:
            print(task_id, error)
            return "failed"
        except AirflowException as error:
            print(task_id, error)
            return "up_for_retry"
        return "success"


def drill_of(stack: Stack, run_id: str, **params: Any) -> Run:
    return Run(restore_drill_dag(stack.cluster, stack.settings), run_id, params)


def verdicts(stack: Stack, run_id: str) -> list[str]:
    """Of every drill of the run, the first one first."""
    mine = [
        name for name in store.list_reports(stack.access) if name.startswith(drill_id_of(run_id))
    ]
    return [store.load_report(stack.access, name).verdict for name in sorted(mine)]


def nothing_left(stack: Stack) -> None:
    drills = stack.cluster.state_directory / "drills"
    assert not drills.exists() or not list(drills.iterdir())


def all_well(states: dict[str, str]) -> bool:
    return set(states.values()) == {"success"}


def test_a_second_try_of_every_task_says_what_the_first_said(stack: Stack) -> None:
    run = drill_of(stack, "tried")
    for task_id in DRILL:
        assert [run.try_once(task_id), run.try_once(task_id)] == ["success", "success"], task_id
    assert verdicts(stack, "tried") == ["passed"]
    nothing_left(stack)


def test_whatever_is_cleared_the_run_says_what_its_newest_drill_found_and_no_report_is_lost(
    stack: Stack,
) -> None:
    run = drill_of(stack, "cleared")
    assert all_well(run.work(*DRILL))
    assert all_well(run.work("destroy")), "done already"
    assert all_well(run.work("passed"))
    assert all_well(run.work("begin", "destroy", "passed"))
    assert verdicts(stack, "cleared") == ["passed"]
    assert all_well(run.work(*CHECK_ALONE))
    assert verdicts(stack, "cleared") == ["passed", "passed"]
    assert run.work("restore", "destroy", "passed")["passed"] == "failed", (
        "restored, and nothing asked"
    )
    assert verdicts(stack, "cleared")[-1] == "could not verify"
    nothing_left(stack)


def test_a_cleared_check_that_production_refuses_makes_a_green_run_red(stack: Stack) -> None:
    run = drill_of(stack, "refused")
    assert all_well(run.work(*DRILL))
    with stack.connect() as connection:
        connection.execute("ALTER ROLE pgdrill PASSWORD 'rotated'")
        try:
            assert run.try_once("begin") == "failed"
            assert run.try_once("restore") == "failed"  # whoever clears it alone
            assert run.try_once("passed") == "failed"
        finally:
            connection.execute(f"ALTER ROLE pgdrill PASSWORD '{stack.passwords['pgdrill']}'")
    assert verdicts(stack, "refused") == ["passed", "could not verify"]
    report = store.load_report(stack.access, "refused-2")
    assert report.restore.trouble
    assert report.restore.trouble.reason == "login-refused"
    assert all_well(run.work(*DRILL))


def test_a_kept_cluster_holds_others_back_and_ends_when_destroy_is_cleared(stack: Stack) -> None:
    kept = drill_of(stack, "kept", keep=True)
    assert all_well(kept.work(*DRILL))
    workspace = Workspace.of(stack.access, "kept")
    process = workspace.server(stack.access).process()
    assert process is not None
    dump = Run(logical_dump_dag(stack.cluster, stack.settings), "dumped")
    assert dump.try_once("dump") == "success"
    assert dump.try_once("restore") == "up_for_reschedule"
    assert drill_of(stack, "another").try_once("restore") == "up_for_reschedule"
    assert verdicts(stack, "another") == [], "who waits has begun nothing"
    assert keep.local_report(stack.access, "dumped") is None
    assert kept.try_once("destroy") == "success"
    assert not process.is_running()
    nothing_left(stack)
    assert verdicts(stack, "kept") == ["passed"]
    assert [dump.try_once(task_id) for task_id in ("restore", "destroy", "passed")] == [
        "success"
    ] * 3
    assert [dump.try_once(task_id) for task_id in ("restore", "destroy", "passed")] == [
        "success"
    ] * 3, "cleared"
    (listed,) = keep.listed(stack.access)
    assert [report.drill_id for report in listed.drills] == ["dumped", "dumped-2"]
    assert dump.try_once("dump") == "success"
    assert dump.try_once("passed") == "failed", "another dump, which nobody has restored"


def test_a_run_with_a_kept_cluster_that_is_cleared_begins_anew(stack: Stack) -> None:
    run = drill_of(stack, "again", keep=True)
    assert all_well(run.work(*DRILL))
    assert all_well(run.work(*DRILL))
    assert verdicts(stack, "again") == ["passed", "passed"]
    assert not Workspace.of(stack.access, "again").directory.exists()
    assert run.try_once("destroy") == "success"
    nothing_left(stack)
