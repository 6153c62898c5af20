"""Digests of table content, taken alike on production and on the restored cluster.

A physical restore keeps every row version where it was, with the transaction number that wrote it. *Stable* rows are
those written by transactions that had ended before the snapshot began: they must come back to the bit, unless somebody
updated or deleted them before the restore point, which the server's own counters bound.

Two measures, both keyed so that a guessed row cannot be looked up: a digest over all stable rows with their places, and
a sample of single rows, which still tells damage from change in a busy table. Damage comes in blocks as well as in
rows, so the sample takes few rows each from many blocks: docs/checks-rows.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict

from pgdrill.postgres.names import doubled

SAMPLE_ROWS = 20_000
SAMPLE_BLOCKS = 20_000
GUESSED_ROWS_OF_BLOCK = 100  # of a table that was never analyzed
NO_SAMPLING = sql.SQL("")


class Horizon(BaseModel):
    """What tells stable rows from newer ones.

    Transactions below ``oldest_xid`` had ended when the snapshot was taken; ``next_xid`` is where the counter stood on
    the server that is read. ``key`` (hex) goes into every hash.
    """

    model_config = ConfigDict(extra="forbid")

    oldest_xid: int
    next_xid: int
    key: str


class Content(BaseModel):
    """A table's content: all rows counted, stable ones digested."""

    model_config = ConfigDict(extra="forbid")

    rows: int
    stable_rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """Sampled rows that came back changed, and those that are gone or were written anew."""

    looked_at: int
    changed: list[str]
    gone: list[str]


def horizon(connection: psycopg.Connection, key: str) -> Horizon:
    """The horizon of the connection's snapshot."""
    oldest, newest = _snapshot(connection)
    return Horizon(oldest_xid=oldest, next_xid=newest, key=key)


def horizon_on(connection: psycopg.Connection, line: Horizon) -> Horizon:
    """Production's horizon, seen from the restored cluster, whose counter has moved on."""
    return line.model_copy(update={"next_xid": max(line.next_xid, _snapshot(connection)[1])})


def read_content(
    connection: psycopg.Connection, schema: str, table: str, line: Horizon, *, whole: bool = True
) -> Content | None:
    """One scan: all rows counted, stable ones digested. None if there is no such table.

    Not ``whole``: only the first row is read, which counts as all there is.
    """
    query = sql.SQL(
        "SELECT count(*), count(h), coalesce(bit_xor(h), 0)::text || ':' || coalesce(sum(h), 0)::text"
        " FROM (SELECT CASE WHEN {stable} THEN {hash} END AS h FROM ONLY {table} t {sampled} OFFSET 0) s"
    )
    try:
        found = _either_hash(connection, query, schema, table, line, NO_SAMPLING if whole else sql.SQL("LIMIT 1"))
    except psycopg.errors.UndefinedTable:
        return None
    rows, stable_rows, digest = found[0]
    return Content(rows=int(rows), stable_rows=int(stable_rows), digest=str(digest))


@dataclass(frozen=True, slots=True)
class Shares:
    """Which share (0 to 1) of a table's blocks is looked into, and which share of the rows in those is taken."""

    blocks: float
    rows: float

    @classmethod
    def of(cls, blocks: int, rows: int, wanted_rows: int, wanted_blocks: int = SAMPLE_BLOCKS) -> Shares:
        """For so many rows (on average) out of as many blocks as that allows; a small table is taken whole."""
        share = min(1.0, wanted_blocks / max(blocks, 1))
        rows = rows or blocks * GUESSED_ROWS_OF_BLOCK
        return cls(share, min(1.0, wanted_rows / max(rows * share, 1)))


def read_sample(
    connection: psycopg.Connection, schema: str, table: str, line: Horizon, shares: Shares
) -> dict[str, str]:
    """Stable rows chosen by chance: blocks first, then rows in them.

    Gives a row's place and writer, ``(block,line)/xmin``, -> its keyed hash.
    """
    query = sql.SQL(
        "SELECT t.ctid::text || '/' || t.xmin::text, {hash}::text FROM ONLY {table} t {sampled} {stable}"
    )
    blocks = sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(100 * shares.blocks)) if shares.blocks < 1 else sql.SQL("")
    sampled = sql.SQL("{} WHERE random() < {} AND").format(blocks, sql.Literal(shares.rows))
    return {str(place): str(digest) for place, digest in _either_hash(connection, query, schema, table, line, sampled)}


def read_rows(connection: psycopg.Connection, schema: str, table: str, line: Horizon) -> dict[str, tuple[str, bool, bool]]:
    """Every row by its place and writer -> its keyed hash, whether it is stable, and whether somebody was changing it.

    That is what a recent transaction in its ``xmax`` tells, which may have locked it only.
    """
    query = sql.SQL(
        "SELECT t.ctid::text || '/' || t.xmin::text, {hash}::text, {stable},"
        " t.xmax::text <> '0' AND NOT {gone} FROM ONLY {table} t"
    )  # fmt: skip
    return {str(row[0]): (str(row[1]), bool(row[2]), bool(row[3])) for row in _either_hash(connection, query, schema, table, line)}


def compare_sample(
    connection: psycopg.Connection, schema: str, table: str, line: Horizon, sample: dict[str, str]
) -> SampleAnswer:
    """Look the sampled rows up by their place."""
    query = sql.SQL(
        "SELECT t.ctid::text || '/' || t.xmin::text, {hash}::text FROM ONLY {table} t WHERE t.ctid = ANY(%(places)s::tid[])"
    )
    places = [place.partition("/")[0] for place in sample]
    rows = _either_hash(connection, query, schema, table, line, places=places)
    found = {str(place): str(digest) for place, digest in rows}
    changed = [place for place, digest in sample.items() if found.get(place, digest) != digest]
    return SampleAnswer(len(sample), changed, [place for place in sample if place not in found])


def _either_hash(
    connection: psycopg.Connection,
    query: sql.SQL,
    schema: str,
    table: str,
    line: Horizon,
    sampled: sql.Composable = NO_SAMPLING,
    *,
    places: list[str] | None = None,
) -> list[tuple[int | str, ...]]:
    """Run a query with the rows' binary form hashed, or their text where a type has no binary form."""
    name = sql.Identifier(schema, table)
    for form in _forms():
        whole = sql.SQL("('x' || left(md5({}::bytea || tidsend(t.ctid) || {}), 16))::bit(64)::int8").format(
            sql.Literal("\\x" + line.key), form
        )
        statement = query.format(
            table=name if places is None else doubled(name), hash=whole, stable=_older("xmin", line), gone=_older("xmax", line),
            sampled=sampled,
        )  # fmt: skip
        try:
            with connection.transaction():
                return connection.execute(statement, {"places": places} if places is not None else None).fetchall()
        except (psycopg.errors.UndefinedFunction, psycopg.errors.FeatureNotSupported):
            continue
    return []


def _forms() -> Iterator[sql.SQL]:
    yield sql.SQL("pg_catalog.record_send(t)")
    yield sql.SQL("convert_to(t::text, 'UTF8')")


def _snapshot(connection: psycopg.Connection) -> tuple[int, int]:
    row = connection.execute(
        "SELECT pg_snapshot_xmin(s)::text::int8, pg_snapshot_xmax(s)::text::int8 FROM pg_current_snapshot() s"
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _older(column: str, line: Horizon) -> sql.Composable:
    """True for rows whose ``xmin`` (or ``xmax``) is a transaction from before the horizon.

    It has 32 bits and stays as it was when a row is frozen, so newness is a window that starts at the horizon,
    not a comparison: rows of an earlier round of the counter are not in it.
    """
    window = min(line.next_xid - line.oldest_xid, 2**31)
    return sql.SQL("((t.{}::text::int8 - {} + 8589934592) % 4294967296) >= {}").format(
        sql.Identifier(column), sql.Literal(line.oldest_xid % 2**32), sql.Literal(window)
    )
