"""The chains of rows' versions: an index points to the first version of a row.

A row that was updated in place (HOT) has others. The chains are read from the table's own pages, so
that a row which an index points to by its predecessor is told from one that it lacks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgdrill.vectors.index_pages import HEADER_BYTES, NORMAL, SEGMENT_BYTES

REDIRECT = 2  # the state of a line pointer that stands for the first version, which is gone
HOT_UPDATED, HEAP_ONLY = 0x4000, 0x8000  # in t_infomask2
REPLACED_BY_SEVERAL = 0x1000  # in t_infomask: xmax is a multixact
LINE_AT = 16  # in a row's header: the line of its t_ctid, then t_infomask2 and t_infomask


def first_versions(
    connection: psycopg.Connection, oid: int, places: Iterable[int]
) -> dict[int, int]:
    """Return for places of rows the places that an index has for them.

    Such a place is the row's own, or that of its first version. Call ``CHECKPOINT`` before. Needs
    what ``pg_read_binary_file`` needs.
    """
    wanted: dict[int, list[int]] = {}
    for place in places:
        wanted.setdefault(place >> 16, []).append(place)
    row = connection.execute(
        "SELECT pg_relation_filepath(%(oid)s::oid::regclass), current_setting('block_size')::int",
        {"oid": oid},
    ).fetchone()
    path, size = row or ("", 8192)
    found: dict[int, int] = {}
    for block, rows in wanted.items():
        start = block * size
        file = f"{path}.{start // SEGMENT_BYTES}" if start >= SEGMENT_BYTES else path
        asked = sql.SQL("SELECT pg_read_binary_file({}, {}, {})").format(
            *map(sql.Literal, (file, start % SEGMENT_BYTES, size))
        )
        page = connection.execute(asked, binary=True).fetchone()
        chains = _chains(page[0] if page else b"")
        found |= {place: block << 16 | chains.get(place & 0xFFFF, place & 0xFFFF) for place in rows}
    return found


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of a row."""

    writer: int  # the transaction that wrote it
    replaced_by: int | None  # the transaction that replaced it; None: told otherwise
    heap_only: bool  # continues a chain
    following: int  # the line of the next version in the chain; 0: none


def _chains(page: bytes) -> dict[int, int]:
    """Return for the lines of a page the line that their chain begins with.

    A page that makes no sense has none.
    """
    if len(page) < HEADER_BYTES:
        return {}
    lower = min(struct.unpack_from("=H", page, 12)[0], len(page))
    pointers = dict(
        enumerate(
            (struct.unpack_from("=I", page, at)[0] for at in range(HEADER_BYTES, lower - 3, 4)), 1
        )
    )
    versions = {
        line: _version(page, pointer & 0x7FFF)
        for line, pointer in pointers.items()
        if pointer >> 15 & 3 == NORMAL
        and HEADER_BYTES <= pointer & 0x7FFF <= len(page) - HEADER_BYTES
    }
    firsts = {line: line for line, version in versions.items() if not version.heap_only}
    firsts |= {
        line: pointer & 0x7FFF
        for line, pointer in pointers.items()
        if pointer >> 15 & 3 == REDIRECT
    }
    found: dict[int, int] = {}
    for first, start in firsts.items():
        line = start
        while line in versions and line not in found:
            found[line] = first
            version, after = versions[line], versions.get(versions[line].following)
            # The place may have been given to another row since. That row continues the chain only
            # if it was written by the transaction that replaced this version.
            if (
                after is None
                or not after.heap_only
                or version.replaced_by not in (None, after.writer)
            ):
                break
            line = version.following
    return found


def _version(page: bytes, at: int) -> _Version:
    writer, replaced_by = struct.unpack_from("=II", page, at)
    line, more, flags = struct.unpack_from("=HHH", page, at + LINE_AT)
    return _Version(
        writer,
        None if flags & REPLACED_BY_SEVERAL else replaced_by,
        bool(more & HEAP_ONLY),
        line if more & HOT_UPDATED else 0,
    )
