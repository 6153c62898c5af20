"""Bounds of a loss of recall, and neighbours beside the baseline's."""

from __future__ import annotations

from pgdrill.vectors.index_search import hits
from pgdrill.vectors.neighbour_comparison import Comparison
from pgdrill.vectors.recall import paired_loss, unpaired_loss, wilson


def test_the_same_recalls_lose_nothing_for_certain() -> None:
    loss = paired_loss([0.9, 1.0, 0.8] * 10, [0.9, 1.0, 0.8] * 10)
    assert loss
    assert (loss.mean, loss.lowest, loss.highest) == (0, 0, 0)


def test_a_loss_on_every_probe_is_certain_and_one_on_a_single_probe_is_not() -> None:
    every = paired_loss([1.0] * 50, [0.9] * 25 + [0.8] * 25)
    single = paired_loss([1.0] * 50, [0.0] + [1.0] * 49)
    assert every
    assert every.lowest > 0.02
    assert single
    assert single.lowest < 0.02 < single.highest


def test_too_few_pairs_say_nothing() -> None:
    assert paired_loss([1.0] * 4, [0.0] * 4) is None


def test_other_probes_are_compared_by_wilson_intervals() -> None:
    assert unpaired_loss(480, 500, 470, 500).lowest < 0.02
    assert unpaired_loss(480, 500, 300, 500).lowest > 0.02
    low, high = wilson(9, 10)
    assert 0.6 < low < 0.9 < high < 1
    assert wilson(0, 0) == (0.0, 1.0)


def test_whatever_is_as_near_as_the_farthest_neighbour_counts_as_found() -> None:
    assert hits([0.0, 1.0, 2.0, 2.0000001], [0.0, 1.0, 2.0, 2.0], "<->", 1.0, 8) == 4
    assert hits([0.0, 2.0, 2.1, 2.2], [0.0, 1.0, 2.0, 2.0], "<->", 1.0, 8) == 2
    assert hits([3.0, 4.0], [3.0, 3.0], "<~>", 1.0, 8) == 1
    assert hits([], [1.0], "<->", 1.0, 8) == 0


def compared(
    before: dict[str, float], now: dict[str, float], present: set[str] | None = None, k: int = 3
) -> Comparison:
    result = Comparison()
    result.add(before, now, present if present is not None else set(before) | set(now), k, 1e-6)
    return result


BEFORE = {"a": 0.0, "b": 1.0, "c": 2.0}


def test_the_same_neighbours_are_right_and_so_is_another_at_the_same_distance() -> None:
    assert not compared(BEFORE, dict(BEFORE)).wrong
    assert not compared(BEFORE, {"a": 0.0, "b": 1.0, "d": 2.0}).wrong


def test_a_row_that_came_nearer_moved_away_or_changed_its_distance_is_wrong() -> None:
    assert compared(BEFORE, {"a": 0.0, "x": 0.5, "b": 1.0}).wrong == ["x: nearer than it was"]
    assert compared(BEFORE, {"a": 0.0, "b": 1.1, "c": 2.0}).wrong == ["b: distance 1.1, was 1"]
    assert compared(BEFORE, {"a": 0.0, "c": 2.0, "d": 2.5}).wrong == ["b: farther than it was"]


def test_a_row_that_is_gone_lets_the_next_one_in() -> None:
    result = compared(BEFORE, {"a": 0.0, "c": 2.0, "d": 2.5}, present={"a", "c", "d"})
    assert (result.wrong, result.gone) == ([], {"b"})


def test_a_stable_row_that_appears_where_all_were_listed_is_wrong() -> None:
    assert compared({"a": 0.0}, {"a": 0.0, "b": 9.0}).wrong == ["b: nearer than it was"]
