"""State tables and sequences: what lies between two snapshots is allowed, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.baseline import SequenceState
from pgdrill.baseline.state_tables import bracket
from pgdrill.checks import sequence_positions, state_tables
from pgdrill.postgres.row_digests import Horizon

LINE = Horizon(oldest_xid=1000, next_xid=1000, key="00")
OLD, NEW = True, False


def place(row: int, version: int) -> str:
    return f"({row},{version})/{900 + version}"


def rows(
    *there: tuple[int, int], locked: tuple[int, ...] = ()
) -> dict[str, tuple[str, bool, bool]]:
    return {
        place(row, version): (f"h{row}.{version}", OLD, row in locked) for row, version in there
    }


def restored(
    *there: tuple[int, int], new: tuple[tuple[int, int], ...] = ()
) -> dict[str, tuple[str, bool]]:
    return {place(r, v): (f"h{r}.{v}", OLD) for r, v in there} | {
        place(r, v): (f"h{r}.{v}", NEW) for r, v in new
    }


def asked(recorded: object, found: dict[str, tuple[str, bool]]) -> str:
    return state_tables.compare("agents.public.s", recorded, found).status  # type: ignore[arg-type]


def test_a_table_that_nobody_wrote_must_be_the_same() -> None:
    recorded = bracket(rows((1, 1), (2, 1)), rows((1, 1), (2, 1)), LINE)
    assert asked(recorded, restored((1, 1), (2, 1))) == "pass"
    assert asked(recorded, restored((1, 1))) == "fail"
    assert asked(recorded, restored((1, 1), (2, 1), (3, 1))) == "fail"
    assert asked(recorded, {**restored((1, 1)), place(2, 1): ("other", OLD)}) == "fail"


def test_a_table_as_it_was_before_an_update_is_stale() -> None:
    recorded = bracket(rows((1, 2), (2, 1)), rows((1, 2), (2, 1)), LINE)
    outcome = state_tables.compare("agents.public.s", recorded, restored((1, 1), (2, 1)))
    assert (outcome.status, outcome.value) == ("fail", "rows: 1 missing, 1 stale")
    assert "(1,1)" in outcome.message


def test_a_row_written_at_that_very_instant_may_be_either() -> None:
    recorded = bracket(rows((1, 1), (2, 1)), rows((1, 2), (2, 1)), LINE)
    assert asked(recorded, restored((1, 1), (2, 1))) == "pass"
    assert asked(recorded, restored((2, 1), new=((1, 2),))) == "pass"
    assert asked(recorded, restored((1, 1))) == "fail"  # the other row was not written


def test_a_transaction_that_was_committing_at_that_instant_may_be_there_or_not() -> None:
    """Its row is locked in both snapshots, and its new version is in neither."""
    recorded = bracket(rows((1, 1), (2, 1), locked=(1,)), rows((1, 1), (2, 1), locked=(1,)), LINE)
    assert asked(recorded, restored((1, 1), (2, 1))) == "pass"
    assert asked(recorded, restored((2, 1), new=((1, 9),))) == "pass"
    assert asked(recorded, restored((1, 1), new=((1, 9),))) == "fail"


def test_a_large_table_is_kept_as_a_digest_and_only_if_nobody_wrote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pgdrill.baseline.state_tables.LISTED_ROWS", 2)
    many = rows(*((n, 1) for n in range(5)))
    recorded = bracket(many, many, LINE)
    assert recorded.firm is None
    assert asked(recorded, restored(*((n, 1) for n in range(5)))) == "pass"
    assert asked(recorded, restored(*((n, 1) for n in range(4)))) == "fail"
    assert (
        "only up to 2 can be kept" in bracket(many, rows(*((n, 1) for n in range(4))), LINE).unread
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["update", "delete", "insert"])), max_size=30
    ),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_whatever_was_written_a_restore_between_the_snapshots_passes_and_an_older_one_does_not(
    writes: list[tuple[int, str]], one: int, two: int, three: int
) -> None:
    """A history of versions: row -> version, each written by the next transaction."""
    history: list[dict[int, int]] = [dict.fromkeys(range(5), 0)]
    for number, (row, what) in enumerate(writes, 1):
        now = dict(history[-1])
        if what == "delete":
            now.pop(row, None)
        elif (row in now) == (what == "update"):
            now[row] = number
        history.append(now)
    first, point, second = sorted(min(n, len(writes)) for n in (one, two, three))
    line = Horizon(oldest_xid=1000 + first + 1, next_xid=1000 + first + 1, key="00")

    def seen(at: int) -> dict[str, tuple[str, bool, bool]]:
        return {
            f"({r},{v})/{1000 + v}": (f"h{r}.{v}", v <= first, False)
            for r, v in history[at].items()
        }

    recorded = bracket(seen(first), seen(second), line)
    assert asked(recorded, {k: v[:2] for k, v in seen(point).items()}) == "pass"
    for before in range(first):
        if not set(history[before].items()) <= set(history[first].items()) | set(
            history[second].items()
        ):
            assert asked(recorded, {k: v[:2] for k, v in seen(before).items()}) == "fail"


# --- Sequences ---


def sequence(
    value: int, *, called: bool = True, increment: int = 1, later: int | None = None, **more: object
) -> SequenceState:
    return SequenceState.model_validate(
        {
            "value": value,
            "called": called,
            "increment": increment,
            "cache": 1,
            "cycles": False,
            "filenode": 7,
            "later": later,
        }
        | more
    )


@pytest.mark.parametrize(
    ("before", "now", "status"),
    [
        (sequence(100, later=100), sequence(100), "pass"),
        (sequence(100, later=100), sequence(99), "fail"),
        # WAL holds 32 in advance, and the one it gives
        (sequence(100, later=100), sequence(133), "pass"),
        (sequence(100, later=100), sequence(134), "warn"),
        (sequence(100, later=150), sequence(183), "pass"),
        (sequence(100, later=150), sequence(99), "fail"),
        (sequence(100), sequence(5000), "pass"),  # production was not asked again
        (sequence(100), sequence(99), "fail"),
        (sequence(-100, increment=-5, later=-100), sequence(-95, increment=-5), "fail"),
        (sequence(-100, increment=-5, later=-100), sequence(-265, increment=-5), "pass"),
        (sequence(-100, increment=-5, later=-100), sequence(-270, increment=-5), "warn"),
        (sequence(1, called=True, later=1), sequence(1, called=False), "fail"),
        (sequence(100, later=20), sequence(30), "pass"),  # set back on production meanwhile
        (sequence(100, later=2, cycles=True), sequence(1, cycles=True), "pass"),
        (
            sequence(100, later=100),
            sequence(1, filenode=8),
            "fail",
        ),  # restarted, and not on production
        (sequence(100), sequence(1, filenode=8), "warn"),
    ],
)
def test_a_sequence_is_not_behind_and_not_far_ahead(
    before: SequenceState, now: SequenceState, status: str
) -> None:
    outcome = sequence_positions.compare("agents.public.q", before, now)
    assert (outcome.status if outcome else "pass") == status
