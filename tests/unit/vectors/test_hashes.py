"""Digests that every change moves, and copies counted without keeping the vectors."""

from __future__ import annotations

import numpy as np
import pytest

from pgdrill.vectors import hashes as hashing
from pgdrill.vectors.hashes import Copies, Hasher
from pgdrill.vectors.types import Floats, Sparse


def made(rows: int, dimensions: int) -> Floats:
    return np.random.default_rng(3).normal(size=(rows, dimensions)).astype(np.float32)


@pytest.mark.parametrize("dimensions", [1, 2, 7, 384])
def test_equal_vectors_have_equal_hashes_and_others_do_not(dimensions: int) -> None:
    vectors = made(2000, dimensions)
    hashes = Hasher("ab").of(vectors)
    assert (Hasher("ab").of(vectors[::-1].copy()) == hashes[::-1]).all()
    assert len(np.unique(hashes)) == len(np.unique(vectors, axis=0))
    assert not (Hasher("cd").of(vectors) == hashes).any()


def test_one_bit_or_two_elements_exchanged_are_another_vector() -> None:
    vector = made(1, 64)
    flipped, swapped = vector.copy(), vector.copy()
    flipped.view(np.uint32)[0, 10] ^= 1
    swapped[0, [4, 6]] = swapped[0, [6, 4]]
    assert len({int(Hasher("ab").of(one)[0]) for one in (vector, flipped, swapped)}) == 3


def test_sparse_vectors_are_hashed_by_index_and_value() -> None:
    rows = Sparse(
        np.array([2, 0, 2, 2]),
        np.array([1, 5, 1, 5, 1, 6]),
        np.array([1, 2, 1, 2, 1, 2], dtype=np.float32),
    )
    first, empty, same, other = Hasher("ab").of(rows).tolist()
    assert first == same
    assert len({first, empty, other}) == 3


def test_a_row_is_its_vector_its_place_and_its_writer() -> None:
    hasher = Hasher("ab")
    vector = hasher.of(np.repeat(made(1, 8), 3, axis=0))
    placed = hasher.placed(vector, np.array([1, 2, 1]), np.array([700, 700, 701]))
    assert len(set(placed.tolist())) == 3


def test_copies_are_counted_exactly_and_by_a_sample_above_a_million(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = np.concatenate([made(3000, 8), made(1000, 8)])
    exact = Copies()
    exact.add(Hasher("ab").of(vectors))
    assert exact.rows == 1000
    monkeypatch.setattr(hashing, "KEPT_HASHES", 500)
    sampled = Copies()
    for start in range(0, len(vectors), 100):
        sampled.add(Hasher("ab").of(vectors[start : start + 100]))
    assert 700 < sampled.rows < 1300
