"""Reading a table without a query, by ``COPY table (columns) TO STDOUT``.

This is for tables that run somebody's function when planned. COPY shows neither places (ctid) nor
writers (xmin). What is left of a table is the set of its rows, each hashed here: a digest of all,
and the hashes of a share of them, which still tell damage from change. The text form keeps the same
value the same after a logical restore, too; the session's settings that shape it are fixed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from pydantic import Field

from pgdrill.documents import StrictModel
from pgdrill.postgres.foreign_code import not_to_be_output

KEPT_HASHES = 20_000
BITS = 64
# Fixes the forms of text that depend on the session, as the dump's own digests do.
FORMS = """
SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD';
SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 1;
SET LOCAL bytea_output = 'hex'; SET LOCAL xmlbinary = 'base64'; SET LOCAL lc_monetary = 'C';
SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off
"""
COLUMNS = """
SELECT attname, attgenerated <> '' FROM pg_attribute
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
PLACE = """
SELECT c.oid::int8, c.relkind = 'r' OR current_setting('server_version_num')::int >= 180000
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'm')
"""


class Copied(StrictModel):
    """A table as a set of rows."""

    rows: int
    digest: str
    columns: list[str]  # those that were read
    # those that COPY does not show: they are generated, or their output is somebody's function
    hidden: list[str] = Field(default_factory=list)
    share: int = 1
    # of all rows that ``share`` divides, in ascending order
    hashes: list[int] = Field(default_factory=list)


class NotCopied(Exception):
    """A table cannot be read even by COPY; the words say why."""


@dataclass
class Tally:
    """Takes hashes in, and keeps the multiples of a share."""

    most: int | None  # the share doubles whenever more are kept than so many (None: never)
    share: int = 1
    rows: int = 0
    total: int = 0
    kept: list[int] = field(default_factory=list)

    def add(self, one: int) -> None:
        """Take a row in."""
        self.rows += 1
        self.total = (self.total + one) % 2**BITS
        if one % self.share == 0 and self.most != 0:
            self.kept.append(one)
            while self.most is not None and len(self.kept) > self.most:
                self.share *= 2
                self.kept = [known for known in self.kept if known % self.share == 0]


def read_copied(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    key: str,
    *,
    like: Copied | None = None,
    most: int = KEPT_HASHES,
) -> Copied | None:
    """Read a table to its end; return None if there is none.

    ``like`` an earlier reading: the same columns and share.
    """
    found = connection.execute(PLACE, (schema, table)).fetchone()
    if found is None:
        return None
    columns, hidden = (like.columns, like.hidden) if like else columns_of(connection, found[0])
    tally = Tally(None, like.share) if like else Tally(most)
    for row in _rows(connection, schema, table, columns, by_copy=found[1]):
        tally.add(hash_of(row, key))
    return Copied(
        rows=tally.rows,
        digest=f"{tally.total:016x}",
        columns=columns,
        hidden=hidden,
        share=tally.share,
        hashes=sorted(tally.kept),
    )


def hashed_rows(
    connection: psycopg.Connection, schema: str, table: str, key: str, columns: Sequence[str]
) -> Counter[int]:
    """Return the hash of every row, with how many rows have it."""
    found = connection.execute(PLACE, (schema, table)).fetchone()
    if found is None:
        raise psycopg.errors.UndefinedTable(f"no table {schema}.{table}")
    return Counter(
        hash_of(row, key) for row in _rows(connection, schema, table, columns, by_copy=found[1])
    )


def columns_of(connection: psycopg.Connection, oid: int) -> tuple[list[str], list[str]]:
    """Return the columns that COPY shows, and those that it cannot."""
    hidden = not_to_be_output(connection, oid)
    every = connection.execute(COLUMNS, (oid,)).fetchall()
    hidden |= {name for name, generated in every if generated}
    return [name for name, _ in every if name not in hidden], sorted(hidden)


def hash_of(row: bytes, key: str) -> int:
    """Return 64 bits of a keyed hash of a row."""
    return int.from_bytes(
        hashlib.blake2b(row, key=bytes.fromhex(key)[:64], digest_size=BITS // 8).digest()
    )


def _rows(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    columns: Sequence[str],
    *,
    by_copy: bool,
) -> Iterator[bytes]:
    if not by_copy:
        raise NotCopied("COPY reads a materialized view from PostgreSQL 18 on only")
    if not columns:
        raise NotCopied("every column's output is somebody's function")
    query = sql.SQL("COPY {} ({}) TO STDOUT (ENCODING 'SQL_ASCII')").format(
        sql.Identifier(schema, table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.transaction(force_rollback=True):
        for statement in FORMS.split(";"):
            connection.execute(sql.SQL(statement))
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            for row in copy:
                yield bytes(row)
