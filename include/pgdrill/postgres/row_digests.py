"""Digests of table content, taken alike on production and on the restored cluster.

A physical restore keeps every row version where it was, with the transaction number that wrote it.
*Stable* rows are those written by transactions that had ended before the snapshot began: they must
come back to the bit, unless somebody updated or deleted them before the restore point.

There are two measures, both keyed so that a guessed row cannot be looked up: a digest over all
stable rows, in parts, and a sample of single rows of what is too large to be read whole. A part is
the rows whose hash ends alike, so rows gone from one leave the others to be compared to the bit.
Each part is summed with the rows' places and without, for a table that was rewritten (VACUUM FULL)
has the same rows elsewhere. Damage comes in blocks as well as in rows, so the sample takes few rows
each from many blocks: docs/explanation/checks-rows.md has the figures.

Rows are hashed as ``ROW(alias.column, ...)``. A bare alias would be taken for a column of that
name, if the table has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from pydantic import Field

from pgdrill.documents import StrictModel
from pgdrill.postgres.identifiers import doubled

SAMPLE_ROWS = 20_000
SAMPLE_BLOCKS = 20_000
GUESSED_ROWS_OF_BLOCK = 100  # of a table that was never analyzed
NO_SAMPLING = sql.SQL("")
ROWS_OF_PART = 64  # or more
MOST_PARTS = 256
BITS = 64
# The second as it is stored: text in SQL_ASCII may be in any encoding, and a few characters of
# others are not in UTF-8.
FORMS = (
    sql.SQL("pg_catalog.record_send({})"),
    sql.SQL("convert_to(({})::text, getdatabaseencoding())"),
)
NOT_SENT = (
    psycopg.errors.UndefinedFunction,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.CharacterNotInRepertoire,
    psycopg.errors.UntranslatableCharacter,
)
COLUMNS = (
    "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT"
    " attisdropped ORDER BY attnum"
)


class Horizon(StrictModel):
    """What tells stable rows from newer ones.

    Transactions below ``oldest_xid`` had ended when the snapshot was taken; ``next_xid`` is where
    the counter stood on the server that is read. ``key`` (hex) goes into every hash.
    """

    oldest_xid: int
    next_xid: int
    key: str


class Content(StrictModel):
    """A table's content: all rows counted, stable ones digested, with their places and (``loose``)
    without.

    ``parts`` (as many as a power of two): stable rows, sum of their hashes with places, sum of
    those without.
    """

    rows: int
    stable_rows: int
    digest: str
    loose: str = ""
    parts: list[tuple[int, int, int]] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """Sampled rows that came back changed, and those that are gone or were written anew."""

    looked_at: int
    changed: list[str]
    gone: list[str]


def horizon(connection: psycopg.Connection, key: str, oldest_xid: int | None = None) -> Horizon:
    """Return the horizon of the connection's snapshot.

    ``oldest_xid`` is given where more is known of which transactions had ended.
    """
    oldest, newest = _snapshot(connection)
    return Horizon(
        oldest_xid=oldest if oldest_xid is None else oldest_xid, next_xid=newest, key=key
    )


def horizon_on(connection: psycopg.Connection, line: Horizon) -> Horizon:
    """Return production's horizon, seen from the restored cluster, whose counter has moved on."""
    return line.model_copy(update={"next_xid": max(line.next_xid, _snapshot(connection)[1])})


def read_content(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    line: Horizon,
    *,
    whole: bool = True,
    parts: int = 1,
    columns: Sequence[str] | None = None,
) -> Content | None:
    """Read a table in one scan: all rows counted, stable ones digested by these columns.

    ``columns`` None: all. None if there is no such table. Not ``whole``: only the first row is
    read, which counts as all there is.
    """
    query = sql.SQL(
        "SELECT pgdrill_hash & {mask}, count(*), coalesce(sum(hashtidextended(pgdrill_place,"
        " pgdrill_hash)), 0)::text, coalesce(sum(pgdrill_hash), 0)::text FROM (SELECT CASE WHEN"
        " {stable} THEN {hash} END AS pgdrill_hash, pgdrill_row.ctid AS pgdrill_place FROM ONLY"
        " {table} pgdrill_row {sampled} OFFSET 0) pgdrill_rows GROUP BY 1"
    )
    try:
        found = _Rows(connection, schema, table, line, columns).hashed(
            query, sampled=NO_SAMPLING if whole else sql.SQL("LIMIT 1"), parts=parts
        )
    except psycopg.errors.UndefinedTable:
        return None
    sums = {
        None if part is None else int(part): (
            int(rows),
            int(placed) % 2**BITS,
            int(loose) % 2**BITS,
        )
        for part, rows, placed, loose in found
    }
    rows = sum(each[0] for each in sums.values())
    every = [sums.get(part, (0, 0, 0)) for part in range(parts)]
    stable, placed, loose = (sum(column) for column in zip(*every, strict=True))

    return Content(
        rows=rows,
        stable_rows=stable,
        digest=f"{placed % 2**BITS:016x}",
        loose=f"{loose % 2**BITS:016x}",
        parts=every,
    )


def parts_for(rows: int) -> int:
    """Return how many parts a table of about so many rows is digested in."""
    return max(1, min(MOST_PARTS, 1 << (max(rows, 1) // ROWS_OF_PART).bit_length() >> 1))


def filenode_of(connection: psycopg.Connection, schema: str, table: str) -> int:
    """Return the number of the file that a table's rows are in now.

    In another one, they have other places.
    """
    name = sql.Identifier(schema, table).as_string(connection)
    row = connection.execute(
        "SELECT coalesce(pg_relation_filenode(%s::regclass), 0)::int8", (name,)
    ).fetchone()
    return int(row[0]) if row else 0


def sees_later_rows(connection: psycopg.Connection, schema: str, table: str) -> bool:
    """Return True if a snapshot shows rows of transactions that had not ended when it was taken.

    Frozen rows are shown to everybody. REFRESH MATERIALIZED VIEW and COPY (FREEZE) write such rows,
    into a new file. A frozen row keeps the number of the transaction that wrote it.
    """
    later = sql.SQL(
        "SELECT EXISTS (SELECT FROM ONLY {} WHERE age(xmin) <="
        " age(pg_snapshot_xmin(pg_current_snapshot())::xid))"
    )
    row = connection.execute(later.format(sql.Identifier(schema, table))).fetchone()
    return bool(row and row[0])


@dataclass(frozen=True, slots=True)
class Shares:
    """Which share (0 to 1) of a table's blocks is looked into, and which share of the rows in those
    is taken.
    """

    blocks: float
    rows: float

    @classmethod
    def of(
        cls, blocks: int, rows: int, wanted_rows: int, wanted_blocks: int = SAMPLE_BLOCKS
    ) -> Shares:
        """Return the shares for so many rows (on average) out of as many blocks as that allows.

        A small table is taken whole.
        """
        share = min(1.0, wanted_blocks / max(blocks, 1))
        rows = rows or blocks * GUESSED_ROWS_OF_BLOCK
        return cls(share, min(1.0, wanted_rows / max(rows * share, 1)))


def read_sample(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    line: Horizon,
    shares: Shares,
    columns: Sequence[str] | None = None,
    *,
    newer: bool = False,
) -> dict[str, str]:
    """Read stable rows (or ``newer`` ones alone) chosen by chance: blocks first, then rows in them.

    Gives a row's place and writer, ``(block,line)/xmin``, -> its keyed hash.
    """
    query = sql.SQL(
        "SELECT pgdrill_row.ctid::text || '/' || pgdrill_row.xmin::text, {hash}::text FROM ONLY"
        " {table} pgdrill_row {sampled} {stable}"
    )
    blocks = (
        sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(100 * shares.blocks))
        if shares.blocks < 1
        else sql.SQL("")
    )
    sampled = sql.SQL("{} WHERE random() < {}::float8 AND {}").format(
        blocks, sql.Literal(shares.rows), sql.SQL("NOT" if newer else "")
    )
    rows = _Rows(connection, schema, table, line, columns).hashed(query, sampled=sampled)
    return {str(place): str(digest) for place, digest in rows}


def read_rows(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    line: Horizon,
    columns: Sequence[str] | None = None,
) -> dict[str, tuple[str, bool, bool]]:
    """Read every row: its place and writer -> (keyed hash, is stable, is being changed).

    Whether somebody was changing the row is told by a recent transaction in its ``xmax``, which may
    have locked it only.
    """
    query = sql.SQL(
        "SELECT pgdrill_row.ctid::text || '/' || pgdrill_row.xmin::text, {hash}::text, {stable},"
        " pgdrill_row.xmax::text <> '0'::text AND NOT {gone} FROM ONLY {table} pgdrill_row"
    )
    rows = _Rows(connection, schema, table, line, columns).hashed(query)
    return {str(row[0]): (str(row[1]), bool(row[2]), bool(row[3])) for row in rows}


def compare_sample(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    line: Horizon,
    sample: dict[str, str],
    columns: Sequence[str] | None = None,
) -> SampleAnswer:
    """Look the sampled rows up by their place."""
    query = sql.SQL(
        "SELECT pgdrill_row.ctid::text || '/' || pgdrill_row.xmin::text, {hash}::text FROM ONLY"
        " {table} pgdrill_row WHERE pgdrill_row.ctid = ANY(%(places)s::tid[])"
    )
    places = [place.partition("/")[0] for place in sample]
    rows = _Rows(connection, schema, table, line, columns).hashed(query, places=places)
    found = {str(place): str(digest) for place, digest in rows}
    changed = [place for place, digest in sample.items() if found.get(place, digest) != digest]
    return SampleAnswer(len(sample), changed, [place for place in sample if place not in found])


def columns_of(connection: psycopg.Connection, schema: str, table: str) -> list[str]:
    """Return a table's columns, in their order."""
    name = sql.Identifier(schema, table).as_string(connection)
    return [row[0] for row in connection.execute(COLUMNS, (name,)).fetchall()]


@dataclass(frozen=True, slots=True)
class _Rows:
    """A table's rows as they are hashed: by which columns (None: all), older or newer than what."""

    connection: psycopg.Connection
    schema: str
    table: str
    line: Horizon
    columns: Sequence[str] | None

    def hashed(
        self,
        query: sql.SQL,
        *,
        sampled: sql.Composable = NO_SAMPLING,
        places: list[str] | None = None,
        parts: int = 1,
    ) -> list[tuple[Any, ...]]:
        """Run a query with the rows' binary form hashed, or their text where a type has no binary
        form, or it cannot be sent.
        """
        connection, line, name = self.connection, self.line, sql.Identifier(self.schema, self.table)
        row = whole_row(
            columns_of(connection, self.schema, self.table)
            if self.columns is None
            else self.columns
        )
        for form in FORMS:
            whole = sql.SQL("('x' || left(md5({}::bytea || {}), 16))::bit(64)::int8").format(
                sql.Literal("\\x" + line.key), form.format(row)
            )
            statement = query.format(
                table=name if places is None else doubled(name),
                hash=whole if places is None else doubled(whole),
                stable=_older("xmin", line),
                gone=_older("xmax", line),
                sampled=sampled,
                mask=sql.Literal(parts - 1),
            )
            try:
                with connection.transaction():
                    return connection.execute(
                        statement, {"places": places} if places is not None else None
                    ).fetchall()
            except NOT_SENT:
                continue
        return []


def whole_row(columns: Sequence[str]) -> sql.Composed:
    """Return the row of the table that is called ``pgdrill_row`` in a query."""
    return sql.SQL("ROW({})").format(
        sql.SQL(", ").join(
            sql.SQL("pgdrill_row.{}").format(sql.Identifier(name)) for name in columns
        )
    )


def _snapshot(connection: psycopg.Connection) -> tuple[int, int]:
    row = connection.execute(
        "SELECT pg_snapshot_xmin(now)::text::int8, pg_snapshot_xmax(now)::text::int8 FROM"
        " pg_current_snapshot() now"
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _older(column: str, line: Horizon) -> sql.Composable:
    """Return a condition that is true if ``xmin`` (or ``xmax``) is from before the horizon.

    The number has 32 bits and stays as it was when a row is frozen. So newness is a window that
    starts at the horizon, not a comparison: rows of an earlier round of the counter are not in it.
    """
    window = min(line.next_xid - line.oldest_xid, 2**31)
    return sql.SQL("((pgdrill_row.{}::text::int8 - {} + 8589934592) % 4294967296) >= {}").format(
        sql.Identifier(column), sql.Literal(line.oldest_xid % 2**32), sql.Literal(window)
    )
