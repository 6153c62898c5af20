"""The content of a database in the dump's snapshot, to compare a restore of the dump with.

A logical restore keeps neither places (ctid) nor transaction numbers nor OIDs, so nothing of a base
backup's baseline can be asked of it. What it keeps are the rows themselves: here every row is
hashed in its text form, vectors in their binary one, and a table's digest does not depend on the
rows' order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from pgdrill.baseline.copied import Copied, NotCopied, read_copied
from pgdrill.logical.manifest import SequenceRange, TableContent, VectorIndex
from pgdrill.postgres.guarded import Guard, RunsCode
from pgdrill.postgres.relation_names import apart, joined

# Forms of text that depend on the session, fixed: the other server has other defaults.
SESSION = """
SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
SET extra_float_digits = 1; SET bytea_output = 'hex'; SET xmlbinary = 'base64';
SET lc_monetary = 'C'; SET search_path = pg_catalog; SET row_security = off;
"""

TABLES = """
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.relpersistence::text,
       pg_table_size(c.oid),
       EXISTS (SELECT FROM pg_depend d
               WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
       coalesce((SELECT array_agg(x.relname::text)
                 FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                 WHERE i.indrelid = c.oid), '{}'),
       coalesce((SELECT array_agg(ARRAY[v.nspname::text, s.relname::text])
                 FROM pg_depend d JOIN pg_class s ON s.oid = d.objid
                 JOIN pg_namespace v ON v.oid = s.relnamespace
                 WHERE d.refobjid = c.oid AND d.classid = 'pg_class'::regclass
                   AND s.relkind = 'S' AND d.deptype IN ('a', 'i')),
                '{}'),
       coalesce((SELECT array_agg(ARRAY[v.nspname::text, k.relname::text])
                 FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid
                 JOIN pg_namespace v ON v.oid = k.relnamespace
                 WHERE i.inhparent = c.oid AND k.relispartition), '{}')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 2, 3
"""
COLUMNS = """
SELECT a.attname, coalesce(b.typname, t.typname), h.nspname
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
LEFT JOIN pg_extension e
     ON e.extname = 'vector' AND e.extnamespace = coalesce(b.typnamespace, t.typnamespace)
     AND EXISTS (SELECT FROM pg_depend d
                 WHERE d.classid = 'pg_type'::regclass AND d.objid = coalesce(b.oid, t.oid)
                   AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                   AND d.deptype = 'e')
LEFT JOIN pg_namespace h ON h.oid = e.extnamespace
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
BINARY = ("vector", "halfvec", "sparsevec")
LARGE_OBJECTS = """
SELECT count(DISTINCT loid), coalesce(bit_xor(h), 0)::text || ':' || coalesce(sum(h), 0)::text
FROM (
    SELECT m.oid AS loid, ('x' || left(md5(%(key)s || m.oid || ':' || coalesce(o.pageno, -1) || ':'
                           || encode(coalesce(o.data, ''), 'hex')), 16))::bit(64)::int8 AS h
    FROM pg_largeobject_metadata m LEFT JOIN pg_largeobject o ON o.loid = m.oid OFFSET 0) s
"""
SEQUENCES = """
SELECT schemaname, sequencename, last_value FROM pg_sequences s
WHERE NOT EXISTS (SELECT FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
                  JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e'
                    AND n.nspname = s.schemaname AND c.relname = s.sequencename)
ORDER BY 1
"""
VECTOR_INDEXES = """
SELECT n.nspname, c.relname, i.indrelid::regclass::text, m.amname, o.opcname,
       coalesce(c.reloptions, '{}'), a.atttypmod, pg_relation_size(c.oid),
       ARRAY[h.nspname::text, k.relname::text], ty.typname, k.relkind::text,
       greatest(k.reltuples, 0)::int8
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am m ON m.oid = c.relam
JOIN pg_opclass o ON o.oid = i.indclass[0] JOIN pg_class k ON k.oid = i.indrelid
JOIN pg_namespace h ON h.oid = k.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1 JOIN pg_type ty ON ty.oid = a.atttypid
WHERE m.amname IN ('hnsw', 'ivfflat') AND c.relkind = 'i' ORDER BY 1, 2
"""
NOT_DUMPED = {
    "f": "a foreign table: its rows are elsewhere",
    "m": "a materialized view: the restore fills it anew",
    "p": "",
    "e": "belongs to an extension, which brings it",
}


def prepare(connection: psycopg.Connection) -> None:
    """Make the session write values as every other one does that asks these questions."""
    for statement in SESSION.split(";"):
        if statement.strip():
            connection.execute(sql.SQL(statement))


def read_tables(
    connection: psycopg.Connection,
    guard: Guard,
    key: str,
    limit_bytes: int,
    *,
    standby: bool = False,
) -> tuple[dict[str, TableContent], dict[str, str]]:
    """Read and digest every table with rows of its own.

    Returned with them are those whose rows a dump does not hold, each with the reason.

    Queries are made of tables only whose planning runs nobody's function, as ``guard`` tells; the
    others are copied.
    """
    tables: dict[str, TableContent] = {}
    without: dict[str, str] = {}
    for (
        oid,
        schema,
        table,
        kind,
        persistence,
        size,
        belongs,
        indexes,
        sequences,
        children,
    ) in connection.execute(TABLES).fetchall():
        name = joined(schema, table)
        why = NOT_DUMPED["e"] if belongs else NOT_DUMPED.get(kind, "")
        if standby and persistence == "u":
            why = "an unlogged table: a standby does not have its rows"
        if why:
            without[name] = why
            continue
        if kind == "p":
            content = TableContent(rows=0, digest="", columns=[])
        else:
            content = _guarded(
                connection,
                guard,
                oid,
                schema,
                table,
                key,
                limit_bytes if size > limit_bytes else None,
            )
        places = {
            kind: [joined(*one) for one in rows]
            for kind, rows in (("sequences", sequences), ("children", children))
        }
        tables[name] = content.model_copy(update={"bytes": size, "indexes": indexes, **places})
    return tables, without


def _guarded(
    connection: psycopg.Connection,
    guard: Guard,
    oid: int,
    schema: str,
    table: str,
    key: str,
    over_bytes: int | None,
) -> TableContent:
    code = guard.why_not(connection, schema, table, oid)
    if not code:
        try:
            with guard.watching(connection, oid):
                return read_content(connection, schema, table, key, over_bytes)
        except RunsCode as added:
            code = str(added)
    try:
        return copied(connection, schema, table, key).model_copy(update={"code": code})
    except NotCopied as error:
        return TableContent(
            rows=0, digest=None, columns=[], code=code, why=f"not read: {code}; {error}"
        )


def copied(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    key: str,
    columns: list[str] | None = None,
) -> TableContent:
    """Count and digest a table's rows from COPY's lines.

    A query is not made, for that would run somebody's function.
    """
    known = Copied(rows=0, digest="", columns=columns) if columns is not None else None
    found = read_copied(connection, schema, table, key, like=known, most=0)
    if found is None:
        raise psycopg.errors.UndefinedTable(f"no table {schema}.{table}")
    return TableContent(rows=found.rows, digest=found.digest, columns=found.columns)


def again(
    connection: psycopg.Connection, name: str, key: str, before: TableContent
) -> TableContent:
    """Read a table as it was read before; ``name`` is ``schema.table``."""
    schema, table = apart(name)
    if before.code:
        return copied(connection, schema, table, key, before.columns)
    return read_content(
        connection, schema, table, key, 0 if before.digest is None else None, before.columns or []
    )


def read_content(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    key: str,
    over_bytes: int | None = None,
    columns: list[str] | None = None,
) -> TableContent:
    """Count and digest a table's own rows, by these columns or all.

    ``over_bytes``: the table is larger than that, so count only.
    """
    known = columns_of(connection, schema, table)
    names = columns if columns is not None else list(known)
    relation = sql.Identifier(schema, table)
    if over_bytes is not None:
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM ONLY {}").format(relation)
        ).fetchone()
        return TableContent(
            rows=row[0] if row else 0,
            digest=None,
            columns=names,
            why=f"larger than drill.baseline_table_bytes ({over_bytes}): only counted",
        )
    query = sql.SQL(
        "SELECT count(*), coalesce(bit_xor(h), 0)::text || ':' || coalesce(sum(h), 0)::text"
        " FROM (SELECT {hash} AS h FROM ONLY {table} t OFFSET 0) s"
    ).format(hash=row_hash(key, [known[name] for name in names]), table=relation)
    row = connection.execute(query).fetchone()
    rows, digest = row or (0, "")
    return TableContent(rows=rows, digest=digest, columns=names)


def columns_of(
    connection: psycopg.Connection, schema: str, table: str
) -> dict[str, sql.Composable]:
    """Return a table's columns in order, each with the expression whose text is hashed."""
    quoted = sql.Identifier(schema, table).as_string(connection)
    found = {}
    for name, kind, home in connection.execute(COLUMNS, (quoted,)).fetchall():
        cell: sql.Composable = sql.SQL("t.{}").format(sql.Identifier(name))
        if home and kind in BINARY:  # a third of the text's length, and no printing of floats
            # The value is cast to pgvector's own type: for a domain, somebody's function of that
            # name would fit better.
            cell = sql.SQL("{}({}::{})").format(
                sql.Identifier(home, f"{kind}_send"), cell, sql.Identifier(home, kind)
            )
        found[name] = cell
    return found


def row_hash(key: str, cells: list[sql.Composable]) -> sql.Composable:
    """Return the expression of 64 bits of a keyed hash of a row.

    Text is hashed as it is, whatever the database's encoding.
    """
    return sql.SQL("('x' || left(md5({} || ROW({})::text), 16))::bit(64)::int8").format(
        sql.Literal(key), sql.SQL(", ").join(cells)
    )


def read_large_objects(connection: psycopg.Connection, key: str) -> TableContent:
    """Read all large objects as one content; empty ones count, too."""
    row = connection.execute(LARGE_OBJECTS, {"key": key}).fetchone()
    count, digest = row or (0, "")
    return TableContent(rows=count, digest=digest, columns=[])


def read_sequences(connection: psycopg.Connection) -> dict[str, int | None]:
    """Read the last value of every sequence; None for one that was never used."""
    return {
        joined(schema, name): value
        for schema, name, value in connection.execute(SEQUENCES).fetchall()
    }


def between(first: dict[str, int | None], last: dict[str, int | None]) -> dict[str, SequenceRange]:
    """Return what each sequence may have been while the dump read it."""
    return {
        name: SequenceRange(first=value, last=last.get(name, value))
        for name, value in first.items()
    }


def read_vector_indexes(
    connection: psycopg.Connection, tables: Mapping[str, TableContent]
) -> list[VectorIndex]:
    """Read every HNSW and IVFFlat index of a table, in the order of names.

    Those of materialized views are built by their refresh.

    How many rows a table has is known from ``tables``, as they were read.
    """
    rows: list[tuple[Any, ...]] = connection.execute(VECTOR_INDEXES).fetchall()
    return [
        VectorIndex(
            schema_name=schema,
            name=name,
            table=table,
            method=method,
            opclass=opclass,
            options=options,
            kind=kind,
            dimensions=modifier if modifier > 0 else None,
            bytes=size,
            rows=tables[of].rows if (of := joined(*home)) in tables else estimated,
        )
        for (
            schema,
            name,
            table,
            method,
            opclass,
            options,
            modifier,
            size,
            home,
            kind,
            relkind,
            estimated,
        ) in rows
        if relkind == "r"
    ]
