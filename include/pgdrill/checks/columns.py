"""The vector columns of a database, found by themselves, each with the index that serves it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgdrill.config import Cluster, VectorColumn

OPERATORS = {"l2": "<->", "ip": "<#>", "cosine": "<=>", "l1": "<+>"}
OPCLASS = re.compile(r"(vector|halfvec)_(l2|ip|cosine|l1)_ops")
CAST = re.compile(r"::(?:\w+\.)?halfvec\((\d+)\)")

COLUMNS = """
SELECT n.nspname, c.relname, a.attname, t.typname, a.atttypmod
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
WHERE t.typname IN ('vector', 'halfvec') AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND n.nspname !~ '^pg_'
ORDER BY 1, 2, a.attnum
"""
INDEXES = """
SELECT c.relname, m.amname, o.opcname, pg_get_indexdef(i.indexrelid, 1, true), i.indisvalid
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am m ON m.oid = c.relam
JOIN pg_opclass o ON o.oid = i.indclass[0]
WHERE i.indrelid = %s::regclass AND m.amname IN ('hnsw', 'ivfflat')
ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """An HNSW or IVFFlat index; ``expression`` is what it indexes, as SQL, of type ``kind``."""

    name: str
    method: str
    operator: str
    kind: str
    expression: str
    valid: bool


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A vector column. ``dimensions`` is None where the column does not fix them."""

    database: str
    schema: str
    table: str
    column: str
    kind: str
    dimensions: int | None
    indexes: tuple[SearchIndex, ...]
    wanted: VectorColumn

    @property
    def name(self) -> str:
        """``public.items.embedding`` without ``public.``."""
        prefix = "" if self.schema == "public" else f"{self.schema}."
        return f"{prefix}{self.table}.{self.column}"

    @property
    def relation(self) -> sql.Identifier:
        """The table, quoted."""
        return sql.Identifier(self.schema, self.table)


def find_columns(connection: psycopg.Connection, database: str, cluster: Cluster) -> list[FoundColumn]:
    """Every vector column with its indexes and what the config says of it."""
    found = []
    for schema, table, column, kind, modifier in connection.execute(COLUMNS).fetchall():
        quoted = sql.Identifier(schema, table).as_string(connection)
        rows = connection.execute(INDEXES, (quoted,)).fetchall()
        indexes = [index for row in rows if (index := _index(row, column))]
        dimensions = modifier if modifier > 0 else None
        wanted = thresholds(cluster, database, schema, table, column)
        found.append(FoundColumn(database, schema, table, column, kind, dimensions, tuple(indexes), wanted))
    return found


def thresholds(cluster: Cluster, database: str, schema: str, table: str, column: str) -> VectorColumn:
    """What the config asks of a column; its defaults where it says nothing."""
    home = (*cluster.server.databases, database)[0]
    for wanted in cluster.vectors:
        if (wanted.database or home, wanted.column) == (database, column) and wanted.table in (
            f"{schema}.{table}", table if schema == "public" else ""
        ):  # fmt: skip
            return wanted
    return VectorColumn(database=database, table=f"{schema}.{table}", column=column)


def _index(row: tuple[str, str, str, str, bool], column: str) -> SearchIndex | None:
    name, method, opclass, expression, valid = row
    known = OPCLASS.fullmatch(opclass)
    if not known or not re.search(rf'(?<![\w"]){re.escape(column)}(?![\w])|"{re.escape(column)}"', expression):
        return None
    return SearchIndex(name, method, OPERATORS[known[2]], known[1], expression, valid)


def index_dimensions(column: FoundColumn, index: SearchIndex) -> int | None:
    """Dimensions of what the index holds."""
    cast = CAST.search(index.expression)
    return int(cast[1]) if cast else column.dimensions
