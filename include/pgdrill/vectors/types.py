"""pgvector's types and distances: the binary formats of values, and what each operator means."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

ELEMENT = {"vector": ">f4", "halfvec": ">f2"}
KINDS = ("vector", "halfvec", "sparsevec", "bit")
# Operator -> what it measures. A column without an index is searched by the first one for its kind.
OPERATORS = {
    "<=>": "cosine",
    "<->": "L2",
    "<#>": "inner product",
    "<+>": "L1",
    "<~>": "Hamming",
    "<%>": "Jaccard",
}
OF_BITS = ("<~>", "<%>")
SIZE_BYTES = {"vector": 4, "halfvec": 4, "sparsevec": 12, "bit": 4}  # the head before the elements


def usual_operator(kind: str) -> str:
    """Return the operator by which a column that has no index is searched here."""
    return "<~>" if kind == "bit" else "<=>"


@dataclass(frozen=True, slots=True)
class Sparse:
    """Rows of a sparsevec column."""

    counts: Integers  # for every row its number of elements
    # of all elements, one row's after the other's
    indices: Integers
    values: Floats

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: slice) -> Sparse:
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        start, stop, _ = rows.indices(len(self))
        inside = slice(ends[start], ends[stop])
        return Sparse(self.counts[rows], self.indices[inside], self.values[inside])


Values = Floats | Sparse
"""Vectors of one number of dimensions: float32 (rows x dimensions; bits as 0 and 1), or sparse."""


def dimensions_of(kind: str, payload: Bytes) -> Integers:
    """Return the dimensions of every value (rows x bytes)."""
    wide = kind in ("sparsevec", "bit")
    head = np.ascontiguousarray(payload[:, : 4 if wide else 2])
    return head.view(">i4" if wide else ">u2").ravel().astype(np.int64)


def decode(kind: str, payload: Bytes) -> Values:
    """Decode values from their binary form, rows x bytes, all of the same size and dimensions."""
    body = payload[:, SIZE_BYTES[kind] :]
    if kind == "bit":
        bits = int.from_bytes(payload[0, :4].tobytes())
        return np.unpackbits(body, axis=1, count=bits).astype(np.float32)
    if kind == "sparsevec":
        rows, elements = len(payload), body.shape[1] // 8
        numbers = np.ascontiguousarray(body[:, : 4 * elements]).view(">i4").astype(np.int64)
        values = np.ascontiguousarray(body[:, 4 * elements :]).view(">f4").astype(np.float32)
        return Sparse(np.full(rows, elements, dtype=np.int64), numbers.ravel(), values.ravel())
    if kind == "halfvec":
        return np.ascontiguousarray(body).view(ELEMENT[kind]).astype(np.float32)
    # A copy in one piece, and then the bytes turned round in place, is four times as fast as
    # letting astype do both.
    words = body.copy().view(np.uint32)
    return (words.byteswap(inplace=True) if sys.byteorder == "little" else words).view(np.float32)


def joined(parts: list[Values]) -> Values:
    """Join several blocks of one column into one."""
    if any(isinstance(part, Sparse) for part in parts):
        sparse = [part for part in parts if isinstance(part, Sparse)]
        return Sparse(
            *(
                np.concatenate([getattr(part, name) for part in sparse])
                for name in ("counts", "indices", "values")
            )
        )
    return np.concatenate([part for part in parts if not isinstance(part, Sparse)])
