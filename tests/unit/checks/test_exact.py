"""Exact neighbours by blocks against the naive way, and the binary COPY they are read from."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from pgdrill.checks import exact
from pgdrill.checks.exact import Floats, distances, exact_neighbours, stream_vectors

METRICS = ["<->", "<#>", "<=>", "<+>"]


def naive(metric: str, a: Floats, b: Floats) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    match metric:
        case "<->":
            return float(np.sqrt(((x - y) ** 2).sum()))
        case "<#>":
            return float(-(x * y).sum())
        case "<+>":
            return float(np.abs(x - y).sum())
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return float(1 - (x * y).sum() / lengths) if lengths else np.inf


def made(rows: int, dimensions: int = 16, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)


def in_blocks(vectors: Floats, size: int) -> Iterator[Floats]:
    return iter([vectors[start : start + size] for start in range(0, len(vectors), size)])


@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_the_naive_ones(metric: str) -> None:
    probes, rows = made(7, seed=2), made(50)
    expected = [[naive(metric, probe, row) for row in rows] for probe in probes]
    assert np.allclose(distances(metric, probes, rows), expected, atol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 60), block=st.integers(1, 70), k=st.integers(1, 12), seed=st.integers(0, 9))
def test_blocks_of_any_size_give_the_same_neighbours(metric: str, rows: int, block: int, k: int, seed: int) -> None:
    vectors, probes = made(rows, seed=seed), made(3, seed=seed + 100)
    found = exact_neighbours(in_blocks(vectors, block), probes, metric, k)
    assert found.rows == rows
    expected = np.sort([[naive(metric, probe, row) for row in vectors] for probe in probes], axis=1)[:, :k]
    assert np.allclose(found.distances[:, : min(k, rows)], expected, atol=1e-4)
    assert np.isinf(found.distances[:, rows:]).all()  # fewer rows than asked for


def test_ties_are_all_at_the_same_distance() -> None:
    vectors = np.repeat(made(2), 20, axis=0)
    found = exact_neighbours(in_blocks(vectors, 7), vectors[:1], "<->", 10)
    assert np.allclose(found.distances, 0, atol=1e-3)


def test_a_stored_vector_is_its_own_nearest_neighbour() -> None:
    vectors = made(200)
    for metric in ("<->", "<=>", "<+>"):
        assert np.allclose(exact_neighbours(in_blocks(vectors, 64), vectors[:20], metric, 1).distances, 0, atol=2e-3)


def test_nothing_has_no_neighbours() -> None:
    found = exact_neighbours(iter([]), made(3), "<->", 10)
    assert found.rows == 0
    assert np.isinf(found.distances).all()
    assert exact_neighbours(in_blocks(made(5), 2), made(0), "<->", 3).distances.shape == (0, 3)


def test_a_vector_of_zeros_has_no_cosine_and_comes_last() -> None:
    vectors = np.concatenate([np.zeros((1, 16), np.float32), made(3)])
    found = exact_neighbours(in_blocks(vectors, 2), made(1, seed=5), "<=>", 4)
    assert np.isfinite(found.distances[0, :3]).all()
    assert np.isinf(found.distances[0, 3])


class FakeCopy:
    """A connection whose COPY gives the bytes in pieces of a size."""

    def __init__(self, data: bytes, size: int) -> None:
        self.pieces = [data[start : start + size] for start in range(0, len(data), size)]

    def cursor(self) -> FakeCopy:
        return self

    def copy(self, statement: object) -> FakeCopy:
        return self

    def __enter__(self) -> FakeCopy:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def __iter__(self) -> Iterator[memoryview]:
        return iter(memoryview(piece) for piece in self.pieces)


def copied(vectors: Floats, kind: str) -> bytes:
    element, width = {"vector": (">f4", 4), "halfvec": (">f2", 2)}[kind]
    rows = (
        struct.pack(">hihh", 1, 4 + width * len(row), len(row), 0) + row.astype(element).tobytes() for row in vectors
    )
    return b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0) + b"".join(rows) + struct.pack(">h", -1)


def streamed(data: bytes, piece: int, kind: str, dimensions: int) -> list[Floats]:
    connection: Any = FakeCopy(data, piece)
    return list(stream_vectors(connection, sql.SQL("SELECT 1"), kind, dimensions))


@pytest.mark.parametrize("kind", ["vector", "halfvec"])
@pytest.mark.parametrize("piece", [1, 5, 19, 64, 100_000])
@pytest.mark.parametrize("rows", [0, 1, 2, 33])
def test_rows_cut_anywhere_are_put_together(monkeypatch: pytest.MonkeyPatch, kind: str, piece: int, rows: int) -> None:
    monkeypatch.setattr(exact, "BLOCK_BYTES", 200)
    vectors = made(rows, dimensions=6).astype(np.float16).astype(np.float32)
    blocks = streamed(copied(vectors, kind), piece, kind, 6)
    found = np.concatenate(blocks) if blocks else np.empty((0, 6), np.float32)
    assert found.dtype == np.float32
    assert np.array_equal(found, vectors)


def test_blocks_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK_BYTES", 200)
    assert max(len(block) for block in streamed(copied(made(100, 6), "vector"), 64, "vector", 6)) <= 200 // 34


def test_a_row_of_another_length_is_an_error_and_no_number() -> None:
    rows = copied(made(1, 6), "vector")[:-2] + copied(made(1, 5), "vector")[19:-2] + copied(made(2, 6), "vector")[19:]
    with pytest.raises(ValueError, match="dimensions"):
        streamed(rows, 1000, "vector", 6)
