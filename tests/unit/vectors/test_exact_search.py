"""Exact neighbours by blocks against the naive way, for every operator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgdrill.vectors.exact_search import (
    Doubles,
    Nearest,
    Probes,
    look_through,
    neighbours,
    squares_of,
)
from pgdrill.vectors.types import OF_BITS, OPERATORS, Floats, Integers, Sparse, Values


def naive(operator: str, a: Floats, b: Floats) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    match operator:
        case "<->":
            return float(np.sqrt(((x - y) ** 2).sum()))
        case "<#>":
            return float(-(x * y).sum())
        case "<+>" | "<~>":
            return float(np.abs(x - y).sum())
        case "<%>":
            return float(1 - (x * y).sum() / max(np.maximum(x, y).sum(), 1))
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return float(1 - (x * y).sum() / lengths) if lengths else np.inf


def made(rows: int, dimensions: int = 16, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)


def bits(rows: int, seed: int = 1) -> Floats:
    return (made(rows, seed=seed) > 0).astype(np.float32)


def sparse(matrix: Floats) -> Sparse:
    rows, indices = np.nonzero(matrix)
    return Sparse(np.bincount(rows, minlength=len(matrix)), indices, matrix[rows, indices])


def blocks(vectors: Values, size: int) -> Iterator[tuple[Values, Integers]]:
    for start in range(0, len(vectors), size):
        part = vectors[start : start + size]
        yield part, np.arange(start, start + len(part))


def expected(operator: str, probes: Floats, vectors: Floats, k: int) -> Doubles:
    return np.sort([[naive(operator, probe, row) for row in vectors] for probe in probes], axis=1)[
        :, :k
    ]


@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 60), block=st.integers(1, 70), k=st.integers(1, 12), seed=st.integers(0, 9)
)
def test_blocks_of_any_size_give_the_same_neighbours(
    operator: str, rows: int, block: int, k: int, seed: int
) -> None:
    make = bits if operator in OF_BITS else made
    vectors, probes = make(rows, seed=seed), make(3, seed=seed + 100)
    found = neighbours(blocks(vectors, block), Probes(probes, operator, k))
    assert np.allclose(
        found.distances[:, : min(k, rows)],
        expected(operator, probes, vectors, k),
        rtol=1e-9,
        atol=1e-12,
    )
    assert np.isinf(found.distances[:, rows:]).all()  # fewer rows than asked for
    for number in range(3):
        for place, distance in zip(
            found.places[number, :rows], found.distances[number, :rows], strict=True
        ):
            assert distance == pytest.approx(
                naive(operator, probes[number], vectors[place]), rel=1e-9, abs=1e-12
            )


@pytest.mark.parametrize("operator", ["<->", "<#>", "<=>", "<+>"])
@pytest.mark.parametrize("density", [0.05, 0.5])
def test_sparse_vectors_have_the_neighbours_of_dense_ones(operator: str, density: float) -> None:
    drawn = np.random.default_rng(5)
    matrix = made(300, 40) * (drawn.random((300, 40)) < density)
    matrix[0, :] = 0
    matrix = matrix.astype(np.float32)
    probes = matrix[1:6]
    found = neighbours(blocks(sparse(matrix), 37), Probes(sparse(probes), operator, 7))
    assert np.allclose(found.distances, expected(operator, probes, matrix, 7), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("operator", ["<->", "<=>", "<+>"])
def test_rows_that_float32_can_hardly_tell_apart_are_put_in_order(operator: str) -> None:
    """Far from the origin, differences of a millionth: a product in float32 alone puts them in any
    order.
    """
    vectors = (np.full((500, 64), 100) + 1e-4 * made(500, 64)).astype(np.float32)
    found = neighbours(blocks(vectors, 100), Probes(vectors[:20], operator, 5))
    assert np.allclose(
        found.distances, expected(operator, vectors[:20], vectors, 5), rtol=1e-6, atol=1e-13
    )


def test_thousands_of_copies_are_all_at_the_same_distance() -> None:
    vectors = np.repeat(made(2), 4000, axis=0)
    found = neighbours(blocks(vectors, 1500), Probes(vectors[:1], "<->", 10))
    assert (found.distances == 0).all()
    assert len(set(found.places[0].tolist())) == 10


@pytest.mark.parametrize("operator", ["<->", "<=>", "<+>"])
def test_a_stored_vector_is_its_own_nearest_neighbour(operator: str) -> None:
    vectors = made(200)
    found = neighbours(blocks(vectors, 64), Probes(vectors[:20], operator, 1))
    assert found.places.ravel().tolist() == list(range(20))
    assert np.allclose(found.distances, 0, atol=1e-12)


def test_nothing_has_no_neighbours() -> None:
    assert np.isinf(neighbours(iter([]), Probes(made(3), "<->", 10)).distances).all()
    assert neighbours(blocks(made(5), 2), Probes(made(0), "<->", 3)).distances.shape == (0, 3)


@pytest.mark.parametrize("strange", [0.0, np.nan, np.inf])
def test_a_vector_without_a_direction_is_nobodys_neighbour(strange: float) -> None:
    vectors = np.concatenate([np.full((1, 16), strange, np.float32), made(3)])
    found = neighbours(blocks(vectors, 2), Probes(made(1, seed=5), "<=>", 4))
    assert set(found.places[0].tolist()) == {1, 2, 3, -1}
    assert np.isinf(found.distances[0, 3])


def test_a_probe_with_a_group_finds_rows_of_its_group_only() -> None:
    vectors, groups = made(100), np.arange(100) % 3
    probes = Probes(vectors[:6], "<->", 5, groups[:6])
    found = Nearest(probes)
    look_through(probes, [(found, None)], vectors, squares_of(vectors), np.arange(100), groups)
    for number in range(6):
        assert {int(place) % 3 for place in found.places[number]} == {number % 3}
        assert np.allclose(
            found.distances[number],
            expected("<->", vectors[number : number + 1], vectors[groups == number % 3], 5),
        )


def test_a_small_group_is_not_filled_up_with_others() -> None:
    vectors, groups = made(100), (np.arange(100) < 3).astype(np.int64)
    probes = Probes(vectors[:1], "<->", 10, groups[:1])
    found = Nearest(probes)
    look_through(probes, [(found, None)], vectors, squares_of(vectors), np.arange(100), groups)
    assert set(found.places[0].tolist()) == {0, 1, 2, -1}


def test_masked_rows_are_not_seen() -> None:
    vectors = made(50)
    probes = Probes(vectors[:2], "<->", 3)
    every, some = Nearest(probes), Nearest(probes)
    mask = np.arange(50) >= 2
    look_through(
        probes,
        [(every, None), (some, mask)],
        vectors,
        squares_of(vectors),
        np.arange(50),
        np.zeros(50, np.int64),
    )
    assert every.places[0, 0] == 0
    assert (some.places >= 2).all()
