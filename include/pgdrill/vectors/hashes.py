"""Keyed hashes of vectors, many at once.

They make a digest of a column that any change moves, and tell how many vectors are copies. A row's
hash is a dot product with secret odd weights modulo 2^64, mixed. A digest is the sum over all rows,
each mixed with its place and writer, so the order of reading does not matter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pgdrill.vectors.types import Integers, Sparse, Values

Words = npt.NDArray[np.uint64]
KEPT_HASHES = 2**20


def mixed(values: Words) -> Words:
    """Return the values mixed as Splitmix64 ends: every bit of input moves half of the output's."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass
class Hasher:
    """Hashes of one column's vectors."""

    key: str
    _weights: Words = field(init=False, default_factory=lambda: np.empty(0, dtype=np.uint64))
    _seed: np.uint64 = field(init=False)

    def __post_init__(self) -> None:
        self._seed = np.uint64(
            int.from_bytes(hashlib.blake2b(self.key.encode(), digest_size=8).digest())
        )

    def of(self, values: Values) -> Words:
        """Return one hash for each vector; equal for equal vectors only."""
        if isinstance(values, Sparse):
            bits = values.values.view(np.uint32).astype(np.uint64)
            sums = np.concatenate(
                [
                    np.zeros(1, np.uint64),
                    np.cumsum(mixed(bits + self._numbered(values.indices)), dtype=np.uint64),
                ]
            )
            ends = np.cumsum(values.counts)
            return mixed(sums[ends] - sums[ends - values.counts])
        words = values if values.shape[1] % 2 == 0 else np.pad(values, ((0, 0), (0, 1)))
        whole = np.ascontiguousarray(words).view(np.uint64)
        if len(self._weights) < whole.shape[1]:
            self._weights = self._numbered(np.arange(whole.shape[1])) | np.uint64(1)
        return mixed(whole @ self._weights[: whole.shape[1]])

    def placed(self, hashes: Words, places: Integers, writers: Integers) -> Words:
        """Return the hashes of rows: of a vector at its place, by its writer."""
        where = self._numbered(places) + mixed(writers.astype(np.uint64) + self._seed)
        return mixed(hashes + where)

    def _numbered(self, numbers: Integers) -> Words:
        return mixed(
            (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + self._seed
        )


@dataclass
class Copies:
    """Counts vectors that are copies of another.

    The count is exact up to a million, and above that by a sample of the hashes.
    """

    _kept: list[Words] = field(default_factory=list)
    _size: int = 0
    _halvings: int = 0

    def add(self, hashes: Words) -> None:
        """Take a block's hashes in."""
        self._keep(hashes)
        while self._size > KEPT_HASHES:
            self._halvings += 1
            kept, self._kept, self._size = self._kept, [], 0
            self._keep(np.concatenate(kept))

    def _keep(self, hashes: Words) -> None:
        mask = np.uint64((1 << self._halvings) - 1)
        chosen = hashes if not self._halvings else hashes[(hashes & mask) == 0]
        self._kept.append(chosen)
        self._size += len(chosen)

    @property
    def rows(self) -> int:
        """The number of vectors that equal an earlier one."""
        if not self._kept:
            return 0
        every = np.concatenate(self._kept)
        return (len(every) - len(np.unique(every))) << self._halvings
