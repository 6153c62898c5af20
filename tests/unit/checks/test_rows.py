"""A restored table against its record: the first rule that applies answers, and no doubt is a
pass."""

from __future__ import annotations

import pytest

from pgdrill.baseline import Changes, TableState
from pgdrill.checks.shares import share_of
from pgdrill.checks.tables import compare
from pgdrill.postgres.row_digests import Content, SampleAnswer, Shares

NOTHING = Changes()
SAMPLE = {f"({n},1)/700": "h" for n in range(50)}


def content(rows: int = 100, stable: int = 100, digest: str = "d1") -> Content:
    return Content(rows=rows, stable_rows=stable, digest=digest)


def asked(
    recorded: Content | None,
    changes: Changes | None,
    found: Content | None,
    sampled: SampleAnswer | None = None,
) -> str:
    state = TableState(
        content=recorded,
        oid=1,
        bytes=1,
        filenode=1,
        estimated_rows=100,
        sample=SAMPLE if sampled else {},
        counters=NOTHING,
        changes=changes,
        settled=changes is not None,
    )
    outcome = compare("agents.public.t", state, found, sampled)
    assert outcome.thing == "agents.public.t"
    return outcome.status


def test_the_same_table_passes() -> None:
    assert asked(content(), NOTHING, content()) == "pass"


def test_a_table_that_is_gone_fails() -> None:
    assert asked(content(), NOTHING, None) == "fail"
    assert asked(None, None, None) == "fail"


@pytest.mark.parametrize(
    ("changes", "fewest", "most"),
    [
        (NOTHING, 100, 100),
        (Changes(inserted=5), 100, 105),
        (Changes(deleted=5), 95, 100),
        (Changes(inserted=3, updated=9, deleted=200), 0, 103),
    ],
)
def test_the_counters_bound_the_number_of_rows(changes: Changes, fewest: int, most: int) -> None:
    assert asked(content(), changes, content(rows=fewest)) == "pass"
    assert asked(content(), changes, content(rows=most)) == "pass"
    assert asked(content(), changes, content(rows=most + 1)) == "fail"
    if fewest:
        assert asked(content(), changes, content(rows=fewest - 1)) == "fail"


def test_other_content_of_a_table_nobody_touched_fails() -> None:
    assert asked(content(), NOTHING, content(digest="d2")) == "fail"
    # inserts touch no stable row
    assert asked(content(), Changes(inserted=10), content(rows=105, digest="d2")) == "fail"


def test_more_rows_gone_than_were_updated_or_deleted_fails() -> None:
    assert (
        asked(
            content(),
            Changes(updated=10),
            content(stable=89, digest="d2"),
            SampleAnswer(50, [], []),
        )
        == "fail"
    )
    assert (
        asked(
            content(),
            Changes(updated=10),
            content(stable=101, digest="d2"),
            SampleAnswer(50, [], []),
        )
        == "fail"
    )


def test_a_row_at_its_place_with_other_content_fails_whatever_else_is_true() -> None:
    changed = SampleAnswer(50, ["(7,1)/700"], [])
    for changes in (NOTHING, None, Changes(updated=100)):
        assert asked(content(), changes, content(digest="d2"), changed) == "fail"
        assert asked(None, changes, content(), changed) == "fail"


def test_a_busy_table_is_told_by_its_sample_of_rows_that_production_still_has() -> None:
    busy = Changes(updated=10)
    assert (
        asked(content(), busy, content(stable=95, digest="d2"), SampleAnswer(90, [], [])) == "pass"
    )
    assert (
        asked(content(), busy, content(stable=95, digest="d2"), SampleAnswer(90, [], ["(3,1)/700"]))
        == "fail"
    )
    # Those are of the second snapshot, so no counter is needed to tell.
    assert (
        asked(content(), None, content(stable=95, digest="d2"), SampleAnswer(90, [], ["(3,1)/700"]))
        == "fail"
    )
    assert (
        asked(content(), None, content(stable=95, digest="d2"), SampleAnswer(90, [], [])) == "warn"
    )


def test_a_table_that_production_dropped_meanwhile_may_be_missing() -> None:
    state = TableState(
        content=content(),
        oid=1,
        bytes=1,
        filenode=1,
        estimated_rows=100,
        counters=NOTHING,
        dropped=True,
    )
    assert compare("agents.public.t", state, None, None).status == "pass"
    assert compare("agents.public.t", state, content(digest="d2"), None).status == "warn"


def test_a_small_table_is_sampled_whole_and_a_large_one_in_as_many_blocks_as_rows() -> None:
    assert Shares.of(100, 5_000, 20_000) == Shares(1.0, 1.0)
    huge = Shares.of(442_478, 100_000_000, 20_000)
    assert huge.blocks * 442_478 == pytest.approx(20_000)
    assert huge.blocks * huge.rows * 100_000_000 == pytest.approx(20_000)
    unknown = Shares.of(442_478, 0, 20_000)
    assert 0 < unknown.rows < 1


def test_what_could_not_be_compared_is_no_pass() -> None:
    assert asked(content(), None, content(digest="d2")) == "warn"  # the counters were reset
    # no sample
    assert asked(content(), Changes(updated=10), content(stable=95, digest="d2")) == "warn"
    assert asked(None, NOTHING, content()) == "warn"  # too large to read


@pytest.mark.parametrize(
    ("since", "rows", "answer"),
    [
        (None, 0, "warn"),  # nothing bounds it
        (NOTHING, 100, "warn"),
        (NOTHING, 99, "skip"),
        (NOTHING, 0, "skip"),
        (Changes(deleted=60), 50, "warn"),
        (Changes(inserted=9), 110, "skip"),
    ],
)
def test_of_a_table_rewritten_since_too_few_or_too_many_rows_are_no_green_where_counters_tell(
    since: Changes | None, rows: int, answer: str
) -> None:
    state = TableState(
        content=content(),
        oid=1,
        bytes=1,
        filenode=1,
        estimated_rows=100,
        counters=NOTHING,
        since=since,
        refiled=True,
        settled=True,
    )
    assert compare("t", state, content(rows=rows, stable=rows, digest="d2"), None).status == answer


def test_a_table_altered_since_is_counted_as_long_as_it_has_its_file() -> None:
    state = TableState(
        content=content(),
        oid=1,
        bytes=1,
        filenode=1,
        estimated_rows=100,
        counters=NOTHING,
        since=Changes(deleted=5),
        settled=True,
    )
    assert compare("t", state, content(rows=95, stable=95, digest="d2"), None).status == "warn"
    assert compare("t", state, content(rows=50, stable=50, digest="d2"), None).status == "fail"
    found = content(rows=95, stable=95, digest="d2")
    assert share_of(state, found, compare("t", state, found, None), moved=False).counted == 95


def test_rows_too_new_for_the_digest_that_are_gone_are_no_pass_where_nothing_bounds_them() -> None:
    state = TableState(
        content=content(rows=400, stable=0),
        oid=1,
        bytes=1,
        filenode=1,
        estimated_rows=400,
        counters=NOTHING,
    )
    assert compare("t", state, content(rows=400, stable=0), None).status == "pass"
    assert compare("t", state, content(rows=0, stable=0), None).status == "warn"


@pytest.mark.parametrize(
    ("since", "answer"), [(None, "warn"), (NOTHING, "skip"), (Changes(deleted=100), "warn")]
)
def test_a_table_too_large_to_be_read_that_came_back_empty_is_told(
    since: Changes | None, answer: str
) -> None:
    state = TableState(
        content=None,
        oid=1,
        bytes=1,
        filenode=1,
        estimated_rows=100,
        counters=NOTHING,
        since=since,
        changes=since,
    )
    outcome = compare("t", state, content(rows=0, stable=0), None)
    assert outcome.status == answer
    assert share_of(state, content(rows=0, stable=0), outcome, moved=False).not_compared == 100


@pytest.mark.parametrize(
    ("rows", "deleted", "answer"),
    [(100, 0, "warn"), (50, 0, "skip"), (0, 0, "skip"), (50, 40, "warn")],
)
def test_of_a_table_that_could_not_be_read_what_was_deleted_before_is_allowed_for(
    rows: int, deleted: int, answer: str
) -> None:
    state = TableState(
        content=None,
        missed="truncated",
        oid=1,
        bytes=1,
        filenode=1,
        estimated_rows=100,
        counters=NOTHING,
        since=Changes(deleted=deleted),
    )
    found = content(rows=rows, stable=rows)
    outcome = compare("t", state, found, None)
    assert outcome.status == answer
    assert share_of(state, found, outcome, moved=False).not_compared == 100
