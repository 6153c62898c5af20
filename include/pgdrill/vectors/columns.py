"""The vector columns of a database, found without being named.

Each comes with the indexes that serve it and what filters its searches.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pgdrill.config import Cluster, VectorColumn
from pgdrill.postgres.held import HELD
from pgdrill.postgres.relation_names import apart, joined
from pgdrill.vectors.copy_stream import Field
from pgdrill.vectors.types import usual_operator

Place = tuple[str, str, str]
"""Schema, table, column."""

# A domain counts as its base type. Only pgvector's own types count, for anybody may call his own
# type `vector`. Columns of bits are many things: only those are searched that a vector index
# serves, or that the configuration names. It asks what is held, which goes before it.
COLUMNS = r"""
SELECT n.nspname, c.relname, a.attname, coalesce(b.typname, t.typname),
       greatest(a.atttypmod, t.typtypmod), c.oid::int8, a.attnum,
       CASE WHEN c.oid NOT IN (SELECT held.oid FROM held) THEN pg_total_relation_size(c.oid) END,
       h.nspname
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
JOIN pg_extension e ON e.extname = 'vector'
JOIN pg_namespace h ON h.oid = e.extnamespace
WHERE coalesce(b.typnamespace, t.typnamespace) IN (e.extnamespace, 'pg_catalog'::regnamespace)
  AND (
      coalesce(b.typname, t.typname) = 'bit' OR EXISTS (
      SELECT FROM pg_depend d
      WHERE d.classid = 'pg_type'::regclass AND d.objid = coalesce(b.oid, t.oid)
        AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'))
  AND a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence = 'p' AND n.nspname !~ '^pg_'
  AND (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated)
  AND (%(tables)s::int8[] IS NULL OR c.oid = ANY (%(tables)s::int8[]))
  AND (coalesce(b.typname, t.typname) IN ('vector', 'halfvec', 'sparsevec')
    OR coalesce(b.typname, t.typname) = 'bit' AND (
      a.attname = ANY (%(named)s) OR EXISTS (
      SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
      WHERE i.indrelid = c.oid AND m.amname IN ('hnsw', 'ivfflat') AND a.attnum = ANY (i.indkey))))
ORDER BY 1, 2, a.attnum
"""
# An index's own first attribute is what it holds. Its dependencies say which columns it is made of,
# whatever their names.
INDEXES = """
SELECT c.relname, c.oid::int8, m.amname, p.oprname, coalesce(b.typname, t.typname),
       greatest(a.atttypmod, t.typtypmod), pg_get_indexdef(c.oid, 1, true), i.indkey[0],
       coalesce(pg_get_expr(i.indpred, i.indrelid), ''), coalesce(c.reloptions, '{}'),
       i.indisvalid AND i.indisready, pg_get_indexdef(c.oid), o.opcname,
       ARRAY(SELECT DISTINCT d.refobjsubid FROM pg_depend d
             WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid
               AND d.refobjsubid > 0)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am m ON m.oid = c.relam
JOIN pg_opclass o ON o.oid = i.indclass[0]
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
JOIN pg_amop f
  ON f.amopfamily = o.opcfamily AND f.amoppurpose = 'o' AND f.amoplefttype = o.opcintype
JOIN pg_operator p ON p.oid = f.amopopr
WHERE i.indrelid = %s AND m.amname IN ('hnsw', 'ivfflat')
ORDER BY 1
"""
# Row security of a partitioned table counts for its partitions, too: applications search the whole
# table.
POLICIES = """
SELECT a.attname, left(coalesce(pg_get_expr(p.polqual, p.polrelid), ''), %(most)s)
FROM pg_policy p
JOIN pg_class r ON r.oid = p.polrelid AND r.relrowsecurity
JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
  AND d.refobjid = p.polrelid AND d.refobjsubid > 0
JOIN pg_attribute a ON a.attrelid = p.polrelid AND a.attnum = d.refobjsubid
WHERE p.polrelid IN (
    SELECT %(table)s::oid UNION SELECT pg_partition_root(%(table)s::oid::regclass)::oid)
ORDER BY p.polname, 1
"""
SETTING = re.compile(r"current_setting\('([^']+)'")
LONGEST_POLICY = 4000  # characters; the time to match grows with their square


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """An HNSW or IVFFlat index."""

    name: str
    oid: int
    method: str
    operator: str  # by which it orders
    opclass: str
    field: Field  # what it is an index of
    options: tuple[str, ...]
    valid: bool
    definition: str  # as PostgreSQL would make it again


@dataclass(frozen=True, slots=True)
class Filter:
    """The column by which searches are limited to a tenant's rows."""

    column: str
    settings: tuple[str, ...] = ()  # those that row security takes the tenant from
    # the policies ask nothing else, so that a tenant sees all rows of its own
    alone: bool = True


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A vector column of a table, with its indexes."""

    database: str
    schema: str
    table: str
    column: str
    kind: str
    dimensions: int | None  # None where the column does not fix them
    oid: int  # the table's
    table_bytes: int  # 0 where it is held
    indexes: tuple[SearchIndex, ...]
    filter: Filter | None
    wanted: VectorColumn
    home: str = "public"  # pgvector's schema
    # the column's in its table: one that was dropped and added again has another
    number: int = 0
    # another session has the table for itself: neither its indexes nor its policies were asked for
    held: bool = False

    @property
    def name(self) -> str:
        """The column's name with its table and schema; ``public.`` is left out."""
        return joined(*(() if self.schema == "public" else (self.schema,)), self.table, self.column)

    @property
    def relation(self) -> sql.Identifier:
        """The table's name, quoted."""
        return sql.Identifier(self.schema, self.table)

    @property
    def cell(self) -> sql.Identifier:
        """The column's name, quoted."""
        return sql.Identifier(self.column)


def vector_places(connection: psycopg.Connection, named: Sequence[str] = ()) -> list[Place]:
    """Return every vector column.

    Columns of bits are among them where an index says so, or their name is in ``named``.
    """
    return [(row[0], row[1], row[2]) for row in _columns(connection, named, None)]


def _columns(
    connection: psycopg.Connection, named: Sequence[str], only: Collection[int] | None
) -> list[tuple[Any, ...]]:
    wanted = {"named": list(named), "tables": None if only is None else list(only)}
    return connection.execute(f"WITH {HELD} {COLUMNS}", wanted).fetchall()


def named_columns(cluster: Cluster) -> list[str]:
    """Return the column names that the configuration speaks of."""
    return [wanted.column for wanted in cluster.vectors]


def find_columns(
    connection: psycopg.Connection,
    database: str,
    cluster: Cluster,
    only: Collection[int] | None = None,
) -> list[FoundColumn]:
    """Return every vector column with its indexes and what the configuration says of it.

    ``only`` those of the tables with these oids; None: all. Expressions and definitions are worded
    with every name qualified, whatever the session's search path.
    """
    with connection.transaction():
        before = connection.execute("SELECT pg_catalog.current_setting('search_path')").fetchone()
        connection.execute("SET LOCAL search_path = pg_catalog")
        found = _find(connection, database, cluster, only)
        connection.execute("SELECT set_config('search_path', %s, true)", before)
    return found


def _find(
    connection: psycopg.Connection, database: str, cluster: Cluster, only: Collection[int] | None
) -> list[FoundColumn]:
    found = []
    taken: set[int] = set()
    rows = _columns(connection, named_columns(cluster), only)
    for schema, table, column, kind, modifier, oid, number, size, home in rows:
        wanted = thresholds(cluster, database, schema, table, column)
        if (
            kind == "bit"
            and size is not None
            and wanted not in cluster.vectors
            and not _is_indexed(connection, oid, number)
        ):
            continue
        cell = Field(
            as_vector(sql.Identifier(column).as_string(connection), kind, home, modifier),
            kind,
            modifier if modifier > 0 else 0,
        )
        indexes, held = [], size is None
        for row in [] if held else connection.execute(INDEXES, (oid,)).fetchall():
            if number in row[13] and row[1] not in taken:
                taken.add(row[1])
                indexes.append(_index(row, cell, home))
        found.append(
            FoundColumn(
                database,
                schema,
                table,
                column,
                kind,
                cell.dimensions or None,
                oid,
                size or 0,
                tuple(indexes),
                None if held else _filter(connection, oid, wanted),
                wanted,
                home,
                number,
                held,
            )
        )
    return found


def thresholds(
    cluster: Cluster, database: str, schema: str, table: str, column: str
) -> VectorColumn:
    """Return what the configuration asks of a column; its defaults where it says nothing."""
    home = (*cluster.server.databases, database)[0]
    for wanted in cluster.vectors:
        if (wanted.database or home, wanted.column) == (database, column) and apart(
            wanted.table
        ) == (schema, table):
            return wanted
    return VectorColumn(database=database, table=joined(schema, table), column=column)


def use_pgvector(connection: psycopg.Connection) -> bool:
    """Load pgvector, so that its settings are there; return False if it is not installed."""
    row = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE"
        " extname = 'vector'"
    ).fetchone()
    if row is None:
        return False
    connection.execute(sql.SQL("SELECT '[1]'::{}").format(sql.Identifier(row[0], "vector")))
    return True


def _is_indexed(connection: psycopg.Connection, oid: int, number: int) -> bool:
    return any(number in row[13] for row in connection.execute(INDEXES, (oid,)).fetchall())


def as_vector(expression: str, kind: str, home: str, dimensions: int) -> str:
    """Return the expression as pgvector's own type, before anything is applied to it.

    On a domain, somebody's function of the same name would fit better. The cast changes nothing, so
    that an index serves the expression as before.
    """
    if kind == "bit":
        return (
            f"({expression})::pg_catalog.bit({dimensions})"
            if dimensions > 0
            else f'({expression})::pg_catalog."bit"'
        )
    return f"({expression})::{sql.Identifier(home, kind).as_string(None)}"


def _index(row: tuple[object, ...], cell: Field, home: str) -> SearchIndex:
    (
        name,
        oid,
        method,
        operator,
        kind,
        modifier,
        expression,
        key,
        predicate,
        options,
        valid,
        definition,
        opclass,
        _,
    ) = row
    dimensions = int(str(modifier)) if int(str(modifier)) > 0 else cell.dimensions
    made = cell.expression if key else as_vector(str(expression), str(kind), home, dimensions)
    field = Field(made, str(kind), dimensions, str(predicate))
    return SearchIndex(
        str(name),
        int(str(oid)),
        str(method),
        str(operator),
        str(opclass),
        field,
        tuple(options),  # type: ignore[arg-type]
        bool(valid),
        str(definition),
    )


def _filter(connection: psycopg.Connection, oid: int, wanted: VectorColumn) -> Filter | None:
    policies = connection.execute(POLICIES, {"table": oid, "most": LONGEST_POLICY + 1}).fetchall()
    named = list(dict.fromkeys(name for name, _ in policies))
    column = wanted.filter_column or next(
        (name for name, qual in policies if _is_tenant(name, qual)), (*named, "")[0]
    )
    if not column:
        return None
    settings = tuple(
        dict.fromkeys(
            setting
            for name, qual in policies
            if name == column
            for setting in SETTING.findall(qual)
        )
    )
    return Filter(column, settings, alone=named == [column] and len(settings) == 1)


def _is_tenant(name: str, qual: str) -> bool:
    """Return True if the policy compares that column with a setting.

    A policy that is longer than anybody writes one is not read.
    """
    if len(qual) > LONGEST_POLICY:
        return False
    cell = rf'(?<![\w"])"?{re.escape(name)}"?\)?(?:::[\w ]+)?'
    asked = r"\(*(?:\w+\()?current_setting\("
    return bool(
        re.search(rf"{cell} = {asked}", qual) or re.search(rf"{asked}[^=]* = \(?{cell}", qual)
    )


@dataclass(frozen=True, slots=True)
class Search:
    """A way to search a column: through an index, or without one."""

    field: Field
    operator: str
    index: SearchIndex | None = None
    home: str = "public"  # pgvector's schema

    @property
    def name(self) -> str:
        """The index's name; empty without one."""
        return self.index.name if self.index else ""

    @property
    def measured_by(self) -> sql.Composed:
        """The operator as it is written in SQL.

        It is pgvector's, and never one of the same name in a schema that comes first.
        """
        return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(self.home), sql.SQL(self.operator))

    @property
    def type(self) -> sql.Composable:
        """The type's name as it is written in SQL."""
        return sql.Identifier(
            "pg_catalog" if self.field.kind == "bit" else self.home, self.field.kind
        )


def searches(connection: psycopg.Connection, column: FoundColumn) -> list[Search]:
    """Return every way that the column is searched in.

    That is exact search alone where no valid index serves it.
    """
    usable = [index for index in column.indexes if index.valid and index.field.dimensions]
    found = [Search(index.field, index.operator, index, column.home) for index in usable]
    return found or [
        Search(cell_of(connection, column), usual_operator(column.kind), home=column.home)
    ]


def cell_of(connection: psycopg.Connection, column: FoundColumn) -> Field:
    """Return the column itself as a searched field.

    Dimensions that the column does not fix are those of its first vector (0: there is none).
    """
    dimensions = column.dimensions
    cell = as_vector(column.cell.as_string(connection), column.kind, column.home, dimensions or 0)
    if dimensions is None:
        measure = {
            "bit": "pg_catalog.length({})",
            "sparsevec": "(SELECT pg_catalog.split_part({}::text, '/', 2)::int)",
        }
        dims = sql.Identifier(column.home, "vector_dims")
        value = sql.SQL(measure.get(column.kind, "{dims}({})")).format(sql.SQL(cell), dims=dims)
        row = connection.execute(
            sql.SQL("SELECT {} FROM ONLY {} WHERE {} IS NOT NULL LIMIT 1").format(
                value, column.relation, column.cell
            )
        ).fetchone()
        dimensions = int(row[0]) if row else 0
    return Field(cell, column.kind, dimensions)
