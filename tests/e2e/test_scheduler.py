"""A real scheduler over REST: green runs, a run marked failed, a scheduler killed mid-drill."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import obstore
import psutil
import pytest

from pgdrill.archiving import wait_archived
from pgdrill.postgres.wal import Segment
from pgdrill_demo.airflow import Airflow
from pgdrill_demo.stack import Stack, tear_down

BACKUP, DRILL, RETENTION = "agents.base_backup", "agents.restore_drill", "agents.retention"


class Site(NamedTuple):
    """A stack with the Airflow that works on it."""

    stack: Stack
    airflow: Airflow

    @property
    def drills(self) -> Path:
        return self.stack.home / "drills" / "agents" / "drills"

    def processes(self) -> list[str]:
        """Restored servers and fetching tools: whatever works below the drills' folder."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or [])
            if str(self.drills) in words and process.status() != psutil.STATUS_ZOMBIE:
                found.append(words)
        return found

    def leavings(self) -> list[str]:
        """What a drill must not leave behind."""
        folders = [str(path) for path in self.drills.iterdir()] if self.drills.exists() else []
        return folders + self.processes()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One stack and one Airflow for the module; Airflow comes up while the sample is loaded."""
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    stack = Stack(home)
    try:
        stack.s3.start()
        stack.write_config()
        airflow = Airflow(home / "airflow", stack.environment)
        airflow.launch()
        stack.create(scale=0.1)
        stack.start()
        airflow.wait_healthy()
        yield Site(stack, airflow)
    finally:
        tear_down(home)


def test_a_backup_and_then_a_drill_started_through_the_api_are_green(site: Site) -> None:
    assert run(site, BACKUP) == "success"
    assert run(site, DRILL) == "success"
    assert site.leavings() == []


def test_retention_follows_a_backup_and_deletes_by_hand_only_what_a_person_approved(site: Site) -> None:
    """Left behind by an upload that was killed ten days ago: gone once it was named and the plan approved."""
    repository = site.stack.access.repository
    where = "basebackups_005/{}/tar_partitions/part_001.tar.lz4" if site.stack.tool == "wal-g" else "agents/base/{}/data.tar.gz"
    name = "base_0000000100000000000000FE" if site.stack.tool == "wal-g" else "20260101T000000"
    left = where.format(name)
    obstore.put(repository.store, left, b"half", attributes={"mtime": str(time.time() - 10 * 86400)})  # which rclone heeds
    site.airflow.call("PATCH", f"/dags/{RETENTION}", json={"is_paused": False})
    assert run(site, BACKUP) == "success"
    wait_until(lambda: len(runs(site, RETENTION)) == 1, 60, lambda: runs(site, RETENTION))
    followed = next(iter(runs(site, RETENTION)))
    assert ended(site, RETENTION, followed) == "success"
    assert left in repository.sizes(), "nobody named it"

    run_id = site.airflow.trigger(RETENTION, {"apply": True, "also": [name], "allow": ["too-much", "nothing-proved"]})
    asked = f"/dags/{RETENTION}/dagRuns/{run_id}"
    wait_until(lambda: site.airflow.task_states(RETENTION, run_id)["approve"] == "awaiting_input", 120,
               lambda: site.airflow.task_states(RETENTION, run_id))  # fmt: skip
    # An answer that comes before the scheduler has seen the parked task's process end kills the task: nobody is that quick.
    parked = re.compile(rf"executor event with state success .*task_id='approve', run_id='{re.escape(run_id)}'")
    log = site.airflow.home / "standalone.log"
    wait_until(lambda: bool(parked.search(log.read_text(errors="replace"))), 60, lambda: log.read_text(errors="replace")[-2000:])
    assert name in site.airflow.call("GET", f"{asked}/hitlDetails")["hitl_details"][0]["body"]
    assert left in repository.sizes(), "nobody approved it yet"
    site.airflow.call("PATCH", f"{asked}/taskInstances/approve/-1/hitlDetails", json={"chosen_options": ["Approve"], "params_input": {}})
    assert ended(site, RETENTION, run_id) == "success"
    assert left not in repository.sizes()
    assert run(site, DRILL) == "success", "what is left can be restored"


def test_no_run_starts_by_itself_when_a_dag_is_unpaused(site: Site) -> None:
    kinds = {run["run_type"] for run in site.airflow.call("GET", f"/dags/{DRILL}/dagRuns")["dag_runs"]}
    assert kinds == {"manual"}


def test_a_run_marked_failed_mid_drill_ends_the_tool_and_destroys_its_cluster(site: Site) -> None:
    with frozen_store(site):
        run_id = mid_fetch(site)
        site.airflow.call("PATCH", f"/dags/{DRILL}/dagRuns/{run_id}", json={"state": "failed"})
        wait_until(lambda: site.leavings() == [], 90, site.leavings)
    archiving_caught_up(site)
    assert run(site, DRILL) == "success"


def test_a_scheduler_killed_mid_drill_leaves_no_process_and_the_next_run_is_clean(site: Site) -> None:
    with frozen_store(site):
        run_id = mid_fetch(site)
        kill_scheduler(site)
        restarted = start_scheduler(site)
    try:
        state = site.airflow.wait_for_run(DRILL, run_id, lambda *_: None, 240)
        wait_until(lambda: site.leavings() == [], 60, site.leavings)
        assert state in ("success", "failed")
        archiving_caught_up(site)
        assert run(site, DRILL) == "success"
        assert site.leavings() == []
    finally:
        restarted.terminate()
        restarted.wait(30)


def run(site: Site, dag_id: str) -> str:
    return ended(site, dag_id, site.airflow.trigger(dag_id))


def ended(site: Site, dag_id: str, run_id: str) -> str:
    """How a run ended; the log's end of what failed is printed."""
    state = site.airflow.wait_for_run(dag_id, run_id, lambda *_: None, 300)
    if state != "success":
        for task, ended in site.airflow.task_states(dag_id, run_id).items():
            if ended == "failed":
                print(task, *list(site.airflow.log_lines(dag_id, run_id, task))[-15:], sep="\n")
    return state


def runs(site: Site, dag_id: str) -> list[str]:
    return [run["dag_run_id"] for run in site.airflow.call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]]


def mid_fetch(site: Site) -> str:
    """Start a drill and return when its tool is fetching from a store that does not answer."""
    run_id = site.airflow.trigger(DRILL)
    wait_until(lambda: any(fetch in words for words in site.processes() for fetch in FETCHES), 120, lambda: site.airflow.task_states(DRILL, run_id))
    return run_id


def archiving_caught_up(site: Site) -> None:
    """What was written while the store was silent is in it: else a drill tells, rightly, that work would have been lost."""
    with site.stack.connect() as connection:
        row = connection.execute("SELECT pg_logical_emit_message(true, 'test', 'x'), pg_walfile_name(pg_switch_wal())").fetchone()
        assert row
        segment = Segment.parse(row[1], site.stack.segment_bytes)
        wait_archived(connection, site.stack.access, segment, 180)


class frozen_store:
    """The store answers until a tool fetches a base backup, then keeps silent: the drill is held in the middle."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.stopped = False

    def __enter__(self) -> None:
        self.watcher = subprocess.Popen(
            [sys.executable, "-c", WATCH, str(self.site.stack.s3.process.pid)],
            env={**os.environ, "WATCHED": str(self.site.drills)},
        )

    def __exit__(self, *_: object) -> None:
        self.watcher.terminate()
        self.watcher.wait()
        os.kill(self.site.stack.s3.process.pid, signal.SIGCONT)


FETCHES = (" backup-fetch ", "barman-cloud-restore ")
# Freezes the store as soon as the tool fetches a base backup into a drill's folder.
WATCH = f"""
import os, signal, sys, time, psutil
while True:
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if os.environ["WATCHED"] in words and any(fetch in words for fetch in {FETCHES}):
            os.kill(int(sys.argv[1]), signal.SIGSTOP)
            signal.pause()
    time.sleep(0.02)
"""


def kill_scheduler(site: Site) -> None:
    """SIGKILL, as the kernel does when memory runs out."""
    mine = [p for p in psutil.process_iter(["cmdline", "environ"])
            if (p.info["environ"] or {}).get("AIRFLOW_HOME") == str(site.airflow.home)
            and p.info["cmdline"] and "scheduler" in p.info["cmdline"] and "airflow" in " ".join(p.info["cmdline"])]
    assert mine, "no scheduler found"
    for process in mine:
        process.kill()
    psutil.wait_procs(mine, timeout=10)


def start_scheduler(site: Site) -> subprocess.Popen[bytes]:
    with (site.airflow.home / "scheduler.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "airflow", "scheduler"], env=site.airflow.full_environment, stdout=log, stderr=log
        )


def wait_until(reached: Callable[[], bool], seconds: float, seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not reached in {seconds:.0f} s: {seen()}"
        time.sleep(0.2)
