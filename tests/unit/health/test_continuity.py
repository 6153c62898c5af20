"""Archived WAL is followed by listings: what is new, and everything again in steps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pgdrill.health.continuity import (
    FEWEST,
    FIRST_ROUND,
    archived_end,
    merged,
    missing,
    settled,
    step_size,
    take_listing,
)
from pgdrill.health.memory import Memory, Needed, Sample, WalMemory, begun_behind
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES as SIZE
from pgdrill.postgres.wal import Segment
from pgdrill.repository.wal_ranges import Run

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def names(*numbers: int, timeline: int = 1) -> dict[str, int]:
    return {Segment(timeline, number).name: 100 for number in numbers}


def listed(*numbers: int) -> WalMemory:
    memory = WalMemory(whole_at=NOW)
    take_listing(memory, names(*numbers), (0, -1), None)
    return memory


def needed(first: int, newest: int | None = None) -> Needed:
    return Needed(start_lsn=first * SIZE, newest_lsn=(newest or first) * SIZE)


def test_a_segment_that_was_there_and_is_not_any_more_is_missed_at_once() -> None:
    memory = listed(*range(3, 100))
    take_listing(memory, names(*range(3, 20), *range(21, 100)), (0, -1), None)
    found = missing(memory, 1, needed(3))
    assert [(one.first, one.count, one.was_there) for one in found] == [
        (Segment(1, 20).name, 1, True)
    ]
    assert settled(memory, found, NOW, MINUTE) == found


def test_the_newest_one_deleted_is_missed_too_though_nothing_comes_after_it() -> None:
    memory = listed(*range(3, 10))
    take_listing(memory, names(*range(3, 9)), (0, -1), None)
    (found,) = missing(memory, 1, needed(3))
    assert (found.first, found.was_there) == (Segment(1, 9).name, True)


def test_one_that_comes_back_is_missed_no_longer() -> None:
    memory = listed(3, 4, 5)
    take_listing(memory, names(3, 5), (0, -1), None)
    take_listing(memory, names(3, 4, 5), (0, -1), None)
    assert (missing(memory, 1, needed(3)), memory.gone) == ([], [])


def test_what_retention_deletes_before_the_oldest_backup_is_not_missed() -> None:
    memory = listed(*range(3, 50))
    take_listing(memory, names(*range(20, 50)), (0, -1), None)
    assert missing(memory, 1, needed(20)) == []


def test_the_own_wal_of_an_older_kept_backup_is_needed_and_what_lies_between_is_not() -> None:
    memory = listed(3, 4, *range(20, 50))
    wanted = needed(20).model_copy(update={"own": [(1, 3, 4)]})
    assert missing(memory, 1, wanted) == []
    take_listing(memory, names(3, *range(20, 50)), (0, -1), None)
    assert [one.first for one in missing(memory, 1, wanted)] == [Segment(1, 4).name]


def test_a_later_one_that_came_first_leaves_the_one_before_time_to_come() -> None:
    memory = listed(3, 4, 6)
    found = missing(memory, 1, needed(3))
    assert settled(memory, found, NOW, MINUTE) == []
    assert settled(memory, found, NOW + MINUTE / 2, MINUTE) == []
    assert settled(memory, found, NOW + 2 * MINUTE, MINUTE) == found


def test_a_gap_that_lies_far_back_is_told_at_the_first_look() -> None:
    memory = listed(3, 4, *range(6, 200))
    found = missing(memory, 1, needed(3))
    assert [one.was_there for one in settled(memory, found, NOW, MINUTE)] == [False]


def test_an_empty_object_is_missing() -> None:
    memory = WalMemory()
    take_listing(memory, {**names(3, 5), **dict.fromkeys(names(4), 0)}, (0, -1), None)
    assert [one.first for one in missing(memory, 1, needed(3))] == [Segment(1, 4).name]


def test_wal_is_followed_over_a_promotion() -> None:
    memory = WalMemory(histories={2: [(1, 5 * SIZE + 100)]})
    take_listing(memory, {**names(3, 4), **names(5, 6, timeline=2)}, (0, -1), None)
    assert missing(memory, 2, needed(3)) == []
    assert archived_end(memory, 2, needed(3)) == 7 * SIZE


def test_the_archived_end_is_where_the_newest_backup_can_be_followed_to() -> None:
    memory = listed(3, 4, 5, 7, 8)
    assert archived_end(memory, 1, needed(3)) == 6 * SIZE
    assert archived_end(memory, 1, needed(3, 7)) == 9 * SIZE


def test_in_steps_a_segment_of_an_hour_ago_and_one_of_a_month_ago_are_both_found() -> None:
    all_of_them = list(names(*range(1, 200_001)).items())
    memory = WalMemory(whole_at=NOW, swept_at=NOW - 5 * MINUTE)
    take_listing(memory, dict(all_of_them), (0, -1), None)
    gone = {150, 199_900}
    left = [item for number, item in enumerate(all_of_them, 1) if number not in gone]
    at, now, steps = 0, NOW, 0
    while at < len(left):
        step = step_size(memory, now)
        assert step <= 12_000  # spread, not all at once
        part = left[at : at + step]
        after = (1, Segment.parse(left[at - 1][0]).number) if at else (0, -1)
        whole = at + step >= len(left)
        to = None if whole else (1, Segment.parse(part[-1][0]).number)
        take_listing(memory, dict(part), after, to)
        memory.swept_at = now
        at, now, steps = at + step, now + timedelta(minutes=5), steps + 1
    found = missing(memory, 1, needed(1))
    assert [one.first for one in found] == [Segment(1, number).name for number in sorted(gone)]
    assert now - NOW < timedelta(hours=24)


def test_a_step_is_as_large_as_the_time_since_the_last_one_asks() -> None:
    memory = WalMemory(whole_at=NOW, runs=[(1, 1, 5_000_000)], swept_at=NOW)
    assert FEWEST < step_size(memory, NOW + timedelta(minutes=5)) < 21_000
    assert step_size(memory, NOW + timedelta(hours=30)) >= 5_000_000
    assert step_size(memory, NOW - timedelta(hours=1)) == FEWEST  # a clock that was set back
    assert step_size(WalMemory(), NOW) == FIRST_ROUND


@given(
    st.lists(st.sets(st.integers(0, 30), max_size=20), min_size=1, max_size=5), st.integers(1, 7)
)
def test_whatever_is_listed_in_whatever_steps_is_what_is_remembered(
    looks: list[set[int]], step: int
) -> None:
    memory, ever = WalMemory(), set[int]()
    for look in looks:
        ordered = sorted(look)
        at, after = 0, (0, -1)
        while True:
            part = ordered[at : at + step]
            whole = at + step >= len(ordered)
            to = None if whole else (1, part[-1])
            take_listing(memory, names(*part), after, to)
            if whole:
                break
            at, after = at + step, (1, part[-1])
        ever |= look
        assert memory.runs == merged(Run(1, n, n) for n in look)
        assert memory.gone == merged(Run(1, n, n) for n in ever - look)


def sample(minute: int, lsn: int, timeline: int = 1) -> Sample:
    return Sample(at=NOW + minute * MINUTE, timeline=timeline, lsn=lsn, next_xid=lsn)


def test_a_promotion_and_a_restore_begin_the_memory_of_positions_anew() -> None:
    memory = Memory(cluster="agents")
    for one in (sample(1, 100), sample(2, 200), sample(3, 210, timeline=2)):
        memory.add(one)
    assert [one.lsn for one in memory.samples] == [210]
    memory.add(sample(4, 50, timeline=2))
    assert [one.lsn for one in memory.samples] == [50]


def test_the_memory_of_positions_stays_small_and_keeps_its_oldest() -> None:
    memory = Memory(cluster="agents")
    for second in range(2000):
        memory.add(
            Sample(at=NOW + timedelta(seconds=second), timeline=1, lsn=second, next_xid=second)
        )
    assert len(memory.samples) <= 300
    assert memory.samples[0].lsn == 0
    assert begun_behind(memory.samples, 5000).earliest == NOW + timedelta(seconds=1999)
