"""Runs a DAG of the demo as a click would, and says how its tasks get on."""

from __future__ import annotations

import httpx

from pgdrill.text import one_line
from pgdrill_demo.airflow import Airflow
from pgdrill_demo.steps import Steps

TOLD = (
    "running",
    "success",
    "failed",
    "upstream_failed",
    "skipped",
    "up_for_retry",
    "up_for_reschedule",
)
LAST_LINES = 12
WIDTH = 84  # of a log's line, so that it fits into a hundred columns


class DagRun:
    """One run. ``state`` is empty until it has ended."""

    def __init__(self, airflow: Airflow, dag_id: str, steps: Steps) -> None:
        self.airflow, self.dag_id, self.steps = airflow, dag_id, steps
        self.run_id = self.state = ""
        self._running: dict[str, None] = {}
        self._told = ""

    def wait(self) -> str:
        """Start it, and give ``success`` or ``failed`` at its end."""
        with self.steps.doing(f"{self.dag_id}: asking Airflow's API to run it"):
            self.run_id = self.airflow.trigger(self.dag_id)
        with self.steps.doing("", self.goes_on):
            self.state = self.airflow.wait_for_run(self.dag_id, self.run_id, self._show)
        if self.state != "success":
            self._tell_failed()
        return self.state

    def goes_on(self) -> str:
        """What to say while no task changes: the last line of a running one's log."""
        task = next(iter(self._running), "")
        if not task:
            return "Airflow schedules the next task"
        try:
            words = next(reversed(list(self.airflow.own_lines(self.dag_id, self.run_id, task))), "")
        except (httpx.HTTPError, RuntimeError, OSError):
            words = ""  # a log that is not there yet
        if words in ("", self._told):
            return f"{task} goes on"
        self._told = words
        return f"{task}: {_shortened(words)}"

    def _show(self, task: str, state: str) -> None:
        if state == "running":
            self._running[task] = None
        else:
            self._running.pop(task, None)
        if state in TOLD:
            self.steps.say(f"  {task:<12} {state}")

    def _tell_failed(self) -> None:
        for task, ended in self.airflow.task_states(self.dag_id, self.run_id).items():
            if ended == "failed":
                self.steps.say(f"  the log of {task} ends:")
                for line in list(self.airflow.log_lines(self.dag_id, self.run_id, task))[
                    -LAST_LINES:
                ]:
                    self.steps.console.print(f"    {line}", markup=False, soft_wrap=True)


def _shortened(words: str) -> str:
    line = one_line(words)
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
