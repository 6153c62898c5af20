"""What is fetched next, whatever recovery does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgdrill.recovery.wal_prefetch.window import Window


def test_segments_are_fetched_in_order_and_no_further_than_allowed() -> None:
    window = Window(10, None, 3)
    assert [window.next() for _ in range(4)] == [[10], [11], [12], []]
    window.done(10, ready=True)
    assert window.next() == []
    window.taken(10)
    assert window.next() == [13]


def test_nothing_is_fetched_beyond_the_targets_segment_unless_recovery_asks() -> None:
    window = Window(10, 11, 64)
    assert [window.next() for _ in range(3)] == [[10], [11], []]
    window.wanted(12)
    assert window.next() == [12]
    assert window.next() == []


def test_what_is_absent_ends_the_way_until_recovery_asks_for_it() -> None:
    window = Window(10, None, 5)
    assert window.next() == [10]
    window.done(10, ready=False)
    assert window.next() == []
    window.wanted(10)
    assert window.next() == [10]


def test_many_at_once_are_neighbours() -> None:
    window = Window(10, None, 8)
    window.busy.add(12)
    assert window.next(4) == [10, 11]
    assert window.next(4) == [13, 14, 15, 16]
    assert window.next(4) == [17]


def test_recovery_that_goes_back_gets_what_it_wants_and_the_spool_stays_bounded() -> None:
    window = Window(100, None, 4)
    for _ in range(4):
        window.done(window.next()[0], ready=True)
    window.wanted(50)
    assert window.next() == [50]
    assert window.next() == []  # four lie ready further on
    window.done(50, ready=True)
    window.taken(50)
    assert window.next() == [51]


def test_a_full_disk_makes_the_window_smaller() -> None:
    window = Window(10, None, 64)
    for _ in range(4):
        window.next()
    for number in (10, 11):
        window.done(number, ready=True)
    window.postpone(12)
    window.busy.discard(13)
    assert window.next() == []
    window.taken(10)
    assert window.next() == [12]


@given(
    st.lists(st.sampled_from(["next", "deliver", "take", "back"]), max_size=200), st.integers(1, 8)
)
def test_never_more_than_allowed_lies_ready_or_is_on_its_way(events: list[str], ahead: int) -> None:
    window = Window(20, None, ahead)
    for event in events:
        if event == "next":
            window.next()
        elif event == "deliver" and window.busy:
            window.done(min(window.busy), ready=True)
        elif event == "take" and window.position in window.ready:
            window.taken(window.position)
        elif event == "back":
            window.wanted(max(0, window.position - 3))
        assert not window.ready & window.busy
        # One more than allowed for the segment that recovery waits for, wherever it went back to.
        assert len(window.ready | window.busy) <= ahead + sum(e == "back" for e in events)
