"""Five million names as a few runs: read exactly, cut exactly."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pgdrill.postgres.wal import Segment
from pgdrill.repository.wal_ranges import Run, Wal, below, parse_wal, subtract

SIZES = st.sampled_from([2**20, 16 * 2**20, 64 * 2**20, 2**30])
POSITIONS = st.sets(
    st.tuples(
        st.integers(1, 3) | st.just(0xFFFFFFFF), st.integers(1, 30) | st.integers(2**33, 2**33 + 9)
    )
)
RUNS = st.sets(st.tuples(st.integers(1, 3), st.integers(1, 30)))


def spread(runs: tuple[Run, ...] | list[Run]) -> list[tuple[int, int]]:
    return [(run.timeline, number) for run in runs for number in range(run.first, run.last + 1)]


def runs_of(positions: set[tuple[int, int]]) -> tuple[Run, ...]:
    return parse_wal({Segment(*position).name: 10 for position in positions})


@given(POSITIONS, SIZES, st.randoms())
def test_names_are_read_as_they_were_written(
    positions: set[tuple[int, int]], size: int, random: object
) -> None:
    fitting = [(timeline, number) for timeline, number in positions if number < 2**64 // size]
    random.shuffle(fitting)  # type: ignore[attr-defined]
    runs = parse_wal({Segment(*position, size).name: position[1] for position in fitting}, size)
    assert spread(runs) == sorted(fitting)
    assert sum(run.stored_bytes for run in runs) == sum(number for _, number in fitting)
    assert all(
        a.timeline != b.timeline or a.last + 1 < b.first for a, b in itertools.pairwise(runs)
    )
    assert [Wal(runs, {}, size).name(p) for p in spread(runs)] == sorted(
        Segment(*p, size).name for p in fitting
    )


def test_an_empty_object_is_no_segment_and_a_history_file_neither() -> None:
    sizes = {
        Segment(1, 1).name: 5,
        Segment(1, 2).name: 0,
        Segment(1, 3).name: 7,
        "00000002.history": 40,
    }
    assert parse_wal(sizes) == (Run(1, 1, 1, 5), Run(1, 3, 3, 7))
    assert parse_wal({"00000002.history": 40}) == ()
    assert parse_wal({Segment(1, 2).name: 0}) == ()


@given(RUNS, RUNS)
def test_what_is_subtracted_is_gone_and_nothing_else(
    positions: set[tuple[int, int]], cut: set[tuple[int, int]]
) -> None:
    left = list(subtract(runs_of(positions), runs_of(cut)))
    assert spread(left) == sorted(positions - cut)
    assert sum(run.stored_bytes for run in left) == 10 * len(positions - cut)


@given(RUNS, RUNS, st.tuples(st.integers(1, 3), st.integers(1, 30)))
def test_below_a_cut_is_what_has_a_lower_name(
    positions: set[tuple[int, int]], keep: set[tuple[int, int]], cut: tuple[int, int]
) -> None:
    gone = below(Wal(runs_of(positions)), cut, runs_of(keep))
    assert spread(gone) == sorted(
        p for p in positions - keep if Segment(*p).name < Segment(*cut).name
    )


@given(RUNS, st.integers(1, 3), st.integers(1, 30), st.integers(0, 5))
def test_a_span_is_held_if_every_segment_of_it_is(
    positions: set[tuple[int, int]], timeline: int, first: int, more: int
) -> None:
    wal = Wal(runs_of(positions))
    assert wal.holds(timeline, first, first + more) == all(
        (timeline, n) in positions for n in range(first, first + more + 1)
    )
    assert wal.count == len(positions)
