"""The rate of false alarms: of each question, and of a whole drill, counted out and not only
estimated.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgdrill.vectors.chance import (
    FALSE_ALARMS,
    KINDS_OF_QUESTION,
    as_lopsided,
    as_uneven,
    at_least,
    share_of,
)
from pgdrill.vectors.recall import paired_loss, unpaired_loss

SHARES = st.floats(0.001, 0.5)
MOST = st.floats(1e-6, 0.05)


def binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@given(n=st.integers(1, 60), p=SHARES)
def test_the_tail_is_the_sum_of_what_is_beyond(n: int, p: float) -> None:
    for k in range(n + 2):
        assert at_least(k, n, p) == pytest.approx(
            sum(binomial(i, n, p) for i in range(k, n + 1)), abs=1e-9
        )


@settings(max_examples=60)
@given(n=st.integers(1, 200), p=SHARES, most=MOST)
def test_red_by_the_binomial_bound_is_no_likelier_than_its_share(
    n: int, p: float, most: float
) -> None:
    alarms = sum(binomial(k, n, p) for k in range(n + 1) if at_least(k, n, p) <= most)
    assert alarms <= most * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 30), m=st.integers(1, 30), p=SHARES, most=MOST)
def test_red_by_comparing_two_samples_is_no_likelier_whatever_both_fail_by(
    n: int, m: int, p: float, most: float
) -> None:
    alarms = sum(
        binomial(now, n, p) * binomial(before, m, p)
        for now in range(n + 1)
        for before in range(m + 1)
        if as_uneven(now, n, before, m) <= most
    )
    assert alarms <= most * (1 + 1e-9)


@settings(max_examples=60)
@given(differing=st.integers(0, 100), most=MOST)
def test_red_by_the_same_probes_is_no_likelier_if_either_way_is_as_likely(
    differing: int, most: float
) -> None:
    alarms = sum(
        binomial(k, differing, 0.5)
        for k in range(differing + 1)
        if as_lopsided(k, differing - k) <= most
    )
    assert alarms <= most * (1 + 1e-9)


@given(searches=st.integers(0, 500))
def test_all_questions_of_a_drill_together_keep_below_one_in_a_thousand(searches: int) -> None:
    assert KINDS_OF_QUESTION * searches * share_of(searches) <= FALSE_ALARMS * (1 + 1e-9)


def test_what_used_to_be_red_by_chance() -> None:
    """Figures of docs/explanation/false-alarms.md: five rows of four hundred find nothing on the
    living production.
    """
    blind = 5 / 400
    # three probes: one drill in 27 for each table, 1 in 14 for two
    assert 1 - (1 - blind) ** 3 == pytest.approx(0.037, abs=5e-4)
    # two of fifty rows not found were red
    assert at_least(2, 50, 0.01) == pytest.approx(0.089, abs=5e-4)
    # now eleven of two hundred
    assert at_least(11, 200, 0.01) < share_of(20) < at_least(9, 200, 0.01)


def test_few_probes_that_differ_by_chance_are_told_from_a_loss() -> None:
    few = paired_loss([1.0] * 10, [0.9] * 3 + [1.0] * 7)
    every = paired_loss([1.0] * 50, [0.4] * 40 + [1.0] * 10)
    assert few
    assert every
    assert few.luck == pytest.approx(1 / 8)
    assert every.luck < share_of(100)
    # a probe's ten neighbours are one observation
    assert unpaired_loss(480, 500, 470, 500).luck > 0.3
    assert unpaired_loss(480, 500, 100, 500).luck < share_of(100)


def test_impossible_counts_are_no_alarm() -> None:
    assert at_least(0, 0, 0.5) == 1.0
    assert at_least(5, 4, 0.5) == 0.0
    assert at_least(1, 3, 1.0) == 1.0
    assert as_uneven(0, 10, 3, 10) == 1.0
