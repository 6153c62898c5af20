"""An embedding model that needs no network, no weights and no luck: the same text gives the same
bits everywhere.

Words and character trigrams are hashed into sparse counts, and a sparse projection of random signs
spreads those over the wanted dimensions. Texts that share words land near each other, so neighbours
mean something and recall can be measured. All arithmetic up to the final division is on integers,
hence no rounding that could differ between machines.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FEATURES = 2**14
"""Buckets the n-grams are hashed into."""
SIGNS_PER_FEATURE = 16
"""Dimensions one bucket adds to or takes from."""
WORD_WEIGHT = 3
"""A word says more than one of its trigrams."""
BATCH = 2048
"""Texts embedded at once: bounds memory, changes nothing else."""


class Embedder:
    """Turns texts into unit vectors.

    :param dimensions: length of every vector, from 2 up.
    """

    version = "1"

    def __init__(self, dimensions: int) -> None:
        if dimensions < 2:
            message = f"dimensions must be at least 2, not {dimensions}"
            raise ValueError(message)
        self.dimensions = dimensions

    @property
    def name(self) -> str:
        """The model's name, as in the columns' labels: ``hashing-384``."""
        return f"hashing-{self.dimensions}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 unit vectors, shape ``(len(texts), dimensions)``; a text without any word
        gives a fixed one.
        """
        result = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for start in range(0, len(texts), BATCH):
            result[start : start + BATCH] = self._embed_batch(texts[start : start + BATCH])
        return result

    def _embed_batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = self._words.transform(texts) * WORD_WEIGHT + self._trigrams.transform(texts)
        sums = np.asarray((counts.astype(np.int32) @ self._projection).todense(), dtype=np.int64)
        # nothing to hash: the first axis, for a zero vector has no cosine
        sums[~sums.any(axis=1), 0] = 1
        # Integers up to 2**53 are exact in float64, and square root and division are rounded the
        # same way everywhere.
        lengths = np.sqrt((sums * sums).sum(axis=1, keepdims=True).astype(np.float64))
        vectors: NDArray[np.float32] = (sums / lengths).astype(np.float32)
        return vectors

    @cached_property
    def _words(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        return HashingVectorizer(
            n_features=FEATURES,
            norm=None,
            stop_words="english",
            ngram_range=(1, 2),
            dtype=np.float64,
        )

    @cached_property
    def _trigrams(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        return HashingVectorizer(
            n_features=FEATURES, norm=None, analyzer="char_wb", ngram_range=(3, 3), dtype=np.float64
        )

    @cached_property
    def _projection(self) -> Any:
        """Sparse int32 matrix ``(FEATURES, dimensions)`` with up to SIGNS_PER_FEATURE entries of
        +-1 a row.
        """
        from scipy.sparse import coo_matrix

        entries = FEATURES * SIGNS_PER_FEATURE
        random = _mix(np.arange(entries, dtype=np.uint64) + np.uint64(self.dimensions << 32))
        rows = np.arange(entries, dtype=np.int64) // SIGNS_PER_FEATURE
        columns = ((random >> np.uint64(1)) % np.uint64(self.dimensions)).astype(np.int64)
        signs = (random & np.uint64(1)).astype(np.int32) * 2 - 1
        return coo_matrix(
            (signs, (rows, columns)), shape=(FEATURES, self.dimensions), dtype=np.int32
        ).tocsr()


@cache
def _of_size(dimensions: int) -> Embedder:
    return Embedder(dimensions)


def embed(model: str, texts: list[str]) -> NDArray[np.float32]:
    """For ``embedder = "python:pgdrill_demo.embedder:embed"``: the vectors of *texts* by the model
    of that name.
    """
    family, _, dimensions = model.rpartition("-")
    if family != "hashing" or not dimensions.isdecimal():
        message = f"no model {model!r} here, only hashing-<dimensions>"
        raise ValueError(message)
    return _of_size(int(dimensions)).embed(texts)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Splitmix64. NumPy may change what its generators draw from one release to the next;
    arithmetic stays.
    """
    mixed = values * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
