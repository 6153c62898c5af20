"""A table as a set of rows: what its hashes tell."""

from __future__ import annotations

from collections import Counter

import pytest

from pgdrill.baseline import Changes, TableState
from pgdrill.baseline.copied import Copied, Tally, hash_of
from pgdrill.baseline.state_tables import numbered
from pgdrill.checks.copied import compare

KEY = "ab" * 16


def copied(*rows: str, most: int | None = 100, share: int = 1) -> Copied:
    tally = Tally(most, share)
    for row in rows:
        tally.add(hash_of(row.encode(), KEY))
    return Copied(
        rows=tally.rows,
        digest=f"{tally.total:016x}",
        columns=["a"],
        share=tally.share,
        hashes=sorted(tally.kept),
    )


def state(**changes: int) -> TableState:
    return TableState(
        content=None,
        oid=1,
        bytes=1,
        filenode=1,
        estimated_rows=1,
        counters=Changes(),
        changes=Changes(**changes),
        code="x",
    )


def test_the_order_of_rows_does_not_matter_and_their_number_does() -> None:
    assert copied("a", "b", "b").digest == copied("b", "a", "b").digest
    assert copied("a", "b", "b").digest != copied("a", "a", "b").digest


def test_of_many_rows_a_share_is_kept_that_another_reading_keeps_as_well() -> None:
    rows = [f"row {n}" for n in range(5000)]
    first = copied(*rows, most=1000)
    assert 200 < len(first.hashes) <= 1000
    assert copied(*reversed(rows), most=None, share=first.share).hashes == first.hashes


@pytest.mark.parametrize(
    ("changes", "found", "status"),
    [
        ({}, ("a", "b", "c"), "pass"),
        ({}, ("a", "b", "d"), "fail"),
        ({}, ("a", "b"), "fail"),
        ({"deleted": 1}, ("a", "b"), "pass"),
        ({"inserted": 1}, ("a", "b", "c", "d"), "pass"),
        ({"inserted": 1}, ("a", "b", "d"), "fail"),
        ({"updated": 1}, ("a", "b", "d"), "pass"),
        ({"updated": 1}, ("a", "d", "e"), "fail"),
        ({"inserted": 1, "deleted": 1}, ("a", "d", "e"), "fail"),
    ],
)
def test_what_was_written_bounds_what_may_differ(
    changes: dict[str, int], found: tuple[str, ...], status: str
) -> None:
    before = copied("a", "b", "c")
    assert compare("t", state(**changes), before, copied(*found)).status == status


def test_rows_that_are_alike_are_counted() -> None:
    rows = {7: 2, 9: 1}
    assert numbered(Counter(rows)) == [
        "0000000000000007/0",
        "0000000000000007/1",
        "0000000000000009/0",
    ]
