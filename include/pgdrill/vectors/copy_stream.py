"""One streamed binary COPY of a table's vectors, read block by block.

Memory stays flat whatever the table's size. Each row is its place (ctid), the transaction that
wrote it (xmin), a hash of the column that searches are filtered by, and one value for each searched
expression. The server sends every row as one message of the protocol, and reading relies on that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from pgdrill.vectors.types import Bytes, Integers, Values, decode, dimensions_of, joined

BLOCK_BYTES = 4 * 2**20
HEADER_BYTES = 19  # signature, flags, length of an extension that nobody uses
TRAILER = b"\xff\xff"
NULL = -1
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Field:
    """A searched expression: SQL text of type ``kind``."""

    expression: str
    kind: str
    dimensions: int  # values of other dimensions are counted, not read
    predicate: str = ""  # the expression is evaluated where this holds; empty: everywhere

    @property
    def sql(self) -> sql.Composable:
        """The expression as an item of a SELECT list.

        A value that the predicate leaves out is NULL.
        """
        value = sql.SQL(self.expression)
        return (
            sql.SQL("CASE WHEN {} THEN {} END").format(sql.SQL(self.predicate), value)
            if self.predicate
            else value
        )


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one field in a block."""

    values: Values | None
    rows: Integers | None  # the block's rows that the values belong to; None: all, in order
    nulls: int
    # dimensions -> how many values were left out because they have others than the field
    sizes: dict[int, int]

    def of(self, numbers: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Return the part of an array over the block's rows that has a value here."""
        return numbers if self.rows is None else numbers[self.rows]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows in arrays of one length."""

    places: Integers  # block number x 2^16 + line
    writers: Integers  # xmin
    groups: Integers  # hashes
    columns: tuple[Column, ...]

    def __len__(self) -> int:
        return len(self.places)


def place_text(place: int) -> str:
    """Return a place as PostgreSQL writes a ctid."""
    return f"({place >> 16},{place & 0xFFFF})"


def stream(
    connection: psycopg.Connection,
    table: sql.Composable,
    fields: Sequence[Field],
    group: sql.Composable | None = None,
    where: sql.Composable | None = None,
) -> Iterator[Block]:
    """Read a table to its end and yield its blocks.

    ``group`` is the column whose value filters searches; it is compared by hash.
    """
    hashed = (
        sql.SQL("pg_catalog.hashtextextended({}::text, 0)").format(group)
        if group
        else sql.SQL("0::int8")
    )
    items = [
        sql.SQL("ctid"),
        sql.SQL("xmin"),
        sql.SQL("coalesce({}, 0)").format(hashed),
        *(field.sql for field in fields),
    ]
    condition = sql.SQL(" WHERE {}").format(where) if where else sql.SQL("")
    query = sql.SQL("COPY (SELECT {} FROM ONLY {}{}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(items), table, condition
    )
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        yield from _ahead(_block(rows, fields) for rows in _in_blocks(iter(copy)))


def _ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield the blocks, and read and decode the next one while this one is looked at.

    So the server never waits for us.
    """
    with ThreadPoolExecutor(1, "stream") as reader:
        coming = reader.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks, None)
            yield block


def _in_blocks(messages: Iterator[bytes | bytearray | memoryview]) -> Iterator[list[bytes]]:
    rows: list[bytes] = []
    size, header = 0, HEADER_BYTES
    for message in messages:
        row = bytes(message)
        if header:
            row, header = row[header:], 0
        if not row or row == TRAILER:
            continue
        rows.append(row)
        size += len(row)
        if size >= BLOCK_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _block(rows: list[bytes], fields: Sequence[Field]) -> Block:
    """Return rows as a block.

    Rows of one layout become one array of bytes; usually that is all of them.
    """
    if len({len(row) for row in rows}) == 1:
        raw = _matrix(rows)
        layout = _layout(rows[0], len(fields))
        if len(fields) == 1 or _is_layout_of_all(raw, layout):
            return _part(layout, raw, fields)
    layouts: dict[tuple[int, ...], list[bytes]] = {}
    for row in rows:
        layouts.setdefault(_layout(row, len(fields)), []).append(row)
    return _merged(
        [_part(layout, _matrix(found), fields) for layout, found in layouts.items()], len(fields)
    )


def _matrix(rows: list[bytes]) -> Bytes:
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)


def _layout(row: bytes, fields: int) -> tuple[int, ...]:
    """Return the lengths of a row's fields."""
    lengths, at = [], 2
    for _ in range(3 + fields):
        (length,) = struct.unpack_from(">i", row, at)
        lengths.append(length)
        at += 4 + max(length, 0)
    return tuple(lengths)


def _is_layout_of_all(raw: Bytes, layout: tuple[int, ...]) -> bool:
    """Return True if rows of one length all have this layout.

    With two fields that may be NULL they need not.
    """
    at = 2
    for length in layout:
        if not (raw[:, at : at + 4] == raw[0, at : at + 4]).all():
            return False
        at += 4 + max(length, 0)
    return True


def _part(layout: tuple[int, ...], raw: Bytes, fields: Sequence[Field]) -> Block:
    payloads: list[Bytes | None] = []
    at = 2
    for length in layout:
        payloads.append(None if length == NULL else raw[:, at + 4 : at + 4 + length])
        at += 4 + max(length, 0)
    place, writer, group = (_number(payload) for payload in payloads[:3])
    columns = tuple(
        _column(field, payload, len(raw))
        for field, payload in zip(fields, payloads[3:], strict=True)
    )
    return Block(place, writer, group, columns)


def _number(payload: Bytes | None) -> Integers:
    """Decode big-endian numbers of up to eight bytes; 48 bits of a ctid are its block and line."""
    assert payload is not None  # noqa: S101 - ctid and xmin are never NULL, the group is coalesced
    wide = np.zeros((len(payload), 8), dtype=np.uint8)
    wide[:, 8 - payload.shape[1] :] = payload
    return wide.view(">i8").ravel().astype(np.int64)


def _column(field: Field, payload: Bytes | None, rows: int) -> Column:
    if payload is None:
        return Column(None, np.empty(0, dtype=np.int64), rows, {})
    dimensions = dimensions_of(field.kind, payload)
    fitting = dimensions == field.dimensions
    if fitting.all():
        return Column(decode(field.kind, payload), None, 0, {})
    other, counts = np.unique(dimensions[~fitting], return_counts=True)
    sizes = dict(zip(other.tolist(), counts.tolist(), strict=True))
    chosen = np.nonzero(fitting)[0]
    return Column(decode(field.kind, payload[chosen]) if len(chosen) else None, chosen, 0, sizes)


def _merged(parts: list[Block], fields: int) -> Block:
    columns = []
    for number in range(fields):
        found, numbers, start = [], [], 0
        sizes: dict[int, int] = {}
        for part in parts:
            column = part.columns[number]
            if column.values is not None:
                found.append(column.values)
                numbers.append(
                    start + (np.arange(len(part)) if column.rows is None else column.rows)
                )
            for dimensions, rows in column.sizes.items():
                sizes[dimensions] = sizes.get(dimensions, 0) + rows
            start += len(part)
        rows_found = np.concatenate(numbers) if numbers else np.empty(0, dtype=np.int64)
        nulls = sum(part.columns[number].nulls for part in parts)
        columns.append(Column(joined(found) if found else None, rows_found, nulls, sizes))
    places, writers, groups = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("places", "writers", "groups")
    )
    return Block(places, writers, groups, tuple(columns))
