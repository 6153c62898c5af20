"""A stack with a real Airflow that works on it, and what tests ask of both."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from pgdrill_demo.airflow import Airflow
from pgdrill_demo.stack import Stack

BACKUP, DRILL, DUMP, RETENTION, HEALTH = (
    f"agents.{job}"
    for job in ("base_backup", "restore_drill", "logical_dump", "retention", "backup_health")
)
# A tool that fetches a base backup, and a dump that is being sent.
FETCHES, SENDS = r" backup-fetch |barman-cloud-restore ", r"pg_dump --format="


class Site(NamedTuple):
    """A stack with the Airflow that works on it."""

    stack: Stack
    airflow: Airflow

    @property
    def drills(self) -> Path:
        return self.stack.home / "drills" / "agents" / "drills"

    def processes(self) -> list[str]:
        """Restored servers and fetching tools: whatever works below the drills' folder."""
        return self.working(re.escape(str(self.drills)))

    def leavings(self) -> list[str]:
        """What a drill must not leave behind."""
        folders = [str(path) for path in self.drills.iterdir()] if self.drills.exists() else []
        return folders + self.processes()

    def run(self, dag_id: str, **conf: object) -> str:
        """Start a run by hand; how it ended."""
        return self.ended(dag_id, self.airflow.trigger(dag_id, conf))

    def ended(self, dag_id: str, run_id: str) -> str:
        """How a run ended; the log's end of what failed is printed."""
        state = self.airflow.wait_for_run(dag_id, run_id, lambda *_: None, 600)
        if state != "success":
            for task, ended in self.airflow.task_states(dag_id, run_id).items():
                if ended == "failed":
                    print(task, *self._last_words(dag_id, run_id, task), sep="\n")
        return state

    def newest_try(self, dag_id: str, run_id: str, task: str) -> int:
        """The number of a task's newest try."""
        where = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}"
        return int(self.airflow.call("GET", where)["try_number"])

    def _last_words(self, dag_id: str, run_id: str, task: str) -> list[str]:
        """The end of the log of a task's newest try, or why Airflow has none."""
        number = self.newest_try(dag_id, run_id, task)
        try:
            return list(self.airflow.log_lines(dag_id, run_id, task, number))[-15:]
        except RuntimeError as error:
            return [f"no log of try {number}: {error}"]

    def runs(self, dag_id: str) -> list[str]:
        """The DAG's run ids."""
        return [
            run["dag_run_id"]
            for run in self.airflow.call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]
        ]

    def working(self, pattern: str) -> list[str]:
        """The words of programs that match, of this site alone: others may test here, too."""
        return at_work(str(self.stack.home), pattern)


def at_work(home: str, pattern: str) -> list[str]:
    """The words of every program that match, if it names a site's folder or connects to the server
    in it.
    """
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if re.search(pattern, words) and (
                home in words or process.environ().get("PGHOST") == home
            ):
                found.append(words)
        except psutil.Error:  # ended meanwhile, or none of ours
            continue
    return found


class frozen_store:
    """The store answers until a program of the site works whose words match, then keeps silent:
    that one is held in the middle.
    """

    def __init__(self, site: Site, pattern: str) -> None:
        self.site, self.pattern = site, pattern

    def __enter__(self) -> None:
        words = [str(self.site.stack.home), str(self.site.stack.s3.process.pid)]
        # The pattern goes by the environment: else the watcher's own words would match it.
        self.watcher = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.airflow_site", *words],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "WATCHED": self.pattern},
        )

    def __exit__(self, *_: object) -> None:
        self.watcher.terminate()
        self.watcher.wait()
        os.kill(self.site.stack.s3.process.pid, signal.SIGCONT)


def freeze(home: str, store: int) -> None:
    """For :class:`frozen_store`, in a process of its own so that nothing slows it down."""
    while not at_work(home, os.environ["WATCHED"]):
        time.sleep(0.02)
    os.kill(store, signal.SIGSTOP)
    signal.pause()


def wait_until(reached: Callable[[], bool], seconds: float, seen: Callable[[], object]) -> None:
    """Wait; what was seen instead is said."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not reached in {seconds:.0f} s: {seen()}"
        time.sleep(0.2)


if __name__ == "__main__":
    freeze(sys.argv[1], int(sys.argv[2]))
