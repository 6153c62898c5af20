"""Page checksums are PostgreSQL's: as the damage suite, which has them from its C code apart, signs page by page; every changed bit
changes them."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pgdrill.postgres.page_checksums import PAGE_BYTES, checksums, sound
from tests.damage.kinds import checksum, signed

ZEROS = bytes(PAGE_BYTES)


def page_of(seed: int, block: int, flags: int = 0, lower: int = 100, upper: int = 4000, special: int = 8192) -> bytes:
    """A page as a server would write it."""
    body = np.random.default_rng(seed).integers(0, 256, PAGE_BYTES - 24, dtype=np.uint8).tobytes()
    head = struct.pack("<QHHHHHHI", seed, 0, flags, lower, upper, special, PAGE_BYTES | 4, 0)
    return signed(head + body, block)


@given(seed=st.integers(0, 2**32), block=st.integers(0, 2**31))
def test_many_pages_at_once_have_the_sums_that_each_has_alone(seed: int, block: int) -> None:
    pages = [page_of(seed + n, block + n) for n in range(3)]
    found = checksums(np.frombuffer(b"".join(pages), np.uint32).reshape(3, -1), np.arange(block, block + 3))
    assert found.tolist() == [checksum(page, block + n) for n, page in enumerate(pages)]


@given(bit=st.integers(0, 3 * PAGE_BYTES * 8 - 1))
def test_one_changed_bit_anywhere_is_seen(bit: int) -> None:
    content = bytearray(b"".join(page_of(n, 7 + n) for n in range(3)))
    assert sound(content, 7)
    content[bit // 8] ^= 1 << bit % 8
    assert not sound(content, 7)


def test_a_page_in_another_pages_place_is_not_sound() -> None:
    assert not sound(page_of(1, 6) + page_of(2, 5), 5)


def test_new_pages_are_sound_between_others_and_alone() -> None:
    assert sound(ZEROS * 3, 9)
    assert sound(ZEROS + page_of(1, 10) + ZEROS, 9)
    assert not sound(ZEROS + page_of(1, 9), 9)


def test_a_header_that_makes_no_sense_is_not_sound_though_its_checksum_is_right() -> None:
    assert not sound(page_of(1, 0, lower=4001), 0)
    assert not sound(page_of(1, 0, upper=8193), 0)
    assert not sound(page_of(1, 0, special=8190), 0)
    assert not sound(page_of(1, 0, flags=0x10), 0)
