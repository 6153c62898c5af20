"""A forecast finds the line where drills show one, is cautious where they cannot, and says how sure it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.rto.model import Load, Sample, Span, breaks_at, forecast

GB = 1e9


def sample(base_gb: float, segments: float, vector_gb: float) -> Sample:
    """A drill of a machine whose rates are known."""
    load = Load(base_gb * GB, segments, vector_gb * GB)
    return Sample(load, start=1.5, fetch=0.5 + 4 * base_gb, sync=0.2 * base_gb, redo=0.1 + 0.01 * segments, vectors=0.3 + 2 * vector_gb)


def total(one: Sample) -> float:
    return one.start + one.fetch + one.sync + one.redo + one.vectors


def test_drills_of_several_sizes_show_what_is_fixed_and_what_grows() -> None:
    history = [sample(1, 100, 0.5), sample(2, 300, 0.8), sample(3, 500, 1.5)]
    large = sample(12, 4000, 6)
    found = forecast(history, large.load)
    assert found.correct.likely == pytest.approx(total(large), rel=0.01)
    assert found.running.likely == pytest.approx(total(large) - large.vectors, rel=0.01)


def test_drills_of_one_size_give_the_cautious_value_and_an_interval_that_holds_the_truth() -> None:
    large = sample(4, 4000, 2)
    found = forecast([sample(1, 1000, 0.5)] * 3, large.load)
    assert found.correct.likely >= total(large)
    assert found.correct.low <= total(large) <= found.correct.high


def test_one_drill_is_enough_for_its_own_size() -> None:
    only = sample(5, 700, 2)
    assert forecast([only], only.load).correct.likely == pytest.approx(total(only))


def test_only_the_newest_drills_count() -> None:
    old = Sample(Load(GB, 100, GB), 100, 100, 100, 100, 100)
    history = [old, *[sample(1, 100, 1)] * 10]
    assert forecast(history, sample(1, 100, 1).load).correct.likely == pytest.approx(total(sample(1, 100, 1)))


def test_a_part_without_work_costs_nothing_and_breaks_nothing() -> None:
    nothing = Sample(Load(GB, 0, 0), 1, 4, 0, 0, 0)
    assert forecast([nothing], Load(2 * GB, 0, 0)).correct.likely == pytest.approx(9)


@given(
    st.lists(
        st.tuples(st.floats(0.01, 1e3), st.integers(0, 20_000), st.integers(0, 1000), st.floats(0, 1e4)), min_size=1, max_size=12
    ),
    st.floats(0, 100),
)
def test_no_history_gives_an_interval_without_its_likely_value(
    drills: list[tuple[float, int, int, float]], factor: float
) -> None:
    history = [Sample(Load(base * GB, segments, vectors), 1, seconds, 0, seconds, 1) for base, segments, vectors, seconds in drills]
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
