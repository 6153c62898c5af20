"""What is found is judged by the promise alone, whatever traps the figures hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pgdrill.health.archiving import judge_archiver, judge_room, judge_waiting
from pgdrill.health.facts import ArchiverFacts, ReceiverFacts, Slot, WalDirectory
from pgdrill.health.failover import Fitness, judge_fit
from pgdrill.health.host import judge_room as judge_free
from pgdrill.health.memory import Sample
from pgdrill.health.replication import Beats, judge_heartbeat, judge_lag, judge_receiving
from pgdrill.health.repository import judge_rpo
from pgdrill.health.settings import judge_libraries, judge_searching, judge_settings, judge_xids
from pgdrill.health.slots import judge_slot

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SEGMENT = 16 * 2**20


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


WELL = ArchiverFacts(
    in_recovery=False,
    now=NOW,
    version="18.6",
    archive_mode="on",
    segment_bytes=SEGMENT,
    archived_count=10,
    last_archived_wal="00000001000000000000000A",
    last_archived_time=ago(30),
    failed_count=0,
    last_failed_wal=None,
    last_failed_time=None,
    stats_reset=ago(9000),
)
EMPTY = WalDirectory(SEGMENT, None, 0, None, None)


def waits(seconds: float, count: int = 1) -> WalDirectory:
    return WalDirectory(SEGMENT, None, count, "00000001000000000000000B.ready", ago(seconds))


def test_an_idle_primary_whose_last_segment_is_hours_old_is_well() -> None:
    idle = replace(WELL, last_archived_time=ago(9 * 3600))
    assert judge_archiver(idle, EMPTY, 60).status == "ok"
    assert judge_waiting(EMPTY, NOW, 60).status == "ok"


def test_failures_that_are_over_count_for_nothing_however_many_there_were() -> None:
    mended = replace(WELL, failed_count=4711, last_failed_time=ago(31))
    assert judge_archiver(mended, EMPTY, 60).status == "ok"


def test_a_failure_after_the_last_success_is_told_and_grows_worse_once_the_promise_is_broken() -> (
    None
):
    fails = replace(WELL, failed_count=1, last_failed_time=ago(5), last_failed_wal="B")
    assert judge_archiver(fails, waits(10), 60).status == "warning"
    worse = judge_archiver(fails, waits(61), 60)
    assert (worse.status, worse.reason, worse.would_lose_seconds) == (
        "critical",
        "archiving-fails",
        61,
    )


def test_what_a_server_archived_or_failed_to_before_it_was_promoted_is_not_its_own() -> None:
    promoted = replace(EMPTY, promoted_at=ago(20))
    old = replace(WELL, last_archived_time=ago(5000), last_failed_time=ago(4000), failed_count=9)
    assert judge_archiver(old, promoted, 60).reason == "never-archived"
    archives = replace(old, last_archived_time=ago(10))
    assert judge_archiver(archives, promoted, 60).status == "ok"


def test_never_archived_is_not_ok_and_red_once_something_waits_too_long() -> None:
    never = replace(WELL, archived_count=0, last_archived_time=None, last_archived_wal=None)
    assert judge_archiver(never, EMPTY, 60).status == "warning"
    assert judge_archiver(never, waits(90), 60).status == "critical"


def test_archive_mode_on_proves_nothing_and_off_is_red() -> None:
    assert judge_archiver(replace(WELL, archive_mode="off"), EMPTY, 60).reason == "archiving-off"


def test_what_waits_is_judged_by_the_promise_and_says_what_would_be_lost() -> None:
    assert judge_waiting(waits(59), NOW, 60).status == "ok"
    late = judge_waiting(waits(720, 48), NOW, 60)
    assert (late.status, late.value, late.promised, late.would_lose_seconds) == (
        "critical",
        720,
        60,
        720,
    )
    assert "with 47 more" in late.found


def test_a_directory_that_does_not_grow_never_fills_and_one_that_does_says_when() -> None:
    assert judge_room("pg_wal", 10**9, None).status == "ok"
    assert judge_room("pg_wal", 10**9, -5.0).status == "ok"
    found = judge_room("pg_wal", 3_600_000_000, 333_333.3)
    assert (found.status, "full in 3 h" in found.found) == ("critical", True)


RECEIVES = ReceiverFacts(True, "18.6", "0/5000000", "0/5000000", "streaming", False, "7")


def test_a_standby_that_replayed_all_it_has_and_receives_nothing_is_red() -> None:
    cut_off = replace(RECEIVES, receiver="")
    assert judge_receiving(cut_off, 0x5000000, "db2").status == "critical"
    assert judge_receiving(RECEIVES, 0x5000000, "db2").status == "ok"


def test_an_idle_primary_is_no_lag_and_lag_begins_with_the_first_heartbeat_not_replayed() -> None:
    idle = Beats(NOW, ago(9000), None)
    assert judge_lag(idle, RECEIVES, "db2").status == "ok"
    # the standby's newest is 34 s old, and the first that it lacks 29 s
    assert judge_lag(Beats(NOW, ago(34), ago(29)), RECEIVES, "db2").status == "ok"
    found = judge_lag(Beats(NOW, ago(35), ago(31)), replace(RECEIVES, paused=True), "db2")
    assert (found.status, found.value, "paused" in found.found) == ("critical", 31, True)


def test_a_dead_writer_is_told_of_as_such() -> None:
    assert judge_heartbeat("at", ago(14), NOW, 5).status == "ok"
    assert judge_heartbeat("at", ago(16), NOW, 5).reason == "heartbeat-stopped"
    assert judge_heartbeat("at", None, NOW, 5).reason == "no-heartbeats"


@pytest.mark.parametrize(
    ("slot", "status"),
    [
        (Slot("s", "physical", False, "reserved", None, 0), "ok"),  # inactive alone is no fault
        (Slot("s", "physical", True, "lost", None, None), "critical"),
        (Slot("s", "logical", True, "unreserved", -5, 10), "critical"),
        (Slot("s", "physical", False, "extended", 10, 90), "warning"),
        (Slot("s", "physical", True, "reserved", 80, 20), "ok"),
        (Slot("s", "physical", False, "extended", None, 11 * 2**30), "warning"),
        (Slot("s", "physical", True, "extended", None, 11 * 2**30), "ok"),
    ],
)
def test_slots_are_judged_by_what_they_still_have(slot: Slot, status: str) -> None:
    assert judge_slot(slot).status == status


def sample(seconds_ago: float, lsn: int, xid: int = 1) -> Sample:
    return Sample(at=ago(seconds_ago), timeline=1, lsn=lsn, next_xid=xid)


def test_what_would_be_lost_begins_after_the_last_look_that_saw_none_of_it() -> None:
    looks = [sample(100, 900, 1), sample(90, 1000, 2), sample(80, 1100, 3), sample(0, 1200, 9)]
    found = judge_rpo(looks, 1000, NOW, 60)
    assert (found.status, found.value, found.would_lose_seconds) == ("critical", 90, 90)


def test_looks_that_are_far_apart_make_an_estimate_and_no_alarm_of_their_distance() -> None:
    every_five_minutes = [sample(300, 1000, 2), sample(0, 11000, 9)]
    found = judge_rpo(every_five_minutes, 10000, NOW, 60)
    assert (found.status, found.value, "at most 5 min" in found.found) == ("ok", 30, True)
    late = judge_rpo(every_five_minutes, 5000, NOW, 60)
    assert (late.status, late.value) == ("warning", 180)


def test_work_without_a_commit_is_none_to_lose() -> None:
    looks = [sample(100, 1000, 2), sample(50, 1300, 2), sample(0, 1400, 2)]
    assert judge_rpo(looks, 1000, NOW, 60).value == 0


def test_a_first_look_measures_nothing_and_later_ones_at_least_the_time_since() -> None:
    assert judge_rpo([sample(10, 1200)], 1000, NOW, 60).reason == "first-look"
    assert judge_rpo([sample(70, 1200, 1), sample(0, 1300, 2)], 1000, NOW, 60).status == "critical"


def test_settings_that_backups_rely_on_are_told_when_they_change() -> None:
    well = {
        "archive_mode": "on",
        "wal_level": "replica",
        "full_page_writes": "on",
        "fsync": "on",
        "archive_timeout": "45",
    }
    assert list(judge_settings(well, 60)) == []
    for name, value, status in (
        ("full_page_writes", "off", "critical"),
        ("archive_timeout", "0", "critical"),
        ("archive_timeout", "50", "warning"),
        ("wal_level", "minimal", "critical"),
    ):
        (found,) = judge_settings({**well, name: value}, 60)
        assert (found.thing, found.status) == (name, status)
    (found,) = judge_searching({"hnsw.ef_search": "40", "work_mem": "1"}, {"hnsw.ef_search": "200"})
    assert (found.thing, found.found) == ("hnsw.ef_search", "40")


def test_ids_that_run_out_are_told_half_way() -> None:
    assert [judge_xids("a", n * 10**6).status for n in (200, 1100, 1700)] == [
        "ok",
        "warning",
        "critical",
    ]


def test_a_library_that_no_drill_proved_is_told() -> None:
    found = list(judge_libraries("agents", {"vector": "0.8.1"}, {"vector": "0.8.2"}))
    assert [(one.thing, one.status) for one in found] == [("agents.vector", "warning")]
    assert not list(judge_libraries("agents", {"vector": "0.8.1"}, {"vector": "0.8.1"}))


def test_a_standby_that_could_not_take_over_says_why() -> None:
    limits = dict.fromkeys(
        (
            "max_connections",
            "max_worker_processes",
            "max_wal_senders",
            "max_prepared_transactions",
            "max_locks_per_transaction",
        ),
        "100",
    )
    primary = Fitness("18.6", {"vector": "0.8.1"}, {**limits, "archive_mode": "on"}, True)
    assert not list(judge_fit(primary, primary))
    other = Fitness("18.5", {}, {**limits, "max_connections": "50", "archive_mode": "off"}, False)
    assert {one.thing: one.status for one in judge_fit(primary, other)} == {
        "version": "warning",
        "extension vector": "critical",
        "max_connections": "critical",
        "archive_mode": "warning",
        "archive_command": "warning",
    }


def test_room_is_judged_beside_what_stays_free_for_others() -> None:
    assert judge_free("/w", "drill", 100, 60, 30).status == "ok"
    assert judge_free("/w", "drill", 100, 60, 50).reason == "no-room-for-drill"
