"""Exact nearest neighbours of many probes from one streamed binary COPY and blocked matrix products.

Flat memory whatever the table's size: rows arrive in blocks, and only the k best of each probe are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

Floats = npt.NDArray[np.float32]
BLOCK_BYTES = 8 * 2**20
HEADER_BYTES = 19
ELEMENT = {"vector": ">f4", "halfvec": ">f2"}


@dataclass(frozen=True, slots=True)
class Neighbours:
    """``distances`` (probes x k, ascending) and ``rows``, the number of vectors looked at."""

    distances: Floats
    rows: int


def record_type(kind: str, dimensions: int) -> np.dtype[Any]:
    """A row of ``COPY … (FORMAT binary)`` with one vector: every row of a column has the same length."""
    element = np.dtype(ELEMENT[kind])
    return np.dtype([
        ("fields", ">i2"), ("length", ">i4"), ("dimensions", ">i2"), ("unused", ">i2"),
        ("vector", element, (dimensions,)),
    ])  # fmt: skip


def stream_vectors(
    connection: psycopg.Connection, query: sql.Composable, kind: str, dimensions: int
) -> Iterator[Floats]:
    """Blocks (rows x dimensions, float32) of a query's single vector column, which must hold no NULL."""
    record = record_type(kind, dimensions)
    per_block = max(1, BLOCK_BYTES // record.itemsize) * record.itemsize
    pending = bytearray()
    header = HEADER_BYTES
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for piece in copy:
            pending += bytes(piece[header:]) if header else piece
            header = max(0, header - len(piece))
            while len(pending) >= per_block:
                yield _decode(pending[:per_block], record, dimensions)
                del pending[:per_block]
    whole = (len(pending) - 2) // record.itemsize * record.itemsize  # two bytes of trailer
    if whole > 0:
        yield _decode(pending[:whole], record, dimensions)


def _decode(block: bytearray, record: np.dtype[Any], dimensions: int) -> Floats:
    rows = np.frombuffer(block, dtype=record)
    if not (rows["dimensions"] == dimensions).all():
        raise ValueError(f"a row without exactly {dimensions} dimensions")
    return np.asarray(rows["vector"], dtype=np.float32)


def distances(metric: str, probes: Floats, block: Floats) -> Floats:
    """Distances (probes x rows) as pgvector defines them: ``<->`` L2, ``<#>`` negative inner product, ``<=>`` cosine, ``<+>`` L1."""
    if metric == "<+>":
        return np.stack([np.abs(block - probe).sum(axis=1) for probe in probes])
    product = probes @ block.T
    if metric == "<#>":
        return -product
    if metric == "<=>":
        lengths = np.linalg.norm(probes, axis=1)[:, None] * np.linalg.norm(block, axis=1)[None, :]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(1 - product / lengths, dtype=np.float32)
    squares = (probes**2).sum(axis=1)[:, None] + (block**2).sum(axis=1)[None, :] - 2 * product
    return np.asarray(np.sqrt(np.maximum(squares, 0)), dtype=np.float32)


def exact_neighbours(blocks: Iterator[Floats], probes: Floats, metric: str, k: int) -> Neighbours:
    """The ``k`` smallest distances of each probe over all blocks. Zero vectors, which have no cosine, come last."""
    best = np.full((len(probes), k), np.inf, dtype=np.float32)
    rows = 0
    for block in blocks:
        rows += len(block)
        found = distances(metric, probes, block)
        np.nan_to_num(found, copy=False, nan=np.inf)
        both = np.concatenate([best, found], axis=1)
        best = np.partition(both, k - 1, axis=1)[:, :k]
    return Neighbours(np.sort(best, axis=1), rows)
