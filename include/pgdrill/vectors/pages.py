"""Which rows an HNSW or IVFFlat index holds, read from its pages: pgvector has no amcheck.

The formats are pgvector's since 0.5 (HNSW version 1, IVFFlat version 1); another one is an error, not a guess.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from pgdrill.vectors.columns import SearchIndex
from pgdrill.vectors.types import Floats, Integers

PAGES_AT_ONCE = 1024
SEGMENT_BYTES = 2**30  # PostgreSQL splits a relation's file there
HEADER_BYTES = 24
MAGIC = {"hnsw": 0xA953A953, "ivfflat": 0x14FF1A7}
VERSION = 1
NORMAL = 1  # state of a line pointer that points to something
ELEMENT = 1  # type of an HNSW tuple: an element with up to ten rows; its neighbours are another tuple
ROWS_PER_ELEMENT = 10
ELEMENT_HEAD_BYTES = 72  # type, level, deleted, version; ten rows and the neighbours' place; two unused bytes
TUPLE_HEAD_BYTES = 8
NO_BLOCK = 0xFFFFFFFF

COPIED = ("vector", "halfvec")  # kinds whose indexes hold the very values of the rows

Sums = npt.NDArray[np.uint32]
Words = npt.NDArray[np.uint16]


class UnknownFormat(ValueError):
    """The index was written by a pgvector whose format is not known here."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """What an index points to: places (block number x 2^16 + line) of rows, and the sum of the vector kept for each.

    ``sums`` is empty for kinds other than vector and halfvec. A vector of other dimensions than the column's has NaN's sum.
    """

    places: Integers
    sums: Sums


def read_index(connection: psycopg.Connection, index: SearchIndex, kind: str, dimensions: int) -> Indexed:
    """Read a whole index from its files: call ``CHECKPOINT`` before. Needs what ``pg_read_binary_file`` needs."""
    lists = {1}  # IVFFlat: pages of lists, a chain from block 1 on; all others hold rows
    places: list[Integers] = [np.empty(0, dtype=np.int64)]
    sums: list[Sums] = [np.empty(0, dtype=np.uint32)]
    for number, page in _pages(connection, index):
        if number == 0:
            _check_format(index, page)
            continue
        if index.method == "ivfflat" and number in lists:
            lists.add(_next_block(page))
            continue
        found, vectors = _elements(page) if index.method == "hnsw" else _tuples(page)
        rows = found & 0xFFFF > 0  # line 0 points to nothing
        if kind in COPIED:
            kept = np.repeat(sums_of(_vectors(page, vectors, kind, dimensions)), len(found) // max(len(vectors), 1))
            sums.append(kept[rows])
        places.append(found[rows])
    return Indexed(np.concatenate(places), np.concatenate(sums))


def sums_of(values: Floats) -> Sums:
    """A CRC-32 of each vector's bits: a run of up to 32 changed bits surely changes it, anything else but for one in 4 billion."""
    rows = np.ascontiguousarray(values, dtype=np.float32)
    return np.fromiter(map(zlib.crc32, rows), dtype=np.uint32, count=len(rows))


def _elements(page: bytes) -> tuple[Integers, Integers]:
    """HNSW: ten pointers to rows for each element that is whole and not deleted, and where each element's one vector begins."""
    offsets = _offsets(page)
    offsets = offsets[offsets + ELEMENT_HEAD_BYTES < len(page)]
    raw = np.frombuffer(page, dtype=np.uint8)
    live = offsets[(raw[offsets] == ELEMENT) & (raw[offsets + 2] == 0)]
    return _places(raw, (live[:, None] + 4 + 6 * np.arange(ROWS_PER_ELEMENT)).ravel()), live + ELEMENT_HEAD_BYTES


def _tuples(page: bytes) -> tuple[Integers, Integers]:
    """IVFFlat: a pointer to a row and a vector in each."""
    offsets = _offsets(page)
    offsets = offsets[offsets + TUPLE_HEAD_BYTES < len(page)]
    return _places(np.frombuffer(page, dtype=np.uint8), offsets), offsets + TUPLE_HEAD_BYTES


def _vectors(page: bytes, offsets: Integers, kind: str, dimensions: int) -> Floats:
    """Values as PostgreSQL keeps them: a length of one byte (odd) or of four, dimensions, two unused bytes, elements."""
    element = "f2" if kind == "halfvec" else "f4"
    size = dimensions * int(element[1])
    values = np.full((len(offsets), dimensions), np.nan, dtype=np.float32)
    for number, offset in enumerate(offsets.tolist()):
        head = offset + (1 if page[offset] & 1 else 4)
        if int.from_bytes(page[head : head + 2], sys.byteorder) == dimensions and head + 4 + size <= len(page):
            values[number] = np.frombuffer(page, dtype=element, count=dimensions, offset=head + 4)
    return values


def _pages(connection: psycopg.Connection, index: SearchIndex) -> Iterator[tuple[int, bytes]]:
    row = connection.execute(
        "SELECT pg_relation_filepath(%(oid)s::oid::regclass), pg_relation_size(%(oid)s::oid::regclass),"
        " current_setting('block_size')::int", {"oid": index.oid}
    ).fetchone()  # fmt: skip
    path, size, page_bytes = row or ("", 0, 8192)
    step = PAGES_AT_ONCE * page_bytes
    for start in range(0, size, step):
        file = f"{path}.{start // SEGMENT_BYTES}" if start >= SEGMENT_BYTES else path
        part = connection.execute(
            sql.SQL("SELECT pg_read_binary_file({}, {}, {})").format(*map(sql.Literal, (file, start % SEGMENT_BYTES, step))),
            binary=True,
        ).fetchone()
        content = part[0] if part else b""
        for offset in range(0, len(content), page_bytes):
            yield (start + offset) // page_bytes, content[offset : offset + page_bytes]


def _check_format(index: SearchIndex, page: bytes) -> None:
    magic, version = np.frombuffer(page, dtype=np.uint32, count=2, offset=HEADER_BYTES).tolist()
    if (magic, version) != (MAGIC[index.method], VERSION):
        raise UnknownFormat(f"{index.method} index {index.name}: magic number {magic:#x}, version {version}")


def _offsets(page: bytes) -> Integers:
    """Where the page's items begin."""
    lower = int.from_bytes(page[12:14], sys.byteorder)
    if lower <= HEADER_BYTES:
        return np.empty(0, dtype=np.int64)  # new or empty
    pointers = np.frombuffer(page, dtype=np.uint32, count=(lower - HEADER_BYTES) // 4, offset=HEADER_BYTES).astype(np.int64)
    return np.asarray(pointers[(pointers >> 15 & 3) == NORMAL] & 0x7FFF)


def _places(raw: npt.NDArray[np.uint8], offsets: Integers) -> Integers:
    """Item pointers: block number in two halves, line."""
    halves: Words = np.ascontiguousarray(raw[offsets[:, None] + np.arange(6)]).view(np.uint16).reshape(-1, 3)
    wide = halves.astype(np.int64)
    return np.asarray((wide[:, 0] << 32) | (wide[:, 1] << 16) | wide[:, 2])


def _next_block(page: bytes) -> int:
    """From the page's special space, which starts with it in both methods."""
    special = int.from_bytes(page[16:18], sys.byteorder)
    return int.from_bytes(page[special : special + 4], sys.byteorder)
