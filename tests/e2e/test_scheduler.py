"""A real scheduler over REST: green runs, runs marked failed, a scheduler killed mid-drill."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import obstore
import psutil
import pytest

from pgdrill.logical import store as keep
from pgdrill.postgres.wal import Segment
from pgdrill.repository.archiver import wait_archived
from pgdrill_demo.airflow import Airflow
from pgdrill_demo.stack import Stack, tear_down
from tests.e2e.airflow_site import (
    BACKUP,
    DRILL,
    DUMP,
    FETCHES,
    HEALTH,
    RETENTION,
    SENDS,
    Site,
    frozen_store,
    wait_until,
)


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
    assert site.run(BACKUP) == "success"
    assert site.run(DRILL) == "success"
    assert site.leavings() == []


def test_a_drill_goes_on_though_the_file_breaks_and_a_typing_error_costs_one_cluster_its_dags(
    site: Site,
) -> None:
    file = site.stack.config_file
    good = file.read_text()
    wrong = good.replace("clusters.agents", "clusters.billing").replace(
        "[clusters.billing.drill]", "[clusters.billing.drill]\nschedul = 1"
    )
    try:
        run_id = site.airflow.trigger(DRILL)
        wait_until(
            lambda: site.airflow.task_states(DRILL, run_id).get("begin") == "success",
            120,
            lambda: site.airflow.task_states(DRILL, run_id),
        )
        file.write_text("[clusters.agents\n")
        assert site.ended(DRILL, run_id) == "success", (
            "each task is a process that reads the DAG, and found no configuration"
        )
        assert site.leavings() == []
        wait_until(
            lambda: "No cluster has DAGs." in import_error(site), 90, lambda: import_error(site)
        )
        assert "Jobs of agents that have begun go on" in import_error(site)
        file.write_text(good + wrong)
        wait_until(
            lambda: "Cluster billing has no DAGs" in import_error(site),
            90,
            lambda: import_error(site),
        )
        first = import_error(site).splitlines()[0]
        assert "[clusters.billing.drill.schedul] is no known key; did you mean schedule?" in first
        assert {dag["dag_id"] for dag in site.airflow.call("GET", "/dags")["dags"]} == {
            BACKUP,
            DRILL,
            DUMP,
            RETENTION,
            HEALTH,
        }
    finally:
        file.write_text(good)
    wait_until(lambda: not import_error(site), 90, lambda: import_error(site))


def import_error(site: Site) -> str:
    """What Airflow shows; empty where all is well."""
    return "".join(
        one["stack_trace"] for one in site.airflow.call("GET", "/importErrors")["import_errors"]
    )


def test_a_parameter_that_does_not_fit_is_refused_in_words_and_one_that_no_form_has_too(
    site: Site,
) -> None:
    with pytest.raises(
        RuntimeError,
        match=r"400 .*'tomorrow' is not one of \[\['latest', 'random', 'alternate', 'time:2026",
    ) as caught:
        site.airflow.trigger(DRILL, {"target": "tomorrow"})
    assert "{4}" not in str(caught.value), "no pattern"
    for dag_id, conf in (
        (DRILL, {"target": 3}),
        (DRILL, {"backup": "LATEST\n"}),
        (DRILL, {"checks": "vectors"}),
        (DRILL, {"keep": "perhaps"}),
        (DUMP, {"databases": "agents"}),
        (DUMP, {"bin_dir": "relative/folder"}),
        (RETENTION, {"also": [""]}),
        (RETENTION, {"allow": {}}),
    ):
        with pytest.raises(RuntimeError, match=r"400 .*is not one of \[") as caught:
            site.airflow.trigger(dag_id, conf)
        assert "pattern" not in str(caught.value), (
            f"what the API says of {conf} is words alone, as the serialized DAG keeps their order"
        )
    for target, task in (
        ("time:2099-01-01T00:00:00Z", "restore"),
        ("time:2026-13-45T99:00:00Z", "begin"),
        ("name:billing", "restore"),
    ):
        run_id = site.airflow.trigger(DRILL, {"target": target})
        assert site.ended(DRILL, run_id) == "failed"
        said = "".join(site.airflow.log_lines(DRILL, run_id, task))
        assert re.search(rf"recovery target '?{re.escape(target)}", said)
        assert "Hint:" in said
    assert site.leavings() == []
    for dag_id, task in ((DRILL, "begin"), (BACKUP, "backup"), (DUMP, "dump")):
        run_id = site.airflow.trigger(dag_id, {"tagret": "random"})
        assert site.ended(dag_id, run_id) == "failed"
        said = "".join(site.airflow.log_lines(dag_id, run_id, task))
        assert f"parameters of this run of {dag_id}: found 'tagret'" in said
        assert "Hint: trigger it again without them" in said


@pytest.mark.timeout(900)  # three runs of two DAGs, on a machine that may be busy
def test_retention_follows_a_backup_and_deletes_by_hand_only_what_a_person_approved(
    site: Site,
) -> None:
    """Left behind by an upload that was killed ten days ago: gone once it was named and the plan
    approved.
    """
    repository = site.stack.access.objects
    where = (
        "basebackups_005/{}/tar_partitions/part_001.tar.lz4"
        if site.stack.tool == "wal-g"
        else "agents/base/{}/data.tar.gz"
    )
    name = "base_0000000100000000000000FE" if site.stack.tool == "wal-g" else "20260101T000000"
    left = where.format(name)
    # which rclone heeds
    obstore.put(
        repository.store, left, b"half", attributes={"mtime": str(time.time() - 10 * 86400)}
    )
    site.airflow.call("PATCH", f"/dags/{RETENTION}", json={"is_paused": False})
    before = set(site.runs(RETENTION))
    assert site.run(BACKUP) == "success"
    wait_until(
        lambda: len(set(site.runs(RETENTION)) - before) == 1, 60, lambda: site.runs(RETENTION)
    )
    (followed,) = set(site.runs(RETENTION)) - before
    assert site.ended(RETENTION, followed) == "success"
    assert left in repository.sizes(), "nobody named it"

    run_id = site.airflow.trigger(
        RETENTION, {"apply": True, "also": [name], "allow": ["too-much", "nothing-proved"]}
    )
    asked = f"/dags/{RETENTION}/dagRuns/{run_id}"
    wait_until(
        lambda: site.airflow.task_states(RETENTION, run_id)["approve"] == "awaiting_input",
        120,
        lambda: site.airflow.task_states(RETENTION, run_id),
    )
    # An answer that comes before the scheduler has seen the parked task's process end kills the
    # task: nobody is that quick.
    parked = re.compile(
        rf"executor event with state success .*task_id='approve', run_id='{re.escape(run_id)}'"
    )
    log = site.airflow.home / "standalone.log"
    wait_until(
        lambda: bool(parked.search(log.read_text(errors="replace"))),
        60,
        lambda: log.read_text(errors="replace")[-2000:],
    )
    assert name in site.airflow.call("GET", f"{asked}/hitlDetails")["hitl_details"][0]["body"]
    assert left in repository.sizes(), "nobody approved it yet"
    site.airflow.call(
        "PATCH",
        f"{asked}/taskInstances/approve/-1/hitlDetails",
        json={"chosen_options": ["Approve"], "params_input": {}},
    )
    assert site.ended(RETENTION, run_id) == "success"
    assert left not in repository.sizes()
    told = site.airflow.xcom(RETENTION, run_id, "prune")
    assert (told["applied"], told["backups_deleted"], told["freed_bytes"], told["left"]) == (
        True,
        0,
        len(b"half"),
        [],
    )
    assert {promise["name"] for promise in told["promises"]} >= {
        "window",
        "weekly",
        "drilled",
        "dumps",
    }
    assert all(promise["after"] >= promise["before"] for promise in told["promises"])
    assert told["next_deletion_at"].endswith("Z")
    # That what is left can be restored is shown by the drills of the tests that follow.


def test_no_run_starts_by_itself_when_a_dag_is_unpaused(site: Site) -> None:
    kinds = {
        run["run_type"] for run in site.airflow.call("GET", f"/dags/{DRILL}/dagRuns")["dag_runs"]
    }
    assert kinds == {"manual"}


@pytest.fixture
def foretellable(site: Site) -> Iterator[str]:
    """An index that is large enough for its build to tell of a larger one; the sample's are not, at
    this scale.
    """
    with site.stack.connect() as connection:
        connection.execute("CREATE TABLE many (id int PRIMARY KEY, embedding vector(8))")
        connection.execute(
            "INSERT INTO many SELECT i, array_agg(random_normal())::real[]::vector"
            " FROM generate_series(1, 2500) i, generate_series(1, 8) GROUP BY i"
        )
        connection.execute("CREATE INDEX many_hnsw ON many USING hnsw (embedding vector_l2_ops)")
        connection.execute(
            """COMMENT ON COLUMN many.embedding IS 'pgdrill: {"model": "tiny", "version": "1"}'"""
        )
        yield "public.many_hnsw"
        connection.execute("DROP TABLE many")


def test_a_dump_by_hand_counts_once_it_was_restored_and_its_xcom_tells_what_it_took(
    site: Site, foretellable: str
) -> None:
    run_id = site.airflow.trigger(
        DUMP, {"databases": ["agents"], "bin_dir": str(site.stack.cluster.server.bin_dir)}
    )
    assert site.ended(DUMP, run_id) == "success"
    assert set(site.airflow.task_states(DUMP, run_id).values()) == {"success"}
    taken, restored = (site.airflow.xcom(DUMP, run_id, task) for task in ("dump", "restore"))
    assert taken["databases"] == ["agents"]
    assert 0 < taken["stored_bytes"] < taken["database_bytes"]
    assert taken["seconds"] > 0
    assert (restored["verdict"], restored["checks_fail"], restored["rows"]) == (
        "passed",
        0,
        taken["rows"],
    )
    assert restored["checks_pass"] > 50
    assert restored["stored_bytes"] == restored["downloaded_bytes"] == taken["stored_bytes"]
    for figure in (
        "rows_per_second",
        "restore_seconds",
        "data_seconds",
        "vector_indexes_seconds",
        "vector_checks_seconds",
    ):
        assert restored[figure] > 0, figure
    builds = {build["index"]: build for build in restored["builds"]}
    foretold = {one["index"]: one for one in restored["forecast_at_four_times_the_rows"]}
    assert len(builds) == taken["vector_indexes"]
    assert list(foretold) == [foretellable], "the others have too few rows to tell from"
    forecast, build = foretold[foretellable], builds[foretellable]
    assert (build["rows"], forecast["rows"], forecast["error"]) == (2500, 10_000, 0.25)
    assert forecast["seconds"] > build["seconds"] > 0
    assert (taken["dump_id"], True) in [
        (one.dump_id, one.counts) for one in keep.listed(site.stack.access)
    ]
    events = site.airflow.call("GET", "/assets/events")["asset_events"]
    assert taken["dump_id"] in [event["extra"].get("dump") for event in events]
    said = "".join(
        line for task in ("dump", "restore") for line in site.airflow.log_lines(DUMP, run_id, task)
    )
    assert "dumping public." in said, "progress names tables"
    assert not [
        secret
        for secret in (*site.stack.passwords.values(), site.stack.s3.secret_key)
        if secret in said
    ]
    assert site.leavings() == []


def test_a_dump_whose_migrations_fail_is_red_names_the_statement_and_does_not_count(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "001.sql").write_text("ALTER TABLE embeddings ADD COLUMN note text;\n")
    (tmp_path / "002.sql").write_text("SELECT 1;\nALTER TABLE nowhere ADD COLUMN note text;\n")
    run_id = site.airflow.trigger(DUMP, {"migrations": str(tmp_path)})
    assert site.ended(DUMP, run_id) == "failed"
    states = site.airflow.task_states(DUMP, run_id)
    assert states == {
        "dump": "success",
        "restore": "failed",
        "passed": "failed",
        "destroy": "success",
    }
    restored = site.airflow.xcom(DUMP, run_id, "restore")
    assert (restored["verdict"], restored["statements"]) == ("failed", 2)
    (failing,) = (one for one in restored["findings"] if one["status"] == "fail")
    assert (failing["check"], failing["thing"]) == ("migration", "002.sql:2")
    assert 'relation "nowhere" does not exist' in "".join(
        site.airflow.log_lines(DUMP, run_id, "restore")
    )
    counts = {one.dump_id: one.counts for one in keep.listed(site.stack.access)}
    assert counts[site.airflow.xcom(DUMP, run_id, "dump")["dump_id"]] is False
    assert site.leavings() == []


def test_a_dump_marked_failed_while_it_is_sent_leaves_nothing_that_looks_like_one(
    site: Site,
) -> None:
    before = keep.listed(site.stack.access)
    with frozen_store(site, SENDS):
        run_id = site.airflow.trigger(DUMP)
        wait_until(
            lambda: bool(site.working(SENDS)), 120, lambda: site.airflow.task_states(DUMP, run_id)
        )
        site.airflow.call("PATCH", f"/dags/{DUMP}/dagRuns/{run_id}", json={"state": "failed"})
        # Not until the task is gone may the store answer: a small dump would else be whole before
        # it is ended.
        wait_until(
            lambda: lock_is_free(site.stack.cluster.state_directory / "dump.lock"),
            90,
            lambda: site.working("."),
        )
    assert not site.working(SENDS)
    assert site.airflow.task_states(DUMP, run_id)["passed"] != "success"
    assert keep.listed(site.stack.access) == before
    assert site.leavings() == []


def test_a_run_marked_failed_mid_drill_ends_the_tool_and_destroys_its_cluster(site: Site) -> None:
    with frozen_store(site, FETCHES):
        run_id = mid_fetch(site)
        site.airflow.call("PATCH", f"/dags/{DRILL}/dagRuns/{run_id}", json={"state": "failed"})
        wait_until(lambda: site.leavings() == [], 90, site.leavings)
    archiving_caught_up(site)
    assert site.run(DRILL) == "success"


def test_a_scheduler_killed_mid_drill_leaves_no_process_and_the_next_run_is_clean(
    site: Site,
) -> None:
    with frozen_store(site, FETCHES):
        run_id = mid_fetch(site)
        kill_scheduler(site)
        restarted = start_scheduler(site)
    try:
        state = site.airflow.wait_for_run(DRILL, run_id, lambda *_: None, 240)
        wait_until(lambda: site.leavings() == [], 60, site.leavings)
        assert state in ("success", "failed")
        archiving_caught_up(site)
        assert site.run(DRILL) == "success"
        assert site.leavings() == []
    finally:
        restarted.terminate()
        restarted.wait(180)


def test_what_a_killed_scheduler_left_is_found_and_ended_with_the_rest(site: Site) -> None:
    """Last, for nothing is left of the site."""
    leader = json.loads(site.airflow.pid_file.read_text())["pid"]
    workers = [
        one
        for one in psutil.process_iter()
        if os.getsid(one.pid) == leader and "LocalExecutor" in one.name()
    ]
    assert workers, "those of the scheduler that the test before has killed"
    psutil.Process(leader).kill()
    assert tear_down(site.stack.home) == []
    assert not psutil.wait_procs(workers, timeout=5)[1]
    assert not site.working(".")


def lock_is_free(file: Path) -> bool:
    """Whether the process that held it has ended."""
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def mid_fetch(site: Site) -> str:
    """Start a drill and return when its tool is fetching from a store that does not answer."""
    run_id = site.airflow.trigger(DRILL)
    wait_until(
        lambda: bool(site.working(FETCHES)), 120, lambda: site.airflow.task_states(DRILL, run_id)
    )
    return run_id


def archiving_caught_up(site: Site) -> None:
    """What was written while the store was silent is in it: else a drill tells, rightly, that work
    would have been lost.
    """
    with site.stack.connect() as connection:
        row = connection.execute(
            "SELECT pg_logical_emit_message(true, 'test', 'x'), pg_walfile_name(pg_switch_wal())"
        ).fetchone()
        assert row
        segment = Segment.parse(row[1], site.stack.segment_bytes)
        wait_archived(connection, site.stack.access.repository, segment, 180)


def kill_scheduler(site: Site) -> None:
    """SIGKILL, as the kernel does when memory runs out."""
    mine = [
        p
        for p in psutil.process_iter(["cmdline", "environ"])
        if (p.info["environ"] or {}).get("AIRFLOW_HOME") == str(site.airflow.home)
        and p.info["cmdline"]
        and "scheduler" in p.info["cmdline"]
        and "airflow" in " ".join(p.info["cmdline"])
    ]
    assert mine, "no scheduler found"
    for process in mine:
        process.kill()
    psutil.wait_procs(mine, timeout=10)


def start_scheduler(site: Site) -> subprocess.Popen[bytes]:
    with (site.airflow.home / "scheduler.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "airflow", "scheduler"],
            env=site.airflow.full_environment,
            stdout=log,
            stderr=log,
        )
