"""Which instants can be restored: pure rules over backups, segments and timelines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pgdrill.postgres.wal import Segment, TimelineSwitch
from pgdrill.repository.lineage import stretches
from pgdrill.repository.restorable_window import TICK, Line, Span, draw, newest_first
from pgdrill.repository.tools import BaseBackup

SUNDAY = datetime(2026, 11, 1, 2, tzinfo=UTC)
SIZE = 1 << 24


def backup(first: int, last: int | None = None, timeline: int = 1, name: str = "") -> BaseBackup:
    """One that starts in segment ``first`` and ends in ``last``; a later one finishes later."""
    last = first if last is None else last
    return BaseBackup(
        name or f"base_{first}",
        7,
        18,
        timeline,
        first * SIZE + 40,
        last * SIZE + 256,
        SUNDAY,
        SUNDAY + timedelta(hours=last),
    )


def wal(*numbers: int, timeline: int = 1) -> dict[str, int]:
    return {Segment(timeline, number).name: 100 for number in numbers}


def found(
    backups: list[BaseBackup], archived: dict[str, int], line: Line | None = None
) -> list[tuple[int, int, list[str]]]:
    """First and last segment of each stretch, and its backups."""
    line = line or Line(1)
    made = stretches(line.wal(archived), line.wal(archived).path(line.timeline), backups)
    shown = [[segment.number for segment in newest_first(line, one, archived)] for one in made]
    return [
        (numbers[-1], numbers[0], [b.name for b in one.backups])
        for numbers, one in zip(shown, made, strict=True)
    ]


def test_unbroken_wal_behind_a_backup_is_one_run() -> None:
    assert found([backup(2)], wal(1, 2, 3, 4)) == [(2, 4, ["base_2"])]
    assert found([backup(2), backup(4)], wal(2, 3, 4, 5)) == [(2, 5, ["base_2", "base_4"])]


def test_a_gap_begins_another_run_that_needs_a_backup_of_its_own() -> None:
    assert found([backup(2), backup(6)], wal(2, 3, 5, 6, 7)) == [
        (2, 3, ["base_2"]),
        (5, 7, ["base_6"]),
    ]
    assert found([backup(2)], wal(2, 3, 5, 6)) == [(2, 3, ["base_2"])]


def test_an_empty_object_is_a_gap() -> None:
    assert found([backup(2)], {**wal(2, 3, 5), Segment(1, 4).name: 0}) == [(2, 3, ["base_2"])]


def test_a_backup_whose_own_wal_is_not_whole_begins_nothing() -> None:
    assert found([backup(2, 4)], wal(2, 4, 5)) == []
    assert found([backup(2, 4), backup(5)], wal(2, 4, 5)) == [(4, 5, ["base_5"])]
    assert found([backup(2)], {}) == []
    assert found([], wal(2)) == []


def test_a_failover_is_no_gap() -> None:
    line = Line(2, (TimelineSwitch(1, 4 * SIZE + 500),))
    assert found([backup(2)], {**wal(2, 3), **wal(4, 5, timeline=2)}, line) == [(2, 5, ["base_2"])]


def test_the_old_timelines_file_ends_what_the_new_one_does_not_go_on_with() -> None:
    line = Line(2, (TimelineSwitch(1, 4 * SIZE + 500),))
    archived = {**wal(2, 3, 4), **wal(5, timeline=2)}
    assert found([backup(2)], archived, line) == [(2, 4, ["base_2"])]


def test_what_was_written_on_a_branch_that_nobody_follows_is_no_part_of_the_window() -> None:
    line = Line(2, (TimelineSwitch(1, 4 * SIZE + 500),))
    archived = {**wal(2, 3, 4, 5, 6), **wal(4, timeline=2)}
    assert found([backup(2), backup(5, name="stray")], archived, line) == [(2, 4, ["base_2"])]
    assert found([backup(2)], {**wal(2, 3), **wal(2, 3, 4, timeline=3)}) == [(2, 3, ["base_2"])]


def span(start_hours: float, end_hours: float, *backups: BaseBackup) -> Span:
    return Span(SUNDAY + timedelta(hours=start_hours), SUNDAY + timedelta(hours=end_hours), backups)


def test_the_newest_backup_that_had_finished_by_then_is_taken() -> None:
    one = span(1, 9, backup(1), backup(4))
    assert one.backup_for(SUNDAY + timedelta(hours=3)).name == "base_1"
    assert one.backup_for(SUNDAY + timedelta(hours=4)).name == "base_4"
    behind = Span(one.start, one.end, one.backups, allowance=timedelta(seconds=30))
    assert behind.backup_for(SUNDAY + timedelta(hours=4, seconds=29)).name == "base_1"


SPANS = st.lists(st.tuples(st.floats(0, 1000), st.floats(1e-6, 500)), min_size=1, max_size=5)


@given(SPANS, st.text(max_size=30))
def test_every_drawn_instant_lies_in_its_span_and_comes_again_for_the_same_seed(
    parts: list[tuple[float, float]], seed: str
) -> None:
    spans = [span(start, start + length) for start, length in parts]
    chosen, instant = draw(spans, seed)
    assert chosen in spans
    assert chosen.start <= instant <= chosen.end - TICK
    assert draw(spans, seed) == (chosen, instant)


def test_instants_are_drawn_evenly_over_time_and_not_over_spans() -> None:
    spans = [span(0, 1), span(10, 19)]
    drawn = [draw(spans, f"drill-{n}")[1] for n in range(2000)]
    short = sum(instant < SUNDAY + timedelta(hours=1) for instant in drawn)
    assert 140 < short < 260  # a tenth of 2000, give or take four standard deviations
    last = sum(instant >= SUNDAY + timedelta(hours=18) for instant in drawn)
    assert 140 < last < 260
