"""Rows of a binary COPY, as they arrive: with NULLs, of several sizes and types, block by block."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from psycopg import sql

from pgdrill.vectors import copy_stream as streaming
from pgdrill.vectors.copy_stream import Block, Field, place_text, stream
from pgdrill.vectors.types import Floats, Sparse


class FakeCopy:
    """A connection whose COPY gives messages, one a row as the protocol has it; the header comes
    with the first row or alone.
    """

    def __init__(self, rows: list[bytes], header_alone: bool) -> None:
        header = b"PGCOPY\n\xff\r\n\0" + bytes(8)
        self.messages = (
            [header, *rows] if header_alone or not rows else [header + rows[0], *rows[1:]]
        )
        self.messages.append(b"\xff\xff")

    def cursor(self) -> FakeCopy:
        return self

    def copy(self, statement: object) -> FakeCopy:
        return self

    def __enter__(self) -> FakeCopy:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __iter__(self) -> Iterator[memoryview]:
        return iter(memoryview(message) for message in self.messages)


def value(kind: str, elements: list[float] | None, dimensions: int = 0) -> bytes | None:
    if elements is None:
        return None
    if kind == "bit":
        packed = np.packbits(np.array(elements, dtype=np.uint8)).tobytes()
        return struct.pack(">i", len(elements)) + packed
    if kind == "sparsevec":
        numbers = [(n, x) for n, x in enumerate(elements) if x]
        return (
            struct.pack(">iii", len(elements), len(numbers), 0)
            + b"".join(struct.pack(">i", n) for n, _ in numbers)
            + b"".join(struct.pack(">f", x) for _, x in numbers)
        )
    return (
        struct.pack(">hh", len(elements), 0)
        + np.array(elements, dtype={"vector": ">f4", "halfvec": ">f2"}[kind]).tobytes()
    )


def row(number: int, *values: bytes | None) -> bytes:
    fields = [
        struct.pack(">IH", number // 10, number % 10 + 1),
        struct.pack(">I", 700 + number),
        struct.pack(">q", -number),
        *values,
    ]
    packed = (
        struct.pack(">i", -1) if one is None else struct.pack(">i", len(one)) + one
        for one in fields
    )
    return struct.pack(">h", len(fields)) + b"".join(packed)


def streamed(rows: list[bytes], *fields: Field, header_alone: bool = False) -> list[Block]:
    connection: Any = FakeCopy(rows, header_alone)
    return list(stream(connection, sql.Identifier("t"), fields))


def vectors(rows: int, dimensions: int = 6) -> list[list[float]]:
    made: Floats = np.random.default_rng(1).normal(size=(rows, dimensions)).astype(np.float16)
    return made.tolist()


@pytest.mark.parametrize("kind", ["vector", "halfvec", "bit"])
@pytest.mark.parametrize("header_alone", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 2, 33])
def test_rows_are_read_with_their_places_writers_and_groups(
    kind: str, header_alone: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 200)
    made = (
        [[float(x > 0) for x in one] for one in vectors(rows, 11)]
        if kind == "bit"
        else vectors(rows)
    )
    blocks = streamed(
        [row(n, value(kind, one)) for n, one in enumerate(made)],
        Field("v", kind, len(made[0]) if made else 6),
        header_alone=header_alone,
    )
    found = [x for block in blocks for x in block.columns[0].values.tolist()]  # type: ignore[union-attr]
    assert found == made
    assert [place_text(int(p)) for block in blocks for p in block.places] == [
        f"({n // 10},{n % 10 + 1})" for n in range(rows)
    ]
    assert [int(x) for block in blocks for x in block.writers] == [700 + n for n in range(rows)]
    assert [int(x) for block in blocks for x in block.groups] == [-n for n in range(rows)]
    assert all(len(block) <= 10 for block in blocks)


def test_nulls_and_other_sizes_are_counted_and_the_rest_is_read() -> None:
    rows = [
        row(0, value("vector", [1, 2, 3])),
        row(1, None),
        row(2, value("vector", [4, 5])),
        row(3, value("vector", [6, 7, 8])),
    ]
    (block,) = streamed(rows, Field("v", "vector", 3))
    (column,) = block.columns
    assert column.values.tolist() == [[1, 2, 3], [6, 7, 8]]  # type: ignore[union-attr]
    assert column.nulls == 1
    assert column.sizes == {2: 1}
    assert [place_text(int(p)) for p in column.of(block.places)] == ["(0,1)", "(0,4)"]


def test_two_fields_with_nulls_in_turn_are_kept_apart() -> None:
    rows = [
        row(0, value("vector", [1, 2]), None),
        row(1, None, value("vector", [3, 4])),
        row(2, value("vector", [5, 6]), value("vector", [7, 8])),
    ]
    (block,) = streamed(rows, Field("a", "vector", 2), Field("b", "vector", 2))
    first, second = block.columns
    assert (first.values.tolist(), second.values.tolist()) == ([[1, 2], [5, 6]], [[3, 4], [7, 8]])  # type: ignore[union-attr]
    assert [place_text(int(p)) for p in first.of(block.places)] == ["(0,1)", "(0,3)"]
    assert [place_text(int(p)) for p in second.of(block.places)] == ["(0,2)", "(0,3)"]
    assert (first.nulls, second.nulls) == (1, 1)


def test_sparse_rows_of_any_number_of_elements_are_one_block() -> None:
    made = [[0, 1.5, 0, 2, 0], [0, 0, 0, 0, 0], [3, 0, 0, 0, 0], [0, 0, 0, 4, 5.0]]
    (block,) = streamed(
        [row(n, value("sparsevec", one)) for n, one in enumerate(made)], Field("v", "sparsevec", 5)
    )
    values = block.columns[0].values
    assert isinstance(values, Sparse)
    dense = np.zeros((4, 5))
    dense[np.repeat(np.arange(4), values.counts), values.indices] = values.values
    order = [int(place) & 0xFFFF for place in block.columns[0].of(block.places)]
    assert dense[np.argsort(order)].tolist() == made


def test_an_error_of_the_server_reaches_who_reads() -> None:
    class Broken(FakeCopy):
        def __iter__(self) -> Iterator[memoryview]:
            yield memoryview(self.messages[0])
            raise ConnectionError("gone")

    connection: Any = Broken([row(0, value("vector", [1]))], False)
    with pytest.raises(ConnectionError, match="gone"):
        list(stream(connection, sql.Identifier("t"), [Field("v", "vector", 1)]))
