"""Age is judged by each job's own schedule, from its finish."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pgdrill.health.ageing import Made, Rhythm, judge_age
from pgdrill.health.promises import judge_leap
from pgdrill.repository.tools.base import BaseBackup

SUNDAY = datetime(2026, 11, 22, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
WEEKLY = Rhythm("base backup", "0 2 * * 0", 6 * 3600, [3600.0, 5400.0])


def made(begun: datetime = SUNDAY, took: timedelta = HOUR) -> Made:
    return Made("base_1", begun, begun + took)


def test_the_next_one_may_take_twice_as_long_as_any_before_and_no_longer() -> None:
    week = timedelta(days=7)
    for later, status in (
        (timedelta(days=6, hours=23), "ok"),
        (week + 2 * HOUR, "ok"),  # the age is more than a period: no alarm of a constant
        (week + 3 * HOUR + timedelta(minutes=1), "warning"),
        (week + 6 * HOUR + timedelta(minutes=1), "critical"),
    ):
        assert judge_age(WEEKLY, made(), SUNDAY + later, "base-backup").status == status, later


def test_a_run_by_hand_puts_the_next_one_off_by_nothing() -> None:
    by_hand = made(SUNDAY + timedelta(days=6))
    assert judge_age(WEEKLY, by_hand, SUNDAY + timedelta(days=7, hours=7), "x").status == "critical"


def test_measure_and_promise_are_seconds_from_the_finish() -> None:
    found = judge_age(WEEKLY, made(), SUNDAY + timedelta(days=1), "x")
    assert (found.value, found.promised) == (23 * 3600.0, (7 * 24 + 3 - 1) * 3600.0)


def test_never_is_red_and_a_schedule_that_is_none_unknown() -> None:
    assert judge_age(WEEKLY, None, SUNDAY, "drill").reason == "drill-never"
    broken = Rhythm("drill", "0 25 * * 5", 60)
    assert judge_age(broken, made(), SUNDAY, "drill").status == "unknown"


def backup(number: int, size: int, minutes: float) -> BaseBackup:
    begun = SUNDAY + timedelta(days=7 * number)
    return BaseBackup(
        f"b{number}", 7, 18, 1, number, number, begun, begun + timedelta(minutes=minutes), size
    )


def test_a_backup_that_leaps_is_told_and_one_that_grows_is_not() -> None:
    before = [backup(n, 1000 + 20 * n, 10) for n in range(5)]
    assert judge_leap(before[:2]).status == "not asked"
    assert judge_leap([*before, backup(6, 1200, 12)]).status == "ok"
    assert judge_leap([*before, backup(6, 300, 10)]).reason == "leap-size"
    assert judge_leap([*before, backup(6, 2000, 10)]).reason == "leap-size"
    assert judge_leap([*before, backup(6, 1100, 40)]).reason == "leap-duration"
