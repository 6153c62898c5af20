"""Canaries: stored rows with their text and vector, and the comparison with what an embedder makes of the text.

The sample is drawn part by part of the table, so that damage to one stretch of it cannot slip between the rows, and by
a key of the drill's own baseline: the same drill asks the same rows, the next one others. Texts and vectors stay in
memory; only places (ctid) leave this module.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from pgdrill.vectors.columns import FoundColumn
from pgdrill.vectors.types import ELEMENT, Floats

WINDOW_BLOCKS = 32  # looked at first in each part, so that a large table is not read whole
HEADER_BYTES = 4  # dimensions and a spare int16, in the binary form of vector and halfvec

ROWS = sql.SQL("SELECT ctid::text, {text}::text, {send}({cell}) FROM ONLY {table} WHERE ctid = ANY(ARRAY({places}))")
PRESENT = sql.SQL("{cell} IS NOT NULL AND {text}::text <> ''")


@dataclass(frozen=True, slots=True)
class Canaries:
    """Rows to embed again. ``every`` says that they are all there are."""

    places: list[str]
    texts: list[str]
    vectors: list[Floats]
    every: bool

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Source:
    """Where canaries come from: a vector column and the column of its text."""

    connection: psycopg.Connection
    column: FoundColumn
    text_column: str

    def sample(self, wanted: int, key: str) -> Canaries:
        """``wanted`` rows spread over the table, or all where there are no more."""
        places = sql.SQL("SELECT ctid FROM ONLY {table} WHERE {present} LIMIT {limit}")
        first = self._fetch(places, limit=wanted + 1)
        if len(first) <= wanted:
            return self._canaries(first, every=True)
        blocks = self._blocks()
        parts = min(wanted, blocks)
        rows: list[tuple[Any, ...]] = []
        for part in range(parts):
            share = (part + 1) * wanted // parts - part * wanted // parts
            rows += self._part(part * blocks // parts, (part + 1) * blocks // parts, share, key)
        return self._canaries(rows, every=False)

    def newest(self, wanted: int, updated_column: str) -> Canaries:
        """The rows whose text was changed last."""
        places = sql.SQL("SELECT ctid FROM ONLY {table} WHERE {present} ORDER BY {by} DESC NULLS LAST LIMIT {limit}")
        rows = self._fetch(places, limit=wanted, by=sql.Identifier(updated_column))
        return self._canaries(rows, every=False)

    def _part(self, start: int, end: int, wanted: int, key: str) -> list[tuple[Any, ...]]:
        """Rows of the blocks from ``start`` up to ``end``: from a window drawn by the key, from all if it has too few."""
        places = sql.SQL(
            "SELECT ctid FROM ONLY {table} WHERE ctid >= {start}::tid AND ctid < {end}::tid AND {present}"
            " ORDER BY md5({key} || ctid::text) LIMIT {limit}"
        )
        digest = hashlib.blake2b(f"{key}/{start}".encode(), digest_size=8).digest()
        window = start + int.from_bytes(digest) % -(-(end - start) // WINDOW_BLOCKS) * WINDOW_BLOCKS
        for low, high in ((window, min(window + WINDOW_BLOCKS, end)), (start, end)):
            rows = self._fetch(
                places, limit=wanted, start=sql.Literal(f"({low},0)"), end=sql.Literal(f"({high},0)"), key=sql.Literal(key)
            )
            if len(rows) == wanted:
                break
        return rows

    def _blocks(self) -> int:
        row = self.connection.execute(
            "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int",
            (self.column.relation.as_string(self.connection),),
        ).fetchone()
        return max(1, int(row[0])) if row else 1

    def _fetch(self, places: sql.SQL, *, limit: int, **parts: sql.Composable) -> list[tuple[Any, ...]]:
        cell, text = sql.Identifier(self.column.column), sql.Identifier(self.text_column)
        inner = places.format(
            table=self.column.relation, present=PRESENT.format(cell=cell, text=text), limit=sql.Literal(limit), **parts
        )
        send = sql.Identifier(f"{self.column.kind}_send")
        query = ROWS.format(text=text, send=send, cell=cell, table=self.column.relation, places=inner)
        return self.connection.execute(query).fetchall()

    def _canaries(self, rows: list[tuple[Any, ...]], *, every: bool) -> Canaries:
        element = ELEMENT[self.column.kind]
        vectors = [np.frombuffer(row[2], dtype=element, offset=HEADER_BYTES).astype(np.float32) for row in rows]
        return Canaries([row[0] for row in rows], [row[1] for row in rows], vectors, every)


def off_target(stored: list[Floats], made: Floats, tolerance: float) -> list[int]:
    """Which stored vectors are not what the embedder made: another direction, length or number of dimensions.

    Cosine distance says nothing of length, and other operators do. An application may normalize what its model gives,
    all of it or nothing: rows of both kinds in one column are not right.
    """
    same = [number for number, vector in enumerate(stored) if vector.shape == made[number].shape]
    if not same:
        return list(range(len(stored)))
    ours, theirs = np.stack([stored[n] for n in same]).astype(np.float64), made[same].astype(np.float64)
    with np.errstate(all="ignore"):  # zeros, NaN and infinity end up as NaN, which is within no tolerance
        long, wanted = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
        aligned = 1 - (ours * theirs).sum(axis=1) / (long * wanted) <= tolerance
        as_made = aligned & (np.abs(long / wanted - 1) <= tolerance)
        normalized = aligned & (np.abs(long - 1) <= tolerance)
    right = as_made if as_made.sum() >= normalized.sum() else normalized
    good = {number for number, fine in zip(same, right, strict=True) if fine}
    return [number for number in range(len(stored)) if number not in good]


def found_share(rows: int) -> float:
    """The share of damaged rows that so many canaries find with 95 % certainty."""
    return float(1 - 0.05 ** (1 / max(rows, 1)))
