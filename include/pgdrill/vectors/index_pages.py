"""The rows that an HNSW or IVFFlat index holds, read from its pages: pgvector has no amcheck.

The formats are pgvector's since 0.5 (HNSW version 1, IVFFlat version 1). Another one is an error,
not a guess.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from pgdrill.vectors.columns import SearchIndex
from pgdrill.vectors.types import Bytes, Floats, Integers

PAGES_AT_ONCE = 1024
SEGMENT_BYTES = 2**30  # PostgreSQL splits a relation's file there
HEADER_BYTES = 24
MAGIC = {"hnsw": 0xA953A953, "ivfflat": 0x14FF1A7}
VERSION = 1
NORMAL = 1  # the state of a line pointer that points to something
# The type of an HNSW tuple: an element with up to ten rows. Its neighbours are another tuple.
ELEMENT = 1
ROWS_PER_ELEMENT = 10
# type, level, deleted, version; ten rows and the neighbours' place; two unused bytes
ELEMENT_HEAD_BYTES = 72
TUPLE_HEAD_BYTES = 8

COPIED = ("vector", "halfvec")  # kinds whose indexes hold the very values of the rows

Sums = npt.NDArray[np.uint32]


class UnknownFormat(ValueError):
    """The index was written by a pgvector whose format is not known here."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """The rows that an index points to, and the vectors that it keeps for them."""

    places: Integers  # of rows: block number x 2^16 + line
    # of the vector kept for each row; empty for kinds other than vector and halfvec. A vector of
    # other dimensions than the column's has NaN's sum.
    sums: Sums


def read_index(
    connection: psycopg.Connection, index: SearchIndex, kind: str, dimensions: int
) -> Indexed:
    """Read a whole index from its files: call ``CHECKPOINT`` before.

    Needs what ``pg_read_binary_file`` needs.
    """
    lists = {1}  # IVFFlat: pages of lists, a chain from block 1 on; all others hold rows
    places: list[Integers] = [np.empty(0, dtype=np.int64)]
    sums: list[Sums] = [np.empty(0, dtype=np.uint32)]
    for first, pages in _stretches(connection, index):
        if first == 0:
            _check_format(index, pages[0])
        others = {0} if index.method == "hnsw" else {0} | _follow(lists, first, pages)
        at = _items(
            pages, [number - first for number in others if first <= number < first + len(pages)]
        )
        raw, size = pages.ravel(), pages.shape[1]
        found, vectors = (
            _elements(raw, at, size) if index.method == "hnsw" else _tuples(raw, at, size)
        )
        rows = found & 0xFFFF > 0  # line 0 points to nothing
        if kind in COPIED:
            kept = np.repeat(
                sums_of(_vectors(raw, vectors, size, kind, dimensions)),
                len(found) // max(len(vectors), 1),
            )
            sums.append(kept[rows])
        places.append(found[rows])
    return Indexed(np.concatenate(places), np.concatenate(sums))


def sums_of(values: Floats) -> Sums:
    """Return a CRC-32 of each vector's bits.

    A run of up to 32 changed bits surely changes it, any other change but for one in 4 billion.
    """
    rows = np.ascontiguousarray(values, dtype=np.float32)
    return np.fromiter(map(zlib.crc32, rows), dtype=np.uint32, count=len(rows))


def _elements(raw: Bytes, at: Integers, page_bytes: int) -> tuple[Integers, Integers]:
    """Return the row places in HNSW's elements, and where each element's one vector begins.

    There are ten pointers to rows for each element that is whole and not deleted.
    """
    at = at[at % page_bytes + ELEMENT_HEAD_BYTES < page_bytes]
    live = at[(raw[at] == ELEMENT) & (raw[at + 2] == 0)]
    return _places(_cut(raw, live + 4, 6 * ROWS_PER_ELEMENT)), live + ELEMENT_HEAD_BYTES


def _tuples(raw: Bytes, at: Integers, page_bytes: int) -> tuple[Integers, Integers]:
    """Return the row places in IVFFlat's tuples, and where their vectors begin.

    Each tuple has a pointer to a row and a vector.
    """
    at = at[at % page_bytes + TUPLE_HEAD_BYTES < page_bytes]
    return _places(_cut(raw, at, 6)), at + TUPLE_HEAD_BYTES


def _vectors(raw: Bytes, at: Integers, page_bytes: int, kind: str, dimensions: int) -> Floats:
    """Decode values as PostgreSQL keeps them.

    A value has a length of one byte (odd) or of four, dimensions, two unused bytes, and elements.
    """
    element = "f2" if kind == "halfvec" else "f4"
    size = dimensions * int(element[1])
    values = np.full((len(at), dimensions), np.nan, dtype=np.float32)
    heads = at + np.where(raw[at] & 1, 1, 4)
    fits = np.nonzero(heads + 4 + size <= (at // page_bytes + 1) * page_bytes)[0]
    good = fits[_cut(raw, heads[fits], 2).view(np.uint16).ravel() == dimensions]
    values[good] = _cut(raw, heads[good] + 4, size).view(element)
    return values


def _stretches(connection: psycopg.Connection, index: SearchIndex) -> Iterator[tuple[int, Bytes]]:
    """Yield the number of the first page, and the bytes of so many pages, one a row."""
    row = connection.execute(
        "SELECT pg_relation_filepath(%(oid)s::oid::regclass),"
        " pg_relation_size(%(oid)s::oid::regclass), current_setting('block_size')::int",
        {"oid": index.oid},
    ).fetchone()
    path, size, page_bytes = row or ("", 0, 8192)
    step = PAGES_AT_ONCE * page_bytes
    for start in range(0, size, step):
        file = f"{path}.{start // SEGMENT_BYTES}" if start >= SEGMENT_BYTES else path
        part = connection.execute(
            sql.SQL("SELECT pg_read_binary_file({}, {}, {})").format(
                *map(sql.Literal, (file, start % SEGMENT_BYTES, step))
            ),
            binary=True,
        ).fetchone()
        content = part[0] if part else b""
        whole = len(content) // page_bytes
        if whole:
            yield (
                start // page_bytes,
                np.frombuffer(content, dtype=np.uint8, count=whole * page_bytes).reshape(
                    whole, page_bytes
                ),
            )


def _check_format(index: SearchIndex, page: Bytes) -> None:
    magic, version = page[HEADER_BYTES : HEADER_BYTES + 8].view(np.uint32).tolist()
    if (magic, version) != (MAGIC[index.method], VERSION):
        raise UnknownFormat(
            f"{index.method} index {index.name}: magic number {magic:#x}, version {version}"
        )


def _follow(lists: set[int], first: int, pages: Bytes) -> set[int]:
    """Add to the chain what these pages tell of it."""
    while (
        ahead := {_next_block(pages[n - first]) for n in lists if first <= n < first + len(pages)}
        - lists
    ):
        lists |= ahead
    return lists


def _items(pages: Bytes, without: Sequence[int]) -> Integers:
    """Return where the items of all pages but some begin.

    Places are counted from the first page's first byte.
    """
    page_bytes = pages.shape[1]
    lower = np.minimum(pages[:, 12:14].copy().view(np.uint16).ravel(), page_bytes).astype(np.int64)
    counts = np.maximum(lower - HEADER_BYTES, 0) // 4  # none in a new page
    counts[list(without)] = 0
    most = int(counts.max(initial=0))
    pointers = pages[:, HEADER_BYTES : HEADER_BYTES + 4 * most].copy().view(np.uint32)
    page, item = np.nonzero((np.arange(most) < counts[:, None]) & (pointers >> 15 & 3 == NORMAL))
    offsets = pointers[page, item].astype(np.int64) & 0x7FFF
    inside = offsets < page_bytes
    return np.asarray(page[inside] * page_bytes + offsets[inside])


def _cut(raw: Bytes, at: Integers, size: int) -> Bytes:
    """Return so many bytes from each place, a row each."""
    if not len(at):
        return np.empty((0, size), dtype=np.uint8)
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(raw, size)[at])


def _places(pointers: Bytes) -> Integers:
    """Decode item pointers: block number in two halves, line."""
    wide = pointers.view(np.uint16).reshape(-1, 3).astype(np.int64)
    return np.asarray((wide[:, 0] << 32) | (wide[:, 1] << 16) | wide[:, 2])


def _next_block(page: Bytes) -> int:
    """Read the next block's number from the page's special space.

    The space starts with it in both methods.
    """
    special = int.from_bytes(page[16:18].tobytes(), sys.byteorder)
    return int.from_bytes(page[special : special + 4].tobytes(), sys.byteorder)
