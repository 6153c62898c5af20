"""Decompressing: whole objects come back in small pieces, damaged ones never pass for whole."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import sys
from collections.abc import Callable

import brotli
import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgdrill.repository.decoders import DECODERS, PIECE_BYTES, Undecodable, decoded

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CONTENT = (
    random.Random(1).randbytes(300_000) + bytes(2 * PIECE_BYTES) + b"the end" + bytes(PIECE_BYTES)
)
CHECKED: dict[str, Callable[[bytes], bytes]] = {  # those that carry a checksum of their content
    ".lz4": lambda data: lz4.frame.compress(
        data, block_size=lz4.frame.BLOCKSIZE_MAX4MB, content_checksum=True, store_size=False
    ),
    ".zst": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
COMPRESSORS = {
    **CHECKED,
    ".br": lambda data: brotli.compress(data, quality=3),
    "": lambda data: data,
}


def chunks(data: bytes, size: int) -> list[bytes]:
    return [data[n : n + size] for n in range(0, len(data), size)]


def test_every_suffix_that_is_read_is_tried_here() -> None:
    assert set(COMPRESSORS) == {suffix for suffix, decoder in DECODERS.items() if decoder}


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("size", [1000, 2**20, 2**24])
def test_content_comes_back_in_pieces_of_bounded_size(suffix: str, size: int) -> None:
    pieces = list(decoded(chunks(COMPRESSORS[suffix](CONTENT), size), suffix))
    assert b"".join(pieces) == CONTENT
    assert max(map(len, pieces)) <= 4 * PIECE_BYTES  # brotli rounds up


@pytest.mark.parametrize("suffix", sorted(set(COMPRESSORS) - {""}))
@pytest.mark.parametrize("missing", [1, 4, 8, 1000])
def test_an_object_that_breaks_off_is_seen_even_if_all_content_was_there(
    suffix: str, missing: int
) -> None:
    with pytest.raises(Undecodable):
        list(decoded(chunks(COMPRESSORS[suffix](CONTENT)[:-missing], 2**16), suffix))


@pytest.mark.parametrize("suffix", sorted(set(COMPRESSORS) - {""}))
def test_an_object_that_goes_on_after_its_end_is_seen(suffix: str) -> None:
    with pytest.raises(Undecodable):
        list(decoded(chunks(COMPRESSORS[suffix](CONTENT) + b"more", 2**16), suffix))


@pytest.mark.parametrize("suffix", sorted(set(COMPRESSORS) - {""}))
@pytest.mark.parametrize("content", [b"garbage" * 1000, b"\0" * 1000, b"\xff"])
def test_garbage_is_seen(suffix: str, content: bytes) -> None:
    with pytest.raises(Undecodable):
        list(decoded([content], suffix))


@pytest.mark.parametrize("suffix", CHECKED)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_never_passes_for_the_content(suffix: str, data: st.DataObject) -> None:
    whole = bytearray(SMALL[suffix])
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        content = b"".join(decoded([bytes(whole)], suffix))
    except Undecodable:
        return
    # a bit of the header may mean nothing
    assert content == SMALL_CONTENT, "other content was given out"


SMALL_CONTENT = CONTENT[:2000] + bytes(20_000)
SMALL = {suffix: compress(SMALL_CONTENT) for suffix, compress in CHECKED.items()}


def test_what_only_the_tool_reads_says_so() -> None:
    with pytest.raises(Undecodable, match="tool"):
        list(decoded([b"x"], ".snappy"))
