"""Every task of every DAG tried again and cleared, on a living database: what is said is what the
first try would have said.

All of it takes minutes; `make thorough` does it all, `make test` a part that is drawn by the
commit's number.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest

from pgdrill.airflow.drill_id import drill_id_of
from pgdrill.logical import store as keep
from pgdrill.reports import store
from pgdrill.repository import prune_runs
from pgdrill_demo.airflow import Airflow
from pgdrill_demo.stack import Stack, tear_down
from tests.conftest import thorough
from tests.e2e.airflow_site import BACKUP, DRILL, DUMP, HEALTH, RETENTION, Site, wait_until
from tests.faults.cases import draw

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

TRIED = {
    BACKUP: {"backup"},
    DRILL: {"begin", "restore", "check", "destroy", "passed"},
    DUMP: {"dump", "restore", "destroy", "passed"},
}
WHOLE = ""
CLEARED = [
    *((dag, task) for dag in (BACKUP, DRILL, DUMP) for task in (*sorted(TRIED[dag]), WHOLE)),
    (HEALTH, "look"),  # which has no second try: the next look is one
    (HEALTH, WHOLE),
]
LONG = ("kept", "red", "retention")
# Alone these leave unasked what they made, which is not proved and so not green; what has to be
# cleared instead.
UNASKED = {(DRILL, "restore"): "check", (DUMP, "dump"): "restore"}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A stack that is written to all the time, and an Airflow whose tasks can be made to die."""
    home = Path(tempfile.mkdtemp(prefix="pgdrill-"))
    stack = Stack(home, canary_rows=20)
    try:
        stack.s3.start()
        stack.write_config()
        airflow = Airflow(
            home / "airflow",
            stack.environment,
            dags_folder=Path(__file__).with_name("failing_twice"),
        )
        airflow.launch()
        stack.create(scale=0.1)
        stack.start()
        stack.start_writer(rate_per_second=20)
        stack.start_heartbeat()
        airflow.wait_healthy()
        made = Site(stack, airflow)
        assert made.run(BACKUP) == "success"
        yield made
    finally:
        tear_down(home)


def chosen(cases: list[Any], count: int, kind: str) -> list[Any]:
    """All of them, or a part by the commit's number."""
    return cases if thorough() else draw(cases, count, kind)


def clear(site: Site, dag_id: str, run_id: str, task: str) -> str:
    """A task by itself, without what follows, or the whole run; how it ended then."""
    if task:
        how = {
            "dag_run_id": run_id,
            "task_ids": [task],
            "dry_run": False,
            "only_failed": False,
            "include_downstream": False,
        }
        site.airflow.call("POST", f"/dags/{dag_id}/clearTaskInstances", json=how)
    else:
        site.airflow.call("POST", f"/dags/{dag_id}/dagRuns/{run_id}/clear", json={"dry_run": False})
    return site.ended(dag_id, run_id)


DRAWN = chosen(list(LONG), 1, "long")


def drawn(name: str) -> pytest.MarkDecorator:
    """Left out where another one was drawn."""
    return pytest.mark.skipif(
        name not in DRAWN,
        reason=f"of the long ones {DRAWN[0]} was drawn: `make thorough` has the time for all",
    )


@pytest.mark.parametrize("dag_id", chosen([BACKUP, DRILL, DUMP], 1, "retries"))
def test_the_third_try_of_every_task_says_what_the_first_would_have_said(
    site: Site, dag_id: str
) -> None:
    run_id = site.airflow.trigger(dag_id, {"dies": True})
    assert site.ended(dag_id, run_id) == "success"
    assert Counter(died(site, run_id)) == dict.fromkeys(TRIED[dag_id], 2)
    assert site.leavings() == []
    if dag_id == DRILL:
        report = store.load_report(site.stack.access, drill_id_of(run_id))
        assert report.verdict == "passed"
        assert [
            name
            for name in store.list_reports(site.stack.access)
            if name.startswith(report.drill_id)
        ] == [report.drill_id]


def died(site: Site, run_id: str) -> list[str]:
    """The tasks that died in a run, each as often as it did."""
    return (site.airflow.home / f"died-{run_id}").read_text().split()


@pytest.fixture(scope="module")
def runs(site: Site) -> dict[str, str]:
    """A green run of each DAG that is cleared, made when first wanted."""
    return {}


@pytest.mark.parametrize(("dag_id", "task"), chosen(CLEARED, 2, "clears"))
def test_whatever_is_cleared_a_run_says_what_its_newest_drill_found_and_loses_no_report(
    site: Site, runs: dict[str, str], dag_id: str, task: str
) -> None:
    if dag_id not in runs:
        runs[dag_id] = site.airflow.trigger(dag_id)
        assert site.ended(dag_id, runs[dag_id]) == "success"
    run_id, before = runs[dag_id], verdicts(site)
    ended = clear(site, dag_id, run_id, task)
    after = verdicts(site)
    assert before.items() <= after.items(), "what a drill found is evidence"
    assert site.leavings() == []
    if instead := UNASKED.get((dag_id, task)):
        assert ended == "failed"
        said = " ".join(
            site.airflow.log_lines(
                dag_id, run_id, "passed", site.newest_try(dag_id, run_id, "passed")
            )
        )
        assert f"clear `{instead}`" in said
        ended = clear(site, dag_id, run_id, instead)
    assert ended == "success"
    drilled = dag_id in (DRILL, DUMP) and task in ("check", "restore", "dump", WHOLE)
    assert (len(after) > len(before)) is (drilled and (dag_id, task) != (DUMP, "dump"))


def verdicts(site: Site) -> dict[str, tuple[str, int]]:
    """Every report of a drill, of backups and of dumps: its verdict and how many answers it has."""
    access = site.stack.access
    found = {name: store.load_report(access, name) for name in store.list_reports(access)}
    dumps = {report.drill_id: report for one in keep.listed(access) for report in one.drills}
    return {
        name: (report.verdict, len(report.results)) for name, report in {**found, **dumps}.items()
    }


@drawn("kept")
def test_a_kept_cluster_is_waited_for_without_a_slot_and_ended_by_clearing_destroy(
    site: Site,
) -> None:
    kept = site.airflow.trigger(DRILL, {"keep": True, "checks": ["recovery", "vectors"]})
    assert site.ended(DRILL, kept) == "success"
    assert site.leavings(), "it is there for a look"
    dumped = site.airflow.trigger(DUMP)
    wait_until(
        lambda: site.airflow.task_states(DUMP, dumped)["restore"] == "up_for_reschedule",
        120,
        lambda: site.airflow.task_states(DUMP, dumped),
    )
    told = " ".join(site.airflow.log_lines(DUMP, dumped, "restore"))
    assert re.search(
        rf"waiting, for drill of agents is held by {drill_id_of(kept)}, kept for a look, until .*;"
        r" gives up at",
        told,
    )
    assert clear(site, DRILL, kept, "destroy") == "success"
    assert site.airflow.xcom(DRILL, kept, "destroy")["destroyed"] is True
    assert site.ended(DUMP, dumped) == "success"
    assert site.leavings() == []
    assert store.load_report(site.stack.access, drill_id_of(kept)).verdict == "passed"


@drawn("red")
def test_a_cleared_check_that_is_red_makes_the_run_red(site: Site) -> None:
    """Cleared alone: Airflow restores again, checks, and leaves the tasks that it takes for done as
    they were.
    """
    run_id = site.airflow.trigger(DRILL)
    assert site.ended(DRILL, run_id) == "success"
    password = site.stack.passwords["pgdrill"]
    with site.stack.connect() as connection:
        connection.execute("ALTER ROLE pgdrill PASSWORD 'rotated'")
        try:
            assert clear(site, DRILL, run_id, "check") == "failed"
        finally:
            connection.execute(f"ALTER ROLE pgdrill PASSWORD '{password}'")
    first = drill_id_of(run_id)
    reports = {name: store.load_report(site.stack.access, name) for name in (first, f"{first}-2")}
    assert [report.verdict for report in reports.values()] == ["passed", "could not verify"]
    assert "login-refused" in reports[f"{first}-2"].reason
    assert site.airflow.task_states(DRILL, run_id)["begin"] == "failed"
    assert clear(site, DRILL, run_id, WHOLE) == "success"


@drawn("retention")
def test_retention_by_hand_is_told_its_refusals_waits_for_a_person_and_can_be_tried_and_cleared(
    site: Site,
) -> None:
    repository = site.stack.access.objects
    name = "base_0000000100000000000000FE" if site.stack.tool == "wal-g" else "20260101T000000"
    where = (
        "basebackups_005/{}/tar_partitions/part_001.tar.lz4"
        if site.stack.tool == "wal-g"
        else "agents/base/{}/data.tar.gz"
    )
    left = where.format(name)
    # which rclone heeds
    obstore.put(
        repository.store,
        left,
        b"x" * 200_000_000,
        attributes={"mtime": str(time.time() - 10 * 86400)},
    )
    refused = site.airflow.trigger(
        RETENTION, {"apply": True, "also": [name], "allow": ["nothing-proved"]}
    )
    assert site.ended(RETENTION, refused) == "failed"
    states = site.airflow.task_states(RETENTION, refused)
    assert (states["refused"], states["prune"], states["approve"]) == (
        "failed",
        "skipped",
        "skipped",
    )
    assert "too-much: share of the bytes: found" in " ".join(
        site.airflow.log_lines(RETENTION, refused, "refused")
    )

    run_id = site.airflow.trigger(
        RETENTION,
        {"apply": True, "also": [name], "allow": ["too-much", "nothing-proved"], "dies": True},
    )
    asked = f"/dags/{RETENTION}/dagRuns/{run_id}"
    parked(site, run_id)
    body = site.airflow.call("GET", f"{asked}/hitlDetails")["hitl_details"][0]["body"]
    assert "Let pass, as was asked" in body
    assert re.search(r"too-much.*% would go", body)
    site.airflow.call(
        "PATCH",
        f"{asked}/taskInstances/approve/-1/hitlDetails",
        json={"chosen_options": ["Approve"], "params_input": {}},
    )
    assert site.ended(RETENTION, run_id) == "success"
    assert left not in repository.sizes()
    assert died(site, run_id).count("prune") == 2
    assert [run.state for run in prune_runs.runs(site.stack.access.reports)][-1] == "done"
    for task in ("prune", "choose"):
        assert clear(site, RETENTION, run_id, task) == "success", task
    # A plan that is made anew is another one than the person has seen.
    obstore.put(repository.store, left, b"x", attributes={"mtime": str(time.time() - 10 * 86400)})
    assert clear(site, RETENTION, run_id, "plan") == "success"
    assert site.airflow.xcom(RETENTION, run_id, "plan")["steps"]
    assert left in repository.sizes()
    obstore.delete(repository.store, left)


def parked(site: Site, run_id: str) -> None:
    """Return when an answer may come: one that comes before the scheduler has seen the parked
    task's process end kills the task.
    """
    wait_until(
        lambda: site.airflow.task_states(RETENTION, run_id)["approve"] == "awaiting_input",
        120,
        lambda: site.airflow.task_states(RETENTION, run_id),
    )
    seen = re.compile(
        rf"executor event with state success .*task_id='approve', run_id='{re.escape(run_id)}'"
    )
    log = site.airflow.home / "standalone.log"
    wait_until(
        lambda: bool(seen.search(log.read_text(errors="replace"))),
        60,
        lambda: log.read_text(errors="replace")[-2000:],
    )


@pytest.mark.skipif(
    not thorough(), reason="three drills one after another: `make thorough` has the time"
)
def test_a_backfill_means_its_dates_and_no_two_of_its_drills_work_at_once(site: Site) -> None:
    """Three Fridays before the first base backup: today's latest under their dates would be green,
    and wrong.
    """
    known, now = set(site.runs(DRILL)), datetime.now(UTC)
    site.airflow.call(
        "POST",
        "/backfills",
        json={
            "dag_id": DRILL,
            "from_date": (now - timedelta(days=22)).isoformat(),
            "to_date": (now - timedelta(days=1)).isoformat(),
            "max_active_runs": 3,
            "run_backwards": False,
            "dag_run_conf": {},
            "reprocess_behavior": "none",
        },
    )
    seen = 0

    def ended() -> bool:
        nonlocal seen
        seen = max(seen, len(list(site.drills.iterdir())) if site.drills.exists() else 0)
        runs = [
            run
            for run in site.airflow.call("GET", f"/dags/{DRILL}/dagRuns")["dag_runs"]
            if run["dag_run_id"] not in known
        ]
        return len(runs) == 3 and all(run["state"] in ("success", "failed") for run in runs)

    wait_until(
        ended,
        900,
        lambda: {
            run: site.airflow.task_states(DRILL, run) for run in set(site.runs(DRILL)) - known
        },
    )
    assert seen <= 1
    for run_id in set(site.runs(DRILL)) - known:
        assert run_id.startswith("backfill__")
        report = store.load_report(site.stack.access, drill_id_of(run_id))
        assert report.verdict != "passed"
        assert report.restore.trouble
        date = (
            report.restore.trouble.thing
            + report.restore.trouble.found
            + report.restore.trouble.expected
        )
        assert run_id.removeprefix("backfill__")[:10] in date, report.restore.trouble
