"""A policy of any length costs no time: matching it takes the square of its length, so a long one
tells of no tenant.
"""

from __future__ import annotations

import time

import pytest

from pgdrill.vectors.columns import LONGEST_POLICY, _is_tenant


@pytest.mark.parametrize("word", ["(", "current_setting('a') ", "((word", "= "])
def test_a_long_policy_is_answered_at_once_and_the_longest_that_is_read_soon(word: str) -> None:
    started = time.process_time()
    assert not _is_tenant("word", word * 4_000_000)
    assert time.process_time() - started < 1
    _is_tenant("word", (word * LONGEST_POLICY)[:LONGEST_POLICY])
    assert time.process_time() - started < 10
