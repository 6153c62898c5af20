"""What of a look becomes metrics, and under which names."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pgdrill.health import HEALTH_CHECKS
from pgdrill.watch.measures import MADE, MEASURES, Sample, of_drills, of_look
from pgdrill.watch.metrics import Exposition, Samples, of_configuration
from pgdrill.watch_settings import Watch
from tests.reports import passed_report
from tests.unit.alerts.made import NOON, finding, report

UNITS = ("seconds", "bytes", "ratio", "segments", "failures", "total")


def values(*found: Sample) -> dict[str, float]:
    return {one.name: one.value for one in found}


def test_each_measure_is_of_a_check_and_has_a_unit_in_its_name_and_in_its_promise() -> None:
    assert {*MEASURES, *MADE} <= HEALTH_CHECKS.keys()
    for measure in MEASURES.values():
        assert re.fullmatch(rf"pgdrill_[a-z_]+_({'|'.join(UNITS)})", measure.name)
        if measure.promise:
            assert measure.promise.rpartition("_")[2] == measure.name.rpartition("_")[2]


def test_the_promise_stands_beside_the_measure() -> None:
    lag = finding("replay-lag", "ok", value=2.0, promised=30.0, unit="seconds")
    found = values(*of_look(report(lag), 1))
    assert found["pgdrill_replay_lag_seconds"] == 2
    assert found["pgdrill_replay_lag_promise_seconds"] == 30
    assert found["pgdrill_check_ok"] == 1


def test_what_is_unknown_or_not_asked_has_no_sample() -> None:
    looks = report(
        finding("measured-rpo", "unknown", value=3.0, unit="seconds"),
        finding("replay-lag", "not asked"),
    )
    found = values(*of_look(looks, 1))
    assert not {"pgdrill_measured_rpo_seconds", "pgdrill_replay_lag_seconds"} & found.keys()
    assert "pgdrill_check_ok" not in found


def test_ages_are_instants_so_that_who_asks_subtracts() -> None:
    age = finding("drill-age", "ok", value=3600.0, promised=86400.0, unit="seconds")
    found = values(*of_look(report(age), 1))
    finished = (NOON - timedelta(hours=1)).timestamp()
    assert found["pgdrill_drill_finished_timestamp_seconds"] == finished
    assert found["pgdrill_drill_due_timestamp_seconds"] == finished + 86400


def test_several_gaps_are_counted_together_and_the_worst_of_lost_work_is_told() -> None:
    gaps = [
        finding("wal-continuity", "critical", value=n, unit="count", would_lose_seconds=n * 10)
        for n in (2.0, 3.0)
    ]
    found = values(*of_look(report(*gaps), 1))
    assert found["pgdrill_wal_missing_segments"] == 5
    assert found["pgdrill_would_lose_seconds"] == 30


def test_the_last_drill_tells_its_times_beside_what_was_promised() -> None:
    last = passed_report("20261130T120000Z-aaaaaa")
    assert list(of_drills([last])) == []  # it goes on
    last.ended_at = NOON
    found = values(*of_drills([last]))
    assert found == {
        "pgdrill_last_drill_timestamp_seconds": NOON.timestamp(),
        "pgdrill_rto_promise_seconds": 3600,
        "pgdrill_drill_time_to_running_seconds": 2.0,
        "pgdrill_drill_time_to_correct_search_seconds": 3.0,
    }


def test_prometheus_reads_it_whatever_a_label_holds() -> None:
    strange = 'pl"ace\n\\ one'
    room = finding("room", "ok", thing=strange, value=5.0, promised=4.0, unit="bytes")
    registry = CollectorRegistry()
    registry.register(Samples(lambda: [*of_look(report(room), 7), *of_configuration(["x"], ["a"])]))
    families = {
        one.name: one for one in text_string_to_metric_families(generate_latest(registry).decode())
    }
    (sample,) = families["pgdrill_room_free_bytes"].samples
    assert (sample.labels["place"], sample.value) == (strange, 5)
    assert families["pgdrill_looks"].type == "counter"
    right = {
        one.labels["cluster"]: one.value for one in families["pgdrill_configuration_ok"].samples
    }
    assert right == {"": 1, "a": 1, "x": 0}


def test_the_textfile_is_whole_and_readable_and_a_folder_that_is_gone_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "sub" / "pgdrill.prom"
    shown = Exposition(lambda: of_configuration([], ["agents"]))
    settings = Watch(listen="", textfile=str(file))
    shown.follow(settings)
    shown.follow(settings)
    assert caplog.text.count("cannot write") == 1
    file.parent.mkdir()
    shown.follow(settings)
    assert 'pgdrill_configuration_ok{cluster="agents"} 1.0' in file.read_text()
    assert (file.stat().st_mode & 0o777, [*file.parent.iterdir()]) == (0o644, [file])
