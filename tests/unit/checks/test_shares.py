"""What is said of how much was compared, and what two snapshots around a restore point allow."""

from __future__ import annotations

import pytest

from pgdrill.baseline import Changes, TableState
from pgdrill.baseline.bracket import settled_below
from pgdrill.checks.shares import share_of
from pgdrill.checks.tables import compare
from pgdrill.postgres.row_digests import Content, parts_for
from pgdrill.reports.model import Compared, Share

Parts = list[tuple[int, int, int]]


def content(*parts: tuple[int, int, int], newer: int = 0) -> Content:
    stable, placed, loose = (sum(column) for column in zip(*parts, strict=True))
    return Content(
        rows=stable + newer,
        stable_rows=stable,
        digest=f"{placed:016x}",
        loose=f"{loose:016x}",
        parts=list(parts),
    )


BEFORE = content((10, 111, 1), (10, 222, 2))
AFTER = content((8, 99, 9), (10, 222, 2))


def table(later: Content | None = AFTER, *, changes: Changes | None = None) -> TableState:
    return TableState(
        content=BEFORE,
        later=later,
        bracketed=True,
        oid=1,
        bytes=1000,
        filenode=1,
        read_filenode=1,
        estimated_rows=20,
        counters=Changes(),
        changes=changes,
        settled=True,
    )


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (BEFORE, "pass"),
        (AFTER, "pass"),
        (content((9, 105, 5), (10, 222, 2)), "pass"),  # one of the two had gone by then
        (content((9, 105, 5), (10, 223, 2)), "fail"),  # in the other part nobody touched a row
        (content((9, 105, 5), (9, 200, 1)), "fail"),
        (content((8, 98, 9), (10, 222, 2)), "fail"),  # as many as afterwards, and not those
        (content((7, 90, 8), (10, 222, 2)), "fail"),
        (content((11, 120, 11), (10, 222, 2)), "fail"),
    ],
)
def test_a_part_is_what_one_snapshot_saw_or_lies_between_both(found: Content, answer: str) -> None:
    # whatever the counters allow
    for changes in (None, Changes(updated=1000, deleted=1000, inserted=1000)):
        assert compare("t", table(changes=changes), found, None).status == answer, found


def test_a_table_that_was_rewritten_is_compared_as_a_set() -> None:
    elsewhere = content((10, 777, 1), (10, 888, 2))
    assert compare("t", table(None), elsewhere, None, moved=True).status == "pass"
    assert compare("t", table(None), elsewhere, None).status == "fail"
    assert (
        compare("t", table(None), content((10, 777, 1), (10, 888, 3)), None, moved=True).status
        == "fail"
    )


def test_a_table_that_was_seen_right_after_the_restore_point_may_not_be_missing_though_it_was_dropped_since() -> (  # noqa: E501
    None
):
    state = table().model_copy(update={"dropped": True})
    assert compare("t", state, None, None).status == "fail"
    assert compare("t", state.model_copy(update={"bracketed": False}), None, None).status == "pass"


def test_rows_of_a_part_that_was_being_written_to_and_newer_rows_are_counted_and_no_more() -> None:
    found = content((9, 105, 5), (10, 222, 2), newer=1)
    outcome = compare("t", table(), found, None)
    share = share_of(table(), found, outcome, moved=False)
    assert (share.exact, share.counted, share.sampled, share.not_compared) == (10, 10, 0, 0)
    assert (share.exact_bytes, share.counted_bytes) == (500, 500)


def test_shares_add_up_and_are_never_rounded_to_all_or_none() -> None:
    together = Compared()
    assert str(together) == "no rows"
    together.add(Share.of(99_999, 10**9, exact=99_999))
    assert str(together) == "exactly 100 % of rows, 100 % of bytes"
    together.add(Share.sampled_of(1, 1))
    assert (
        str(together)
        == "exactly 99.99 % of rows, 99.99 % of bytes; by sample 0.01 % of rows, 0.01 % of bytes"
    )
    together.add(Share.nothing(100_000, 10**9))
    assert str(together).endswith("not at all 50.00 % of rows, 50.00 % of bytes")
    assert Share.of(0, 8192).exact_bytes == 8192


@pytest.mark.parametrize(
    ("before", "after", "settled"),
    [
        ("100:100:", "100:100:", 100),
        ("100:105:", "108:108:", 105),
        # both were still running: nobody saw a row of theirs
        ("90:105:90,101", "90:108:90,101,106", 105),
        ("90:105:90,101", "90:108:90", 101),
        ("90:105:90,101", "107:108:107", 90),
    ],
)
def test_transactions_that_may_have_ended_between_two_snapshots_are_not_settled(
    before: str, after: str, settled: int
) -> None:
    assert settled_below(before, after) == settled


def test_parts_are_a_power_of_two_with_rows_enough_in_each() -> None:
    for rows in (0, 1, 64, 1000, 8145, 10**6, 10**9):
        parts = parts_for(rows)
        assert parts & (parts - 1) == 0
        assert 1 <= parts <= 256
        assert parts == 1 or rows / parts >= 64
