"""Canaries: stored rows with their text and vector, to compare with what an embedder makes.

The sample is drawn part by part of the table, so that damage to one stretch of it cannot slip
between the rows. It is drawn by a key of the drill's own baseline: the same drill asks the same
rows, the next one others. Texts and vectors stay in memory; only places (ctid) leave this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from pgdrill.vectors.columns import FoundColumn
from pgdrill.vectors.types import ELEMENT, Floats

WINDOW_BLOCKS = 32  # read first in each part, so that a large table is not read whole
HEADER_BYTES = 4  # dimensions and a spare int16, in the binary form of vector and halfvec

ROWS = sql.SQL(
    "SELECT ctid::text, {text}::text, {send}({cell}::{type}) FROM ONLY {table} WHERE ctid ="
    " ANY({places})"
)
# Draws from each stretch of blocks its share of rows, by the key.
DRAWN = sql.SQL("""
SELECT pgdrill_stretch.number - 1, pgdrill_drawn.place::text
FROM unnest({lows}::int8[], {highs}::int8[], {shares}::int8[])
     WITH ORDINALITY AS pgdrill_stretch (low, high, share, number)
CROSS JOIN LATERAL (
    SELECT pgdrill_row.ctid FROM ONLY {table} pgdrill_row
    WHERE pgdrill_row.ctid >= ('(' || pgdrill_stretch.low || ',0)')::tid
      AND pgdrill_row.ctid < ('(' || pgdrill_stretch.high || ',0)')::tid
      AND {present}
    ORDER BY md5({key} || pgdrill_row.ctid::text) LIMIT pgdrill_stretch.share
) pgdrill_drawn (place)
""")
PRESENT = sql.SQL("{cell} IS NOT NULL AND {text}::text <> ''")


@dataclass(frozen=True, slots=True)
class Canaries:
    """Rows to embed again."""

    places: list[str]
    texts: list[str]
    vectors: list[Floats]
    every: bool  # these are all the rows there are

    def __len__(self) -> int:
        return len(self.places)

    def some(self, numbers: Sequence[int]) -> Canaries:
        """Return the rows of these numbers."""
        return Canaries(
            [self.places[n] for n in numbers],
            [self.texts[n] for n in numbers],
            [self.vectors[n] for n in numbers],
            every=False,
        )


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A range of blocks, and how many rows of it are wanted."""

    low: int  # the first block
    high: int  # the block after the last
    share: int  # rows wanted

    def window(self, key: str) -> _Stretch:
        """Return a part of the stretch, drawn by the key."""
        digest = hashlib.blake2b(f"{key}/{self.low}".encode(), digest_size=8).digest()
        low = (
            self.low
            + int.from_bytes(digest) % -(-(self.high - self.low) // WINDOW_BLOCKS) * WINDOW_BLOCKS
        )
        return _Stretch(low, min(low + WINDOW_BLOCKS, self.high), self.share)


@dataclass(frozen=True)
class Source:
    """The source of canaries: a vector column and the column of its text."""

    connection: psycopg.Connection
    column: FoundColumn
    text_column: str

    def sample(self, wanted: int, key: str) -> Canaries:
        """Return ``wanted`` rows spread over the table, or all where there are no more."""
        places = sql.SQL("SELECT ctid FROM ONLY {table} WHERE {present} LIMIT {limit}")
        first = self._fetch(places, limit=sql.Literal(wanted + 1))
        if len(first) <= wanted:
            return self._canaries(first, every=True)
        blocks = self._blocks()
        count = min(wanted, blocks)
        parts = [
            _Stretch(
                n * blocks // count,
                (n + 1) * blocks // count,
                (n + 1) * wanted // count - n * wanted // count,
            )
            for n in range(count)
        ]
        drawn = self._drawn([part.window(key) for part in parts], key)
        poor = [
            number for number, part in enumerate(parts) if len(drawn.get(number, [])) < part.share
        ]
        again = self._drawn([parts[number] for number in poor], key)
        drawn |= {number: again.get(at, []) for at, number in enumerate(poor)}
        chosen = sql.Literal([place for found in drawn.values() for place in found])
        return self._canaries(self._rows(sql.SQL("{}::tid[]").format(chosen)), every=False)

    def newest(self, wanted: int, updated_column: str) -> Canaries:
        """Return the ``wanted`` rows whose text was changed last."""
        places = sql.SQL(
            "SELECT ctid FROM ONLY {table} WHERE {present} ORDER BY {by} DESC NULLS LAST LIMIT"
            " {limit}"
        )
        rows = self._fetch(places, limit=sql.Literal(wanted), by=sql.Identifier(updated_column))
        return self._canaries(rows, every=False)

    def _drawn(self, stretches: list[_Stretch], key: str) -> dict[int, list[str]]:
        """Return the places of the drawn rows by the number of their stretch."""
        lows, highs, shares = (
            [getattr(one, name) for one in stretches] for name in ("low", "high", "share")
        )
        query = self._filled(
            DRAWN,
            lows=sql.Literal(lows),
            highs=sql.Literal(highs),
            shares=sql.Literal(shares),
            key=sql.Literal(key),
        )
        found: dict[int, list[str]] = {}
        for number, place in self.connection.execute(query).fetchall():
            found.setdefault(number, []).append(place)
        return found

    def _blocks(self) -> int:
        row = self.connection.execute(
            "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int",
            (self.column.relation.as_string(self.connection),),
        ).fetchone()
        return max(1, int(row[0])) if row else 1

    def _fetch(self, places: sql.SQL, **parts: sql.Composable) -> list[tuple[Any, ...]]:
        return self._rows(sql.SQL("ARRAY({})").format(self._filled(places, **parts)))

    def _rows(self, places: sql.Composable) -> list[tuple[Any, ...]]:
        return self.connection.execute(self._filled(ROWS, places=places)).fetchall()

    def _filled(self, query: sql.SQL, **parts: sql.Composable) -> sql.Composed:
        cell, text = map(sql.Identifier, (self.column.column, self.text_column))
        send, kind = (
            sql.Identifier(self.column.home, name)
            for name in (f"{self.column.kind}_send", self.column.kind)
        )
        present = PRESENT.format(cell=cell, text=text)
        return query.format(
            cell=cell,
            text=text,
            send=send,
            type=kind,
            table=self.column.relation,
            present=present,
            **parts,
        )

    def _canaries(self, rows: list[tuple[Any, ...]], *, every: bool) -> Canaries:
        element = ELEMENT[self.column.kind]
        vectors = [
            np.frombuffer(row[2], dtype=element, offset=HEADER_BYTES).astype(np.float32)
            for row in rows
        ]
        return Canaries([row[0] for row in rows], [row[1] for row in rows], vectors, every)


def off_target(stored: list[Floats], made: Floats, tolerance: float) -> list[int]:
    """Return the numbers of the stored vectors that are not what the embedder made.

    Such a vector has another direction, length or number of dimensions. Cosine distance says
    nothing of length, and other operators do. An application may normalize what its model gives,
    all of it or nothing: rows of both kinds in one column are not right.
    """
    same = [number for number, vector in enumerate(stored) if vector.shape == made[number].shape]
    if not same:
        return list(range(len(stored)))
    ours = np.stack([stored[n] for n in same]).astype(np.float64)
    theirs = made[same].astype(np.float64)
    # zeros, NaN and infinity end up as NaN, which is within no tolerance
    with np.errstate(all="ignore"):
        long, wanted = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
        aligned = 1 - (ours * theirs).sum(axis=1) / (long * wanted) <= tolerance
        as_made = aligned & (np.abs(long / wanted - 1) <= tolerance)
        normalized = aligned & (np.abs(long - 1) <= tolerance)
    right = as_made if as_made.sum() >= normalized.sum() else normalized
    good = {number for number, fine in zip(same, right, strict=True) if fine}
    return [number for number in range(len(stored)) if number not in good]


def found_share(rows: int) -> float:
    """Return the share of damaged rows that so many canaries find with 95 % certainty."""
    return float(1 - 0.05 ** (1 / max(rows, 1)))
