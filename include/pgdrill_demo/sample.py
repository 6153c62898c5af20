"""Loads the sample: roles, objects and rows, the same ones every time, into an empty database."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql

from pgdrill_demo.catalog import Table, read_tables
from pgdrill_demo.embedder import Embedder
from pgdrill_demo.fill import Filler
from pgdrill_demo.texts import passages
from pgdrill_demo.values import LARGE_OBJECT_BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA = Path(__file__).parent / "schema"
LARGE_OBJECTS_PER_COLUMN = 6
FILES_AFTER_ROWS = "50_indexes.sql"
"""From this file on the schema wants the rows there: indexes, triggers, the materialized view,
row security."""


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What a load left behind. *bytes* is the database's size on disk; *tables* leaves partitions
    out.
    """

    tables: int
    rows: int
    vectors: int
    bytes: int
    seconds: float


def load(
    conninfo: str,
    *,
    scale: float = 1.0,
    seed: int = 20260907,
    tell: Callable[[str], None] = lambda _: None,
) -> SampleSummary:
    """Create roles, schema and rows, build every index, and analyze.

    :param conninfo: an empty database, as a superuser.
    :param scale: multiplies the row counts.
    :param seed: the same scale and seed give the same rows.
    :param tell: gets the words for each step that begins.
    """
    started = time.monotonic()
    before = sorted(path for path in SCHEMA.glob("*.sql") if path.name < FILES_AFTER_ROWS)
    after = sorted(path for path in SCHEMA.glob("*.sql") if path.name >= FILES_AFTER_ROWS)
    filler = Filler(scale, seed)
    rows = vectors = 0
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET synchronous_commit = off")
        with connection.transaction():
            tell("making roles and tables")
            _run(connection, before)
            register_vector(connection)
            tables = read_tables(connection)
            tell(f"embedding texts and loading rows into {len(tables)} tables")
            scans = count(LARGE_OBJECT_BASE)
            for table in tables:
                made = _with_vectors(table, filler.rows(table))
                _add_large_objects(connection, table, made, scans, seed)
                _copy(connection, table, made)
                rows += len(made)
                vectors += len(made) * sum(1 for column in table.columns if column.vector)
            _set_sequences(connection)
        tell(f"building indexes on {rows} rows with {vectors} vectors")
        with connection.transaction():
            _build_in_memory(connection)
            _run(connection, after)
        connection.execute("VACUUM (ANALYZE)")
        size = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert size is not None  # noqa: S101  (for mypy: the query always gives one row)
    return SampleSummary(len(tables), rows, vectors, size[0], time.monotonic() - started)


def _run(connection: psycopg.Connection[Any], files: list[Path]) -> None:
    for path in files:
        connection.execute(path.read_text(encoding="utf-8").encode())


def _build_in_memory(connection: psycopg.Connection[Any]) -> None:
    """Let HNSW builds stay in memory and use the second core: several times faster than the
    defaults.
    """
    connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
    connection.execute("SET LOCAL max_parallel_maintenance_workers = 2")


def _with_vectors(table: Table, rows: list[list[Any]]) -> list[list[Any]]:
    """Put into each vector column the embedding of the column its label names."""
    for place, column in enumerate(table.columns):
        if column.vector is None:
            continue
        source = table.column_names.index(column.vector.text_column)
        embedded = Embedder(column.vector.dimensions).embed([row[source] for row in rows])
        for row, vector in zip(rows, embedded, strict=True):
            row[place] = vector
    return rows


def _add_large_objects(
    connection: psycopg.Connection[Any],
    table: Table,
    rows: list[list[Any]],
    numbers: Iterator[int],
    seed: int,
) -> None:
    """Give the first rows of each ``oid`` column a large object: some kilobytes of text, standing
    for a scan.
    """
    for place, column in enumerate(table.columns):
        if column.type != "oid":
            continue
        for row, number in zip(rows[:LARGE_OBJECTS_PER_COLUMN], numbers, strict=False):
            page = "\n".join(passages("real_estate", 60, seed + number)).encode()
            connection.execute("SELECT lo_from_bytea(%s, %s)", (number, page))
            connection.execute(
                sql.SQL("GRANT SELECT ON LARGE OBJECT {} TO agents_app").format(number)
            )
            connection.execute(
                sql.SQL("ALTER LARGE OBJECT {} OWNER TO agents_owner").format(number)
            )
            row[place] = number


def _copy(connection: psycopg.Connection[Any], table: Table, rows: list[list[Any]]) -> None:
    # Binary COPY needs the exact type of every column and has none for enums; only vectors are
    # worth it.
    binary = any(column.vector for column in table.columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN {}").format(
        sql.Identifier(table.name),
        sql.SQL(", ").join(map(sql.Identifier, table.column_names)),
        sql.SQL("(FORMAT binary)" if binary else ""),
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        if binary:
            copy.set_types([column.type for column in table.columns])
        for row in rows:
            copy.write_row(row)


def _set_sequences(connection: psycopg.Connection[Any]) -> None:
    """Move every sequence past the keys that COPY brought along."""
    owned = connection.execute(
        "SELECT a.attrelid::regclass::text, a.attname,"
        " pg_get_serial_sequence(a.attrelid::regclass::text, a.attname) FROM pg_attribute a JOIN"
        " pg_class c ON c.oid = a.attrelid WHERE a.attidentity <> '' AND c.relnamespace ="
        " 'public'::regnamespace AND NOT c.relispartition"
    ).fetchall()
    for relation, column, sequence in owned:
        connection.execute(
            sql.SQL("SELECT setval({}::regclass, max({})) FROM {}").format(
                sql.Literal(sequence), sql.Identifier(column), sql.Identifier(relation)
            )
        )
    connection.execute(
        "SELECT setval('invoice_number_seq', 100500), setval('claim_number_seq', 502100)"
    )
