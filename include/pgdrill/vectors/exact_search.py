"""Exact nearest neighbours of many probes over a stream of blocks.

A matrix product in float32 says roughly how far every row is from every probe, and how wrong that
can be. What may be among the k nearest is measured again in float64. So a probe's neighbours are
exact though almost nothing is computed exactly, and only the k best of each probe are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pgdrill.vectors.types import Floats, Integers, Sparse, Values

Doubles = npt.NDArray[np.float64]
Rough = npt.NDArray[np.floating[Any]]
Truths = npt.NDArray[np.bool_]

DISTANCES_AT_ONCE = 2**20  # probes x rows that are compared in one step: 4 MiB
EXACT_ELEMENTS = 2**18  # elements of vectors measured again together: 2 MiB in float64, twice
CACHED_ELEMENTS = 2**16  # elements of a piece from which all probes are subtracted before the next
EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True)
class Dense:
    """Vectors as a matrix (rows x width).

    Sparse vectors have only the dimensions that any probe has.
    """

    matrix: Rough
    squares: Rough
    rest_squares: Doubles | None = None  # sums of the squares of the dimensions left out
    rest_sums: Doubles | None = None  # sums of their absolute values

    def __len__(self) -> int:
        return len(self.matrix)

    def doubled(self, rows: Integers | slice) -> Dense:
        """Return some rows in float64."""
        matrix = self.matrix[rows].astype(np.float64)
        squares = np.einsum("ij,ij->i", matrix, matrix)
        if self.rest_squares is None or self.rest_sums is None:
            return Dense(matrix, squares)
        return Dense(
            matrix, squares + self.rest_squares[rows], self.rest_squares[rows], self.rest_sums[rows]
        )

    @classmethod
    def of(cls, matrix: Floats) -> Dense:
        """Return the matrix with the squared length of every row, in float32.

        It is infinite where that overflows.
        """
        return cls(matrix, squares_of(matrix))


def squares_of(values: Values) -> Floats:
    """Return the squared length of every vector, in float32."""
    if isinstance(values, Sparse):
        return _by_row(values, values.values.astype(np.float64) ** 2).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.einsum("ij,ij->i", values, values))


def _by_row(values: Sparse, elements: Doubles) -> Doubles:
    rows = np.repeat(np.arange(len(values)), values.counts)
    return np.bincount(rows, weights=elements, minlength=len(values)).astype(np.float64)


@dataclass
class Probes:
    """Vectors to search for, all of one kind."""

    values: Values
    operator: str
    k: int
    # limits each probe's search to rows of its group, where given
    groups: Integers | None = None
    dense: Dense = field(init=False)
    # of sparse probes: the dimensions that any of them has
    dimensions: Integers | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if isinstance(self.values, Sparse):
            self.dimensions = np.unique(self.values.indices)
            self.dense = self._compact(self.values)
        else:
            self.dense = Dense.of(self.values)

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def rows_at_once(self) -> int:
        """The number of rows to compare with all probes in one step."""
        widest = max(len(self), self.dense.matrix.shape[1] if self.dimensions is not None else 1, 1)
        return max(64, DISTANCES_AT_ONCE // widest)

    def block(self, values: Values, squares: Floats, rows: slice) -> Dense:
        """Return a part of a block in the form that probes are compared with."""
        if isinstance(values, Sparse):
            return self._compact(values[rows])
        return Dense(values[rows], squares[rows])

    def _compact(self, values: Sparse) -> Dense:
        known = self.dimensions
        assert known is not None  # noqa: S101 - of sparse probes only
        where = np.searchsorted(known, values.indices)
        where[where == len(known)] = 0
        inside = (
            known[where] == values.indices if len(known) else np.zeros(len(where), dtype=np.bool_)
        )
        rows = np.repeat(np.arange(len(values)), values.counts)
        matrix = np.zeros((len(values), len(known)), dtype=np.float32)
        matrix[rows[inside], where[inside]] = values.values[inside]
        outside = np.where(inside, 0, values.values).astype(np.float64)
        return Dense(
            matrix,
            squares_of(values),
            _by_row(values, outside**2),
            _by_row(values, np.abs(outside)),
        )


@dataclass
class Nearest:
    """The k nearest rows of each probe found so far."""

    probes: Probes
    distances: Doubles = field(init=False)  # ascending; infinite: none yet
    places: Integers = field(init=False)  # of the same rows

    def __post_init__(self) -> None:
        shape = (len(self.probes), self.probes.k)
        self.distances = np.full(shape, np.inf)
        self.places = np.full(shape, -1, dtype=np.int64)

    def copy(self) -> Nearest:
        """Return a copy as it stands."""
        other = Nearest(self.probes)
        other.distances, other.places = self.distances.copy(), self.places.copy()
        return other

    def add(self, probe: Integers, distances: Doubles, places: Integers) -> None:
        """Take new rows in: for each its probe's number, distance and place."""
        finite = np.isfinite(distances)
        probe, distances, places = probe[finite], distances[finite], places[finite]
        for number in np.unique(probe):
            mine = probe == number
            both = np.concatenate([self.distances[number], distances[mine]])
            where = np.concatenate([self.places[number], places[mine]])
            order = np.lexsort((where, both))[: self.probes.k]
            self.distances[number], self.places[number] = both[order], where[order]


def look_through(
    probes: Probes,
    nearest: list[tuple[Nearest, Truths | None]],
    values: Values,
    squares: Floats,
    places: Integers,
    groups: Integers,
) -> None:
    """Take a block in. Each of ``nearest`` sees the rows that its mask has (None: all)."""
    for start in range(0, len(places), probes.rows_at_once):
        rows = slice(start, start + probes.rows_at_once)
        block = probes.block(values, squares, rows)
        rough, margin = roughly(probes.operator, probes.dense, block)
        if probes.groups is not None:
            rough[probes.groups[:, None] != groups[None, rows]] = np.inf
        for found, mask in nearest:
            seen = (
                rough if mask is None or mask[rows].all() else np.where(mask[rows], rough, np.inf)
            )
            probe, row = _candidates(found, block, seen, margin)
            if len(probe):
                found.add(probe, exactly(probes, block, probe, row), places[rows][row])


def _candidates(
    found: Nearest, block: Dense, rough: Rough, margin: Rough
) -> tuple[Integers, Integers]:
    """Return probe and row of everything that may be among the k nearest."""
    near = _near(found, rough, margin, slice(None))
    most = 4 * found.probes.k + 64
    crowded = np.nonzero(near.sum(axis=1) > most)[0]
    # These are more than float32 can tell apart. In float64 those remain that are equal but for its
    # last bits.
    if len(crowded):
        fine, small = roughly(
            found.probes.operator, found.probes.dense.doubled(crowded), block.doubled(slice(None))
        )
        fine[~np.isfinite(rough[crowded])] = np.inf
        near[crowded] = _near(found, fine, small, crowded)
        for number, row in enumerate(crowded):
            inside = np.nonzero(near[row])[0]
            if len(inside) > most:
                near[row] = False
                near[row, inside[np.argpartition(fine[number, inside], most - 1)[:most]]] = True
    probe, row_number = np.nonzero(near)
    return probe, row_number


def _near(found: Nearest, rough: Rough, margin: Rough, probes: Integers | slice) -> Truths:
    """Return which rows may be nearer to a probe than the k-th of what was found so far.

    Where that is not k yet, the roughly k-th counts.
    """
    worst, k = found.distances[probes, -1], found.probes.k
    limits = (worst**2 if found.probes.operator == "<->" else worst) + margin
    unlimited = ~np.isfinite(limits)
    if unlimited.any() and rough.shape[1] > k:
        # NaN sorts last, as in PostgreSQL
        kth = np.partition(rough[unlimited], k - 1, axis=1)[:, k - 1]
        limits[unlimited] = np.where(np.isnan(kth), np.inf, kth) + 2 * margin[unlimited]
    # A row outside of the mask or group is infinitely far, however far a probe may look.
    limits = np.minimum(limits, np.finfo(rough.dtype).max).astype(rough.dtype)
    with np.errstate(invalid="ignore"):
        return np.asarray(rough <= limits[:, None])


def roughly(operator: str, theirs: Dense, ours: Dense) -> tuple[Rough, Rough]:
    """Return rough distances (probes x rows), L2's squared, and how far off they may be.

    The latter is one number for each probe, in the precision of the vectors.
    """
    kind = ours.matrix.dtype.type
    relative = kind(np.finfo(kind).eps * (8 + theirs.matrix.shape[1] ** 0.5))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if operator == "<+>":
            return _manhattan(theirs.matrix, ours), relative * 2 * np.abs(theirs.matrix).sum(axis=1)
        product = theirs.matrix @ ours.matrix.T
        longest = np.sqrt(np.max(ours.squares, initial=0, where=np.isfinite(ours.squares)))
        match operator:
            case "<#>":
                return np.negative(product, out=product), relative * np.sqrt(
                    theirs.squares
                ) * longest
            case "<=>":
                product /= -np.sqrt(theirs.squares)[:, None]
                product /= np.sqrt(ours.squares)[None, :]
                product += 1
                return product, np.full(len(theirs), relative)
            case "<%>":
                product /= np.maximum(theirs.squares[:, None] + ours.squares[None, :] - product, 1)
                return np.subtract(1, product, out=product), np.full(len(theirs), relative)
        product *= -2
        product += theirs.squares[:, None]
        product += ours.squares[None, :]
        return product, 2 * relative * (theirs.squares + longest**2)


def _manhattan(probes: Rough, block: Dense) -> Rough:
    """Return sums of absolute differences, made in pieces that stay in the processor's cache."""
    width = block.matrix.shape[1]
    step = max(1, CACHED_ELEMENTS // max(width, 1))
    ones = np.ones(width, dtype=probes.dtype)
    result = np.empty((len(probes), len(block)), dtype=probes.dtype)
    scratch = np.empty((step, width), dtype=probes.dtype)
    for start in range(0, len(block), step):
        piece = block.matrix[start : start + step]
        room = scratch[: len(piece)]
        for number, probe in enumerate(probes):
            np.subtract(piece, probe, out=room)
            np.abs(room, out=room)
            np.dot(room, ones, out=result[number, start : start + step])
    return (
        result
        if block.rest_sums is None
        else np.asarray(result + block.rest_sums.astype(probes.dtype))
    )


def exactly(probes: Probes, block: Dense, probe: Integers, row: Integers) -> Doubles:
    """Return the distances of single pairs in float64, as pgvector defines them."""
    step = max(1, EXACT_ELEMENTS // max(block.matrix.shape[1], 1))
    parts = [
        _measured(probes, block, probe[start : start + step], row[start : start + step])
        for start in range(0, len(probe), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _measured(probes: Probes, block: Dense, probe: Integers, row: Integers) -> Doubles:
    theirs = probes.dense.matrix[probe].astype(np.float64)
    ours = block.matrix[row].astype(np.float64)
    rest = np.zeros(len(row)) if block.rest_squares is None else block.rest_squares[row]
    match probes.operator:
        case "<+>":
            return np.asarray(
                np.abs(theirs - ours).sum(axis=1)
                + (0 if block.rest_sums is None else block.rest_sums[row])
            )
        case "<~>":
            return np.asarray(np.abs(theirs - ours).sum(axis=1))
        case "<->":
            return np.asarray(np.sqrt(((theirs - ours) ** 2).sum(axis=1) + rest))
    product = (theirs * ours).sum(axis=1)
    if probes.operator == "<#>":
        return np.asarray(-product)
    with np.errstate(invalid="ignore", divide="ignore"):
        both = (theirs**2).sum(axis=1), (ours**2).sum(axis=1) + rest
        if probes.operator == "<%>":
            return np.where(product == 0, 1.0, 1 - product / (both[0] + both[1] - product))
        # Rounding must not make a vector nearer to another than to itself.
        return np.asarray(1 - np.clip(product / np.sqrt(both[0] * both[1]), -1, 1))


def neighbours(blocks: Iterator[tuple[Values, Integers]], probes: Probes) -> Nearest:
    """Return the nearest rows in plain blocks of values and places."""
    found = Nearest(probes)
    for values, places in blocks:
        look_through(
            probes,
            [(found, None)],
            values,
            squares_of(values),
            places,
            np.zeros(len(places), dtype=np.int64),
        )
    return found
