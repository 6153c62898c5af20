"""What is looked at before a segment is delivered: every page's header, and nothing behind the last
page.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgdrill.postgres.wal import Segment
from pgdrill.recovery.wal_prefetch.page_check import ALIGNMENT, Damaged, Origin, PageCheck
from pgdrill.repository.decoders import aligned
from tests.walpages import MAJOR, PAGE, SYSTEM, segment_bytes

MB = 2**20
SEGMENT = Segment(2, 5, MB)
ORIGIN = Origin(SYSTEM, MAJOR, frozenset({1, 2}))
GOOD = segment_bytes(SEGMENT, 20)


def used(
    content: bytes, segment: Segment = SEGMENT, origin: Origin = ORIGIN, piece: int = ALIGNMENT
) -> int:
    """Bytes in use, looked at piece by piece."""
    check = PageCheck(segment, origin)
    total = sum(
        check.used_bytes(p)
        for p in aligned((content[n : n + piece] for n in range(0, len(content), piece)), ALIGNMENT)
    )
    check.finish()
    return total


@pytest.mark.parametrize("pages", [1, 7, 8, 9, 16, 127, 128])
@pytest.mark.parametrize("piece", [4096, ALIGNMENT, 3 * ALIGNMENT, MB])
def test_a_good_segment_is_as_long_as_its_pages(pages: int, piece: int) -> None:
    assert used(segment_bytes(SEGMENT, pages), piece=piece) == pages * PAGE


@pytest.mark.parametrize("size", [MB, 16 * MB, 64 * MB])
def test_segments_have_the_size_their_cluster_was_made_with(size: int) -> None:
    segment = Segment(1, 3, size)
    assert used(segment_bytes(segment, 5), segment) == 5 * PAGE
    other = Segment(1, 3 * size // MB, MB)  # the same position
    with pytest.raises(Damaged, match="segment_bytes"):
        used(segment_bytes(Segment(1, 3, size * 2), 5), segment)
    if size != MB:
        with pytest.raises(Damaged):
            used(segment_bytes(segment, 5), other)


def test_a_segment_in_which_timelines_change_holds_pages_of_both() -> None:
    assert used(segment_bytes(SEGMENT, 9, timelines={0: 1, 4: 2}))
    with pytest.raises(Damaged, match="timeline"):
        used(segment_bytes(SEGMENT, 9, timelines={0: 2, 4: 1}))


def test_a_timeline_that_is_not_on_the_way_is_refused_if_the_way_is_known() -> None:
    strange = segment_bytes(Segment(3, 5, MB), 4, timelines={0: 2})
    with pytest.raises(Damaged, match="timeline"):
        used(strange, Segment(3, 5, MB), Origin(SYSTEM, MAJOR, frozenset({1, 3})))
    assert used(strange, Segment(3, 5, MB), Origin(SYSTEM, MAJOR, frozenset()))
    with pytest.raises(Damaged, match="timeline"):
        used(
            segment_bytes(Segment(3, 5, MB), 4),
            Segment(2, 5, MB),
            Origin(SYSTEM, MAJOR, frozenset()),
        )


@pytest.mark.parametrize(
    ("segment", "origin", "word"),
    [
        (Segment(2, 6, MB), ORIGIN, "address"),
        (SEGMENT, Origin(SYSTEM + 1, MAJOR, frozenset({2})), "system"),
        (SEGMENT, Origin(SYSTEM, 17, frozenset({2})), "magic"),
    ],
)
def test_another_place_cluster_or_major_version_is_told_by_the_first_page(
    segment: Segment, origin: Origin, word: str
) -> None:
    with pytest.raises(Damaged, match=word):
        used(GOOD, segment, origin)


def test_a_major_version_that_is_not_known_yet_is_taken_at_its_word() -> None:
    assert used(GOOD, SEGMENT, Origin(SYSTEM, 99, frozenset({2}))) == 20 * PAGE


@pytest.mark.parametrize("size", [1, PAGE, MB // 2, MB - PAGE, MB - 1, MB + 1, MB + PAGE, 2 * MB])
def test_another_size_is_refused(size: int) -> None:
    with pytest.raises(Damaged, match="bytes"):
        used((GOOD + bytes(MB))[:size])


def test_a_segment_of_zeros_is_no_segment() -> None:
    with pytest.raises(Damaged, match="magic"):
        used(bytes(MB))


@given(page=st.integers(0, 19), byte=st.integers(0, 15), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_any_flipped_bit_of_a_page_header_is_seen(page: int, byte: int, bit: int) -> None:
    flipped = bytearray(GOOD)
    flipped[page * PAGE + byte] ^= 1 << bit
    harmless = byte == 2 and bit in (0, 2, 3)  # flags that may be set or not
    if harmless:
        assert used(bytes(flipped)) == 20 * PAGE
    else:
        with pytest.raises(Damaged):
            used(bytes(flipped))


@given(place=st.integers(20 * PAGE, MB - 1), bit=st.integers(0, 7))
@settings(max_examples=100)
def test_anything_behind_the_last_page_is_seen(place: int, bit: int) -> None:
    content = bytearray(GOOD)
    content[place] ^= 1 << bit
    with pytest.raises(Damaged):
        used(bytes(content))


def test_a_page_of_zeros_between_others_is_seen() -> None:
    with pytest.raises(Damaged, match="content behind it"):
        used(GOOD[: 4 * PAGE] + bytes(PAGE) + GOOD[5 * PAGE :])
    with pytest.raises(Damaged, match="after the segment's end"):
        used(GOOD[: 8 * PAGE] + bytes(8 * PAGE) + GOOD[16 * PAGE :])
