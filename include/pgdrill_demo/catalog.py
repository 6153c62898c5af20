"""What the schema files made, read back from the server: the filler follows the tables, not a
second list of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import psycopg

LABEL_PREFIX = "pgdrill: "

# Columns of plain and partitioned tables in public. A domain counts as its base type.
_COLUMNS = """
SELECT c.relname, a.attname, coalesce(base.typname, t.typname) AS type,
  a.attnotnull OR t.typnotnull AS required,
  ARRAY(SELECT e.enumlabel::text FROM pg_enum e
        WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) AS labels,
  parent.relname AS parent, key.attname AS parent_column,
  coalesce(a.attnum = ANY (pk.conkey), false) AS in_key, col_description(c.oid, a.attnum) AS comment
FROM pg_class c
JOIN pg_attribute a
  ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type base ON base.oid = t.typbasetype AND t.typtype = 'd'
LEFT JOIN pg_constraint pk ON pk.conrelid = c.oid AND pk.contype = 'p'
LEFT JOIN pg_constraint fk
  ON fk.conrelid = c.oid AND fk.contype = 'f' AND fk.conkey = ARRAY[a.attnum]
LEFT JOIN pg_class parent ON parent.oid = fk.confrelid
LEFT JOIN pg_attribute key ON key.attrelid = fk.confrelid AND key.attnum = fk.confkey[1]
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY c.relname COLLATE "C", a.attnum
"""


@dataclass(frozen=True, slots=True)
class VectorLabel:
    """What a vector column's comment says of it."""

    model: str
    version: str
    text_column: str
    updated_column: str | None = None

    @property
    def dimensions(self) -> int:
        """The length the model's name ends in."""
        return int(self.model.rsplit("-", 1)[1])


@dataclass(frozen=True, slots=True)
class Column:
    """One column that rows must give a value for (generated columns are left out)."""

    name: str
    type: str
    required: bool
    labels: tuple[str, ...]
    parent: str | None
    parent_column: str | None
    in_key: bool
    vector: VectorLabel | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table and its columns, in their order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names in the order of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns; empty where there is none."""
        return tuple(column.name for column in self.columns if column.in_key)


def read_tables(connection: psycopg.Connection[Any]) -> list[Table]:
    """Return the tables of ``public``, partitions aside, every one after those its foreign keys
    point to.
    """
    columns: dict[str, list[Column]] = {}
    for (
        relation,
        name,
        kind,
        required,
        labels,
        parent,
        parent_column,
        in_key,
        comment,
    ) in connection.execute(_COLUMNS):
        column = Column(
            name, kind, required, tuple(labels), parent, parent_column, in_key, parse_label(comment)
        )
        columns.setdefault(relation, []).append(column)
    parents = {
        relation: {column.parent for column in its if column.parent not in (None, relation)}
        for relation, its in columns.items()
    }
    return [
        Table(name, tuple(columns[name]))
        for name in TopologicalSorter(parents).static_order()
        if name
    ]


def parse_label(comment: str | None) -> VectorLabel | None:
    """Read a vector column's label; ``None`` where the comment is something else."""
    if comment is None or not comment.startswith(LABEL_PREFIX):
        return None
    return VectorLabel(**json.loads(comment.removeprefix(LABEL_PREFIX)))
