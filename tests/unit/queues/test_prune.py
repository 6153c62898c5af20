"""Which snapshots stay: hours, then days, and never nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pgdrill.queue_settings import Queue
from pgdrill.queues.prune import decide
from pgdrill.retention.inventory import Dump

NOW = datetime(2026, 11, 30, 12, 30, tzinfo=UTC)
QUEUE = Queue(cluster="agents", hourly=48, daily=35)


def dump(hours: float, damage: str = "") -> Dump:
    return Dump(f"{hours:g}", NOW - timedelta(hours=hours), 1, damage)


def kept(dumps: list[Dump], queue: Queue = QUEUE) -> set[str]:
    return {one.name for one in decide(dumps, queue, NOW) if one.stays}


def test_of_sixty_days_of_hours_48_hours_and_the_newest_of_35_days_stay() -> None:
    dumps = [dump(hours) for hours in range(60 * 24)]
    stay = kept(dumps)
    assert {f"{hours}" for hours in range(48)} <= stay
    assert len(stay) == 48 + 35 - 3, "three of the days have theirs among the hours"
    assert max(map(float, stay)) < 35 * 24


def test_two_of_one_hour_are_one_too_many() -> None:
    assert kept([dump(0.1), dump(0.2)]) == {"0.1"}


def test_what_is_damaged_takes_nobodys_place_and_goes_once_a_good_one_is_newer() -> None:
    assert kept([dump(1, "broken"), dump(0.5)]) == {"0.5"}
    assert kept([dump(1), dump(0.5, "never loaded")]) == {"1", "0.5"}
    assert kept([dump(2, "broken"), dump(1, "broken")]) == {"1", "2"}


def test_a_pause_in_copying_deletes_nothing() -> None:
    old = [dump(24 * 400 + hours) for hours in range(3)]
    assert kept(old) == {one.name for one in old}


def test_one_of_the_future_counts_for_nothing_and_is_not_deleted() -> None:
    assert kept([dump(-5), dump(1)]) == {"-5", "1"}
