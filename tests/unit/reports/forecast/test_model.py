"""A forecast finds the line where drills show one, is cautious where they cannot, and says how sure
it is.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.reports.forecast.model import SIZES, Load, Part, Sample, Span, breaks_at, forecast

GB = 1e9


def sample(base_gb: float, segments: float, vector_gb: float) -> Sample:
    """A drill of a machine whose rates are known."""
    return Sample(
        Load(base_gb * GB, segments, vector_gb * GB),
        {
            "start": Part(1.5),
            "fetch": Part(0.5, 4 * base_gb),
            "sync": Part(growing=0.2 * base_gb),
            "redo": Part(0.1, 0.01 * segments),
            "prewarm": Part(growing=0.1 * vector_gb),
            "vectors": Part(0.3, 2 * vector_gb),
        },
    )


def all_of_it_growing(one: Sample) -> Sample:
    """The same seconds, of which nobody knows what is fixed."""
    return Sample(one.load, {name: Part(growing=part.at(1)) for name, part in one.parts.items()})


def total(one: Sample, *without: str) -> float:
    return sum(part.at(1) for name, part in one.parts.items() if name not in without)


def test_drills_of_several_sizes_show_what_is_fixed_and_what_grows() -> None:
    history = [
        all_of_it_growing(one)
        for one in (sample(1, 100, 0.5), sample(2, 300, 0.8), sample(3, 500, 1.5))
    ]
    large = sample(12, 4000, 6)
    found = forecast(history, large.load)
    assert found.correct.likely == pytest.approx(total(large), rel=0.01)
    assert found.running.likely == pytest.approx(total(large, "prewarm", "vectors"), rel=0.01)


def test_drills_of_one_size_tell_by_their_own_parts_what_grows() -> None:
    large = sample(4, 4000, 2)
    assert forecast([sample(1, 1000, 0.5)] * 3, large.load).correct.likely == pytest.approx(
        total(large)
    )


def test_where_that_is_not_known_the_value_is_cautious_and_the_interval_reaches_down() -> None:
    large = sample(4, 4000, 2)
    found = forecast([all_of_it_growing(sample(1, 1000, 0.5))] * 3, large.load)
    assert found.correct.low <= total(large) <= found.correct.likely


def test_segments_beyond_those_that_lay_ready_cost_more() -> None:
    part = Part(growing=2.0, from_factor=1.5, beside=5.0)
    assert [part.at(1), part.at(2), part.at(4)] == [2.0, 4.0, 2.5 * 5.0]


def test_one_drill_is_enough_for_its_own_size() -> None:
    only = sample(5, 700, 2)
    assert forecast([only], only.load).correct.likely == pytest.approx(total(only))


def test_only_the_newest_drills_count() -> None:
    old = Sample(Load(GB, 100, GB), {name: Part(100) for name in SIZES})
    history = [old, *[sample(1, 100, 1)] * 10]
    assert forecast(history, sample(1, 100, 1).load).correct.likely == pytest.approx(
        total(sample(1, 100, 1))
    )


def test_a_part_without_work_costs_nothing_and_breaks_nothing() -> None:
    nothing = Sample(
        Load(GB, 0, 0),
        {**{name: Part() for name in SIZES}, "start": Part(1), "fetch": Part(growing=4)},
    )
    assert forecast([nothing], Load(2 * GB, 0, 0)).correct.likely == pytest.approx(9)


@given(
    st.lists(
        st.tuples(
            st.floats(0.01, 1e3), st.integers(0, 20_000), st.integers(0, 1000), st.floats(0, 1e4)
        ),
        min_size=1,
        max_size=12,
    ),
    st.floats(0, 100),
)
def test_no_history_gives_an_interval_without_its_likely_value(
    drills: list[tuple[float, int, int, float]], factor: float
) -> None:
    history = [
        Sample(
            Load(base * GB, segments, vectors),
            {
                "start": Part(1),
                "fetch": Part(1, seconds),
                "sync": Part(),
                "redo": Part(growing=seconds, from_factor=2, beside=seconds),
                "prewarm": Part(),
                "vectors": Part(1, seconds, 1),
            },
        )
        for base, segments, vectors, seconds in drills
    ]
    found = forecast(history, history[-1].load.times(factor))
    for span in (*found.parts.values(), found.running, found.correct):
        assert 0 <= span.low <= span.likely + 1e-9
        assert span.likely <= span.high + 1e-9


def test_independent_doubts_add_up_to_less_than_their_sum() -> None:
    both = Span.sum([Span(1, 4, 7), Span(2, 6, 10)])
    assert both == Span(5, 10, 15)


def test_the_size_at_which_the_rto_breaks_is_found() -> None:
    history = [sample(1, 100, 0.5), sample(3, 500, 1.5)]
    load = sample(2, 300, 1).load
    factor = breaks_at(history, load, 600)
    assert factor is not None
    assert forecast(history, load.times(factor)).correct.likely == pytest.approx(600, rel=0.001)
    assert breaks_at(history, load, 1e9) is None
