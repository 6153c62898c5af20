"""One reading of a column, from a single COPY.

It tells what the column's vectors are like, and the exact neighbours of all probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from threadpoolctl import threadpool_limits

from pgdrill.postgres.row_digests import Horizon
from pgdrill.vectors.columns import FoundColumn
from pgdrill.vectors.copy_stream import Block, Column, Field, place_text, stream
from pgdrill.vectors.exact_search import Nearest, Probes, Truths, look_through, squares_of
from pgdrill.vectors.hashes import Copies, Hasher
from pgdrill.vectors.types import Integers, Sparse


@dataclass
class Question:
    """Probes to find the neighbours of in a field, among all rows and among the stable ones."""

    searched: Field
    probes: Probes
    every: Nearest = field(init=False)
    # kept apart only once there is a row that is not stable
    _stable: Nearest | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.every = Nearest(self.probes)

    @property
    def stable(self) -> Nearest:
        """The neighbours among rows that are older than the horizon."""
        return self._stable or self.every

    def add(
        self,
        column: Column,
        squares: npt.NDArray[np.float32],
        places: Integers,
        groups: Integers,
        old: Truths,
    ) -> None:
        """Take a block in."""
        if column.values is None or len(self.probes) == 0:
            return
        if self._stable is None and not old.all():
            self._stable = self.every.copy()
        wanted: list[tuple[Nearest, Truths | None]] = [(self.every, None)]
        if self._stable is not None:
            wanted.append((self._stable, old))
        look_through(self.probes, wanted, column.values, squares, places, groups)


@dataclass
class Norms:
    """Lengths of the stable vectors."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    lowest: float = float("inf")
    highest: float = 0.0

    def add(self, squared: npt.NDArray[np.float64]) -> None:
        """Take finite squared lengths in."""
        if len(squared):
            lengths = np.sqrt(squared)
            self.count += len(lengths)
            self.total += float(lengths.sum())
            self.squares += float(squared.sum())
            self.lowest = min(self.lowest, float(lengths.min()))
            self.highest = max(self.highest, float(lengths.max()))


@dataclass
class Reading:
    """The figures of a column that was read. First places are as PostgreSQL writes a ctid."""

    rows: int = 0
    nulls: int = 0
    # at least so many rows older than the horizon have no vector, and had none in its snapshot
    old_nulls: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    broken: int = 0  # vectors that are not finite
    first_broken: str = ""
    zeros: int = 0
    old_zeros: int = 0  # of rows older than the horizon, which were zeros in its snapshot
    first_zero: str = ""
    stable: int = 0
    norms: Norms = field(default_factory=Norms)
    copies: Copies = field(default_factory=Copies)
    digest: int = 0

    def add(
        self,
        column: Column,
        block: Block,
        squares: npt.NDArray[np.float32],
        old: Truths,
        hasher: Hasher,
        dimensions: int,
    ) -> None:
        """Take a block of the column itself in."""
        self.rows += len(block)
        self.nulls += column.nulls
        for size, rows in column.sizes.items():
            self.sizes[size] = self.sizes.get(size, 0) + rows
        with_vector = int(column.of(old).sum()) if column.values is not None else 0
        self.old_nulls += max(0, int(old.sum()) - with_vector - sum(column.sizes.values()))
        if column.values is None:
            return
        self.sizes[dimensions] = self.sizes.get(dimensions, 0) + len(squares)
        places, writers, stable = column.of(block.places), column.of(block.writers), column.of(old)
        long = squares.astype(np.float64)
        odd = np.nonzero(~np.isfinite(squares))[0]
        # A length may be infinite though no element is, because its square does not fit.
        for row in odd:
            elements = _elements(column, int(row)).astype(np.float64)
            long[row] = (elements**2).sum()
        bad, none = ~np.isfinite(long), long == 0
        self.broken, self.first_broken = _counted(bad, places, self.broken, self.first_broken)
        self.zeros, self.first_zero = _counted(none, places, self.zeros, self.first_zero)
        self.old_zeros += int((none & stable).sum())
        self.norms.add(long[stable & ~bad])
        hashes = hasher.of(column.values)
        self.copies.add(hashes)
        self.stable += int(stable.sum())
        placed = hasher.placed(hashes[stable], places[stable], writers[stable])
        self.digest = (self.digest + int(placed.sum(dtype=np.uint64))) % 2**64


def _counted(rows: Truths, places: Integers, count: int, first: str) -> tuple[int, str]:
    number = int(rows.sum())
    return count + number, first or (place_text(int(places[rows.argmax()])) if number else "")


def _elements(column: Column, row: int) -> npt.NDArray[np.float32]:
    values = column.values
    assert values is not None  # noqa: S101 - its squares came from them
    return values[row : row + 1].values if isinstance(values, Sparse) else values[row]


def stable_rows(writers: Integers, line: Horizon | None) -> Truths:
    """Return which rows were written before the horizon.

    It is told as in :mod:`pgdrill.postgres.row_digests`: newness is a window of numbers.
    """
    if line is None:
        return np.ones(len(writers), dtype=np.bool_)
    window = min(line.next_xid - line.oldest_xid, 2**31)
    return np.asarray((writers - line.oldest_xid) % 2**32 >= window)


def read(
    connection: psycopg.Connection,
    column: FoundColumn,
    cell: Field,
    questions: Sequence[Question],
    line: Horizon | None,
) -> Reading:
    """Read the table once, for the figures of a column and all questions.

    ``cell`` is the column itself, as :func:`pgdrill.vectors.columns.cell_of` describes it.
    """
    fields = list(dict.fromkeys([cell, *(question.searched for question in questions)]))
    hasher = Hasher(line.key if line else "")
    found = Reading()
    group = sql.Identifier(column.filter.column) if column.filter else None
    # A product spread over cores that others need is slower than on one core, by far where the
    # cores are busy.
    with threadpool_limits(limits=1, user_api="blas"):
        for block in stream(connection, column.relation, fields, group):
            old = stable_rows(block.writers, line)
            squares = [
                squares_of(part.values) if part.values is not None else np.empty(0, np.float32)
                for part in block.columns
            ]
            found.add(block.columns[0], block, squares[0], old, hasher, cell.dimensions)
            for question in questions:
                number = fields.index(question.searched)
                part = block.columns[number]
                question.add(
                    part,
                    squares[number],
                    part.of(block.places),
                    part.of(block.groups),
                    part.of(old),
                )
    return found
