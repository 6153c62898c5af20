"""Choosing a backup, and what has to be there for it: pure rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pgdrill.errors import BackupFault, ConfigError
from pgdrill.postgres.wal import TimelineSwitch
from pgdrill.recovery.preflight import _unbroken, choose_backup
from pgdrill.recovery.targets import RecoveryTarget, parse_target
from pgdrill.repository.tools import BaseBackup
from pgdrill.repository.tools.base import ArchivedWal, BaseBackups

SUNDAY = datetime(2026, 11, 1, 2, tzinfo=UTC)


def backup(week: int, timeline: int = 1) -> BaseBackup:
    start = (week * 16 + 2) << 24
    at = SUNDAY + timedelta(weeks=week)
    return BaseBackup(
        f"base_{week}", 7, 18, timeline, start + 0x28, start + 0x100, at, at + timedelta(hours=1)
    )


THREE = [backup(0), backup(1), backup(2)]


def chosen(target: str, wanted: str = "LATEST", backups: list[BaseBackup] = THREE) -> str:
    return choose_backup(
        BaseBackups({one.name: one for one in backups}), wanted, parse_target(target), "s3://b"
    ).name


def test_the_newest_that_finished_before_the_target_is_chosen() -> None:
    assert chosen("latest") == "base_2"
    assert chosen("name:anything") == "base_2"
    assert chosen("time:2026-11-10T00:00:00Z") == "base_1"
    assert chosen("time:2026-11-08T03:00:00Z") == "base_1"  # the very instant it finished
    assert chosen("time:2026-11-08T02:59:59Z") == "base_0"  # it was still running then
    assert chosen("lsn:0/12000100") == "base_1"
    assert chosen("lsn:0/120000FF") == "base_0"


def test_the_order_of_the_listing_and_of_the_names_does_not_matter() -> None:
    assert chosen("latest", backups=THREE[::-1]) == "base_2"
    after_upgrade = BaseBackup(
        "base_0000", 7, 18, 1, 1, 2, SUNDAY + timedelta(weeks=9), SUNDAY + timedelta(weeks=9)
    )
    assert chosen("latest", backups=[*THREE, after_upgrade]) == "base_0000"


def test_time_zones_are_understood() -> None:
    assert chosen("time:2026-11-08T04:00:00+01:00") == "base_1"


def test_a_full_name_is_taken_and_nothing_less() -> None:
    assert chosen("latest", "base_0") == "base_0"
    for wrong in ("base_", "base", "base_00", "BASE_0", "", "nonsense"):
        with pytest.raises(ConfigError) as caught:
            chosen("latest", wrong)
        assert caught.value.problem.reason == "unknown-backup"


def test_latest_may_be_written_small() -> None:
    assert chosen("latest", "latest") == "base_2"


@pytest.mark.parametrize("target", ["time:2026-10-01T00:00:00Z", "lsn:0/1"])
def test_a_target_before_every_backup_cannot_be_met(target: str) -> None:
    with pytest.raises(BackupFault) as caught:
        chosen(target)
    assert caught.value.problem.reason == "target-too-old"
    with pytest.raises(ConfigError):
        chosen(target, "base_1")


def test_no_backup_at_all_is_the_backups_fault() -> None:
    with pytest.raises(BackupFault) as caught:
        choose_backup(BaseBackups({}), "LATEST", RecoveryTarget("latest"), "s3://b")
    assert caught.value.problem.reason == "no-backups"


def needed(
    archived: dict[str, int], end: int, timeline: int = 1, history: tuple[TimelineSwitch, ...] = ()
) -> int:
    return _unbroken(THREE[0], ArchivedWal(archived), end, timeline, history, 1 << 24, "s3://b")


def wal(*numbers: int, timeline: int = 1) -> dict[str, int]:
    return {f"{timeline:08X}00000000{number:08X}": 100 for number in numbers}


def test_unbroken_wal_is_counted() -> None:
    assert needed(wal(2, 3, 4), 0x4000100) == 3
    assert needed(wal(1, 2, 3, 4, 5, 9), 0x4000100) == 3


def test_the_first_segment_that_lacks_is_named_and_the_rest_counted() -> None:
    with pytest.raises(BackupFault) as caught:
        needed(wal(2, 4), 0x6000100)
    problem = caught.value.problem
    assert problem.reason == "wal-gap"
    assert "000000010000000000000003" in problem.thing
    assert "3 of 5" in problem.found


def test_an_empty_object_is_told_from_none() -> None:
    with pytest.raises(BackupFault) as caught:
        needed({**wal(2, 4), "000000010000000000000003": 0}, 0x4000100)
    assert caught.value.problem.reason == "wal-empty"


def test_wal_of_another_timeline_does_not_fill_a_gap() -> None:
    with pytest.raises(BackupFault):
        needed({**wal(2, 4), **wal(3, timeline=2)}, 0x4000100)


def test_wal_after_a_switch_is_looked_for_on_the_new_timeline() -> None:
    history = (TimelineSwitch(1, 0x3000500),)
    assert needed({**wal(2), **wal(3, 4, timeline=2)}, 0x4000100, 2, history) == 3
    assert needed({**wal(2, 3), **wal(4, timeline=2)}, 0x4000100, 2, history) == 3
    with pytest.raises(BackupFault):
        needed(wal(2, 3, 4), 0x4000100, 2, history)


def test_a_segment_with_two_objects_is_refused_where_it_is_needed() -> None:
    doubled = {"wal/000000010000000000000002.lz4": 5, "wal/000000010000000000000002.zst": 5}
    with pytest.raises(BackupFault) as caught:
        _unbroken(THREE[0], ArchivedWal(doubled), THREE[0].finish_lsn - 1, 1, (), 1 << 24, "s3://b")
    assert caught.value.problem.reason == "wal-duplicate"
    assert "wal/000000010000000000000002.zst" in caught.value.problem.found
    other = {
        "wal/000000010000000000000002.lz4": 5,
        "wal/000000010000000000000009.lz4": 5,
        "wal/000000010000000000000009.gz": 5,
    }
    assert (
        _unbroken(THREE[0], ArchivedWal(other), THREE[0].finish_lsn - 1, 1, (), 1 << 24, "s3://b")
        == 1
    )
