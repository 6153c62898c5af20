"""A run is late, failed, or queued and never started; and what the last drill says of promises."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pgdrill.config import Cluster, parse
from pgdrill.health.airflow import judge_component
from pgdrill.health.drill_promises import judge_rpo, judge_rto, judge_search, judged
from pgdrill.health.runs import FAILED, Run, judge_run
from pgdrill.reports.deadlines import SECTIONS, deadline_seconds
from pgdrill.reports.model import CheckResult, Report, Stage, Timings

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def run(state: str, minutes: float, **more: Any) -> Run:
    queued_at = NOW - timedelta(minutes=minutes)
    given = {"started_at": None if state == "queued" else queued_at, **more}
    return Run("agents.restore_drill", "manual__1", state, queued_at, **given)


@pytest.mark.parametrize(
    ("minutes", "status"), [(44, "ok"), (45, "warning"), (59, "warning"), (60, "critical")]
)
def test_a_run_is_a_warning_at_three_quarters_of_its_time_and_critical_when_it_is_up(
    minutes: float, status: str
) -> None:
    found = judge_run(run("running", minutes), 3600, NOW)
    assert (found.status, found.promised, found.value) == (status, 3600, minutes * 60)


def test_a_late_run_says_what_is_done_what_is_at_work_and_what_was_measured() -> None:
    tasks = {"begin": "success", "restore": "success", "check": "running", "destroy": ""}
    found = judge_run(
        run("running", 70, tasks=tasks, measured=("running after 12 min",)), 3600, NOW
    )
    assert found.found == (
        "late: 1 h 10 min since it was queued; done: begin, restore; at work: check;"
        " not started: destroy; running after 12 min"
    )
    assert found.promise == "over within 1 h of being queued"


def test_a_run_that_never_started_says_so_and_what_to_look_at() -> None:
    found = judge_run(run("queued", 60), 3600, NOW)
    assert (found.status, found.found) == ("critical", "queued 1 h ago and never started")
    assert "worker" in found.hint


def test_a_failed_run_says_failed_and_not_late_however_late_it_is() -> None:
    tasks = {"restore": "failed", "check": "upstream_failed"}
    found = judge_run(run("failed", 600, tasks=tasks, said="no space left"), 3600, NOW)
    assert found.found == "failed in restore after 10 h: no space left"
    assert (found.status, found.reason) == ("critical", FAILED)


def test_a_run_that_waits_for_a_person_is_never_critical() -> None:
    found = judge_run(run("running", 600, tasks={"approve": "awaiting_input"}), 3600, NOW)
    assert (found.status, found.reason) == ("warning", "run-waits")


def test_whoever_s_clock_has_found_it_late_it_is() -> None:
    assert judge_run(run("running", 1), 3600, NOW, least="critical").status == "critical"
    assert judge_run(run("success", 1), 3600, NOW, least="critical").status == "ok"


def cluster(home: Path, **sections: Any) -> Cluster:
    table = {
        "server": {"data_directory": "/pgdata"},
        "repository": {"url": "s3://bucket/agents"},
        **sections,
    }
    table["drill"] = {"work_directory": str(home), **table.get("drill", {})}
    return parse({"clusters": {"agents": table}}, home / "dr.toml").cluster("agents")


def test_every_dag_has_a_deadline_by_the_configuration_alone(tmp_path: Path) -> None:
    found = {job: deadline_seconds(cluster(tmp_path), job) for job in SECTIONS}
    assert found == {
        "base_backup": 21600,
        "restore_drill": 7200,
        "logical_dump": 43200,
        "retention": 21600,
        "backup_health": 900,
    }


def test_a_deadline_that_is_configured_counts_whatever_the_last_drill_took(tmp_path: Path) -> None:
    one = cluster(tmp_path, drill={"deadline_seconds": 5})
    kept(one, "20261127T110000Z-aaaaaa", baseline=100, checks=100)
    assert deadline_seconds(one, "restore_drill") == 5


def kept(
    one: Cluster, drill_id: str, *, baseline: Any, checks: Any, verdict: str = "passed"
) -> None:
    folder = one.state_directory / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "verdict": verdict,
        "timings": {"baseline_seconds": baseline},
        "checks": {"seconds": checks},
    }
    (folder / f"{drill_id}.json").write_text(json.dumps(content))


def test_a_drill_has_its_rto_and_what_the_last_one_that_passed_took_besides(tmp_path: Path) -> None:
    one = cluster(tmp_path)
    kept(one, "20261120T110000Z-aaaaaa", baseline=300, checks=600)
    kept(one, "20261127T110000Z-bbbbbb", baseline=9000, checks=9000, verdict="failed")
    assert deadline_seconds(one, "restore_drill") == 3600 + 1200, "rounded up to ten minutes"


@pytest.mark.parametrize("strange", ["x", ["x"], float("inf"), -5, {"a": 1}, "1e999"], ids=repr)
def test_a_report_that_cannot_be_read_changes_no_deadline(tmp_path: Path, strange: Any) -> None:
    one = cluster(tmp_path)
    kept(one, "20261127T110000Z-aaaaaa", baseline=strange, checks=1)
    (one.state_directory / "reports" / "20261128T110000Z-bbbbbb.json").write_text("[" * 100_000)
    assert deadline_seconds(one, "restore_drill") == 7200


def test_no_deadline_is_later_than_the_end_that_the_drill_itself_makes(tmp_path: Path) -> None:
    one = cluster(tmp_path, drill={"rto_seconds": 10_000, "timeout_seconds": 14_400})
    assert deadline_seconds(one, "restore_drill") == 14_400


def drill(**more: Any) -> Report:
    vectors = CheckResult(name="index-recall", family="vectors", status="pass")
    report = Report(
        drill_id="20261127T110000Z-3f9a2c",
        cluster="agents",
        started_at=NOW,
        ended_at=NOW,
        rpo_seconds=60,
        rto_seconds=3600,
        restore=more.pop("restore", Stage(status="ok")),
        checks=Stage(status="ok"),
        results=[vectors],
        measured_rpo_seconds=more.pop("rpo", 10.0),
        timings=Timings(
            time_to_running_seconds=more.pop("running", 100.0),
            time_to_correct_vector_search_seconds=more.pop("correct", 150.0),
        ),
        **more,
    )
    report.judge()
    return report


def test_a_drill_s_times_are_judged_by_its_own_promises() -> None:
    assert {name: one.status for name, one in judged(drill(), 90).items()} == {
        "drill-verdict": "ok",
        "drill-rto": "ok",
        "drill-search": "ok",
        "drill-rpo": "ok",
    }
    assert judge_rto(drill(correct=3601.0)).status == "critical"
    slow = judge_search(drill(running=100.0, correct=191.0), 90)
    assert (slow.status, slow.value, slow.promised) == ("critical", 91.0, 90)
    assert judge_rpo(drill(rpo=61.0)).status == "warning"
    assert judge_rpo(drill(rpo=121.0)).status == "critical"


def test_what_a_drill_did_not_measure_or_prove_is_not_judged() -> None:
    assert judge_search(drill(correct=None), 90).status == "not asked"
    broken = drill(restore=Stage(status="failed"))
    assert set(judged(broken, 90)) == {"drill-verdict"}


def test_a_part_of_airflow_that_is_gone_says_what_is_lost() -> None:
    told = {
        "status": "unhealthy",
        "latest_scheduler_heartbeat": (NOW - timedelta(minutes=6)).isoformat(),
    }
    found = judge_component("scheduler", "no run begins", told, NOW)
    assert found.found == "unhealthy, last heard of 6 min ago: no run begins"
    assert found.status == "critical"
    assert judge_component("dag_processor", "x", {}, NOW).found.startswith("not running, never")
    assert judge_component("triggerer", "x", {"status": "healthy"}, NOW).status == "ok"
