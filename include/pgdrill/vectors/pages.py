"""Which rows an HNSW or IVFFlat index holds, read from its pages: pgvector has no amcheck.

The formats are pgvector's since 0.5 (HNSW version 1, IVFFlat version 1); another one is an error, not a guess.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

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

Words = npt.NDArray[np.uint16]


class UnknownFormat(ValueError):
    """The index was written by a pgvector whose format is not known here."""


def indexed_places(connection: psycopg.Connection, index: SearchIndex) -> Integers:
    """Places (block number x 2^16 + line) of every row that the index points to, sorted.

    Pages are read from the files: call ``CHECKPOINT`` before. Needs what ``pg_read_binary_file`` needs.
    """
    found: list[Integers] = []
    lists = {1}  # IVFFlat: pages of lists, a chain from block 1 on; all others hold rows
    for number, page in _pages(connection, index):
        if number == 0:
            _check_format(index, page)
            continue
        if index.method == "hnsw":
            found.append(_elements(page))
        elif number in lists:
            lists.add(_next_block(page))
        else:
            found.append(_tuples(page))
    return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)


def indexed_values(
    connection: psycopg.Connection, index: SearchIndex, kind: str, dimensions: int
) -> Iterator[tuple[Integers, Floats]]:
    """Page by page: the places that the index points to, and the vector that it holds for each (rows x dimensions).

    ``kind`` is vector or halfvec. A vector of other dimensions comes as NaN. As :func:`indexed_places`, it reads files.
    """
    lists = {1}
    for number, page in _pages(connection, index):
        if number == 0:
            _check_format(index, page)
        elif index.method == "hnsw":
            yield _element_values(page, kind, dimensions)
        elif number in lists:
            lists.add(_next_block(page))
        else:
            yield _tuple_values(page, kind, dimensions)


def _element_values(page: bytes, kind: str, dimensions: int) -> tuple[Integers, Floats]:
    """An element's one vector stands for up to ten rows."""
    offsets = _live_elements(page)
    values = np.repeat(_vectors(page, offsets + ELEMENT_HEAD_BYTES, kind, dimensions), ROWS_PER_ELEMENT, axis=0)
    places = _wide(np.frombuffer(page, dtype=np.uint8), (offsets[:, None] + 4 + 6 * np.arange(ROWS_PER_ELEMENT)).ravel())
    return places[places & 0xFFFF > 0], values[places & 0xFFFF > 0]


def _tuple_values(page: bytes, kind: str, dimensions: int) -> tuple[Integers, Floats]:
    offsets = _offsets(page)
    offsets = offsets[offsets + TUPLE_HEAD_BYTES < len(page)]
    places = _wide(np.frombuffer(page, dtype=np.uint8), offsets)
    values = _vectors(page, offsets + TUPLE_HEAD_BYTES, kind, dimensions)
    return places[places & 0xFFFF > 0], values[places & 0xFFFF > 0]


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
            sql.SQL("SELECT pg_read_binary_file({}, {}, {})").format(*map(sql.Literal, (file, start % SEGMENT_BYTES, step)))
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


def _live_elements(page: bytes) -> Integers:
    """Where elements begin that are whole and not deleted."""
    offsets = _offsets(page)
    offsets = offsets[offsets + ELEMENT_HEAD_BYTES < len(page)]
    raw = np.frombuffer(page, dtype=np.uint8)
    return np.asarray(offsets[(raw[offsets] == ELEMENT) & (raw[offsets + 2] == 0)])


def _elements(page: bytes) -> Integers:
    places = (_live_elements(page)[:, None] + 4 + 6 * np.arange(ROWS_PER_ELEMENT)).ravel()
    return _pointers(np.frombuffer(page, dtype=np.uint8), places)


def _tuples(page: bytes) -> Integers:
    return _pointers(np.frombuffer(page, dtype=np.uint8), _offsets(page))


def _pointers(raw: npt.NDArray[np.uint8], offsets: Integers) -> Integers:
    """Item pointers: block number in two halves, line; line 0 points to nothing."""
    places = _wide(raw, offsets[offsets + 6 <= len(raw)])
    return places[places & 0xFFFF > 0]


def _wide(raw: npt.NDArray[np.uint8], offsets: Integers) -> Integers:
    halves: Words = np.ascontiguousarray(raw[offsets[:, None] + np.arange(6)]).view(np.uint16).reshape(-1, 3)
    wide = halves.astype(np.int64)
    return np.asarray((wide[:, 0] << 32) | (wide[:, 1] << 16) | wide[:, 2])


def _next_block(page: bytes) -> int:
    """From the page's special space, which starts with it in both methods."""
    special = int.from_bytes(page[16:18], sys.byteorder)
    return int.from_bytes(page[special : special + 4], sys.byteorder)
