"""Probes: stored vectors that are searched for, remembered by their place and a keyed hash."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psycopg
from psycopg import sql

from pgdrill.vectors.columns import FoundColumn
from pgdrill.vectors.copy_stream import Field
from pgdrill.vectors.types import Sparse, Values, decode, joined

MOST_BYTES = 32 * 2**20  # for all probes of a search, as float32
TRIES = 4  # places drawn for each probe, because some are empty
SMALL_TABLE_BYTES = 64 * 2**20  # up to this size a table is scanned if drawing found too few


@dataclass(frozen=True, slots=True)
class Probe:
    """A stored vector."""

    place: str  # ``(block,line)/xmin``
    # its value, never kept:
    text: str
    payload: bytes
    group: str | None
    group_hash: int

    @property
    def ctid(self) -> str:
        """The probe's place without its writer."""
        return self.place.partition("/")[0]

    def digest(self, key: str) -> str:
        """Return a keyed hash of the probe's value."""
        return hashlib.blake2b(self.payload, key=bytes.fromhex(key)[:64], digest_size=8).hexdigest()


def values_of(field: Field, probes: Sequence[Probe]) -> Values | None:
    """Return the probes' vectors; None where there are none."""
    if not probes:
        return None
    return joined(
        [
            decode(field.kind, np.frombuffer(probe.payload, dtype=np.uint8)[None, :])
            for probe in probes
        ]
    )


def choose(
    connection: psycopg.Connection, column: FoundColumn, field: Field, wanted: int, key: str
) -> list[Probe]:
    """Draw stored vectors from the whole table by the key.

    The same table and key give the same ones.
    """
    wanted = max(1, min(wanted, MOST_BYTES // (4 * max(field.dimensions, 1))))
    row = connection.execute(
        "SELECT pg_relation_size(oid) / current_setting('block_size')::int, greatest(reltuples,"
        " 0)::int8, greatest(relpages, 1) FROM pg_class WHERE oid = %s",
        (column.oid,),
    ).fetchone()
    blocks, tuples, pages = row or (0, 0, 1)
    drawn = random.Random(f"{key}/{column.oid}")  # noqa: S311 - a sample, not a secret
    lines = max(1, -(-tuples // pages))
    places = {
        f"({drawn.randrange(blocks)},{drawn.randint(1, lines)})": None
        for _ in range(TRIES * wanted if blocks else 0)
    }
    found = fetch(connection, column, field, list(places), limit=wanted)
    if len(found) < wanted and column.table_bytes <= SMALL_TABLE_BYTES:
        some = sql.SQL(
            "SELECT ctid::text FROM ONLY {} WHERE {} ORDER BY md5({} || ctid::text) LIMIT {}"
        ).format(column.relation, _present(column, field), sql.Literal(key), sql.Literal(wanted))
        found = fetch(
            connection, column, field, [row[0] for row in connection.execute(some).fetchall()]
        )
    return found


def fetch(
    connection: psycopg.Connection,
    column: FoundColumn,
    field: Field,
    ctids: Sequence[str],
    *,
    limit: int | None = None,
) -> list[Probe]:
    """Read the vectors at these places, as far as they can be searched for, in order of place."""
    group = sql.Identifier(column.filter.column) if column.filter else sql.SQL("NULL")
    query = sql.SQL(
        "SELECT ctid::text || '/' || xmin::text, ({value})::text, {send}({value}), {group}::text,"
        " coalesce(pg_catalog.hashtextextended({group}::text, 0), 0)"
        " FROM ONLY {table} WHERE ctid = ANY ({places}::tid[]) AND {present} LIMIT {limit}"
    ).format(
        value=sql.SQL(field.expression),
        send=sql.Identifier(
            "pg_catalog" if field.kind == "bit" else column.home, f"{field.kind}_send"
        ),
        group=group,
        table=column.relation,
        present=_present(column, field),
        limit=sql.Literal(limit),
        places=sql.Literal(list(ctids)),
    )
    # In a column that is NOT NULL the planner takes the condition for granted, and damage may still
    # give a NULL.
    rows = [Probe(*row) for row in connection.execute(query).fetchall() if row[2] is not None]
    return [probe for probe in rows if _searchable(field, probe)]


def _present(column: FoundColumn, field: Field) -> sql.Composable:
    present = sql.SQL("{} IS NOT NULL").format(column.cell)
    return (
        sql.SQL("({}) AND {}").format(sql.SQL(field.predicate), present)
        if field.predicate
        else present
    )


def _searchable(field: Field, probe: Probe) -> bool:
    """Return True if a probe has the field's dimensions and a direction.

    Zeros have none, nor has what is not finite.
    """
    values = decode(field.kind, np.frombuffer(probe.payload, dtype=np.uint8)[None, :])
    elements = values.values if isinstance(values, Sparse) else values
    right = isinstance(values, Sparse) or values.shape[1] == field.dimensions
    return bool(right and np.isfinite(elements).all() and (field.kind == "bit" or elements.any()))
