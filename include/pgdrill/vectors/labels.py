"""Labels: a vector column's comment says with which model its vectors were made.

A label is one line of the comment, ``pgdrill: {"model": …, "version": …, …}``; other lines are
somebody else's and stay. A physical backup brings the comment along, so the restored cluster itself
says what its vectors are.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from pydantic import Field, ValidationError

from pgdrill.documents import StrictModel
from pgdrill.errors import ConfigError
from pgdrill.postgres.relation_names import apart
from pgdrill.vectors.columns import Place, vector_places

PREFIX = "pgdrill:"


def label_command(cluster: str, database: str, table: str, column: str, running: str = "") -> str:
    """Return the command that writes a label.

    ``table`` with its schema; ``running``: ``model@version`` where the configuration says what
    embeds it.
    """
    model, _, version = running.rpartition("@")
    words = (
        "pgdrill",
        "label",
        cluster,
        table,
        column,
        "--database",
        database,
        "--model",
        model or "NAME",
        "--model-version",
        version or "VERSION",
    )
    return shlex.join(words)


# Reads a column's own comment, and for a partition the partitioned table's, too.
COMMENT = """
SELECT col_description(c.oid, a.attnum),
       (SELECT col_description(r.attrelid, r.attnum) FROM pg_attribute r
        WHERE c.relispartition AND r.attrelid = pg_partition_root(c.oid) AND r.attname = a.attname)
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s AND a.attnum > 0
"""
# Finds one column, also of a partitioned table.
COLUMN = """
SELECT coalesce(b.typname, t.typname) IN ('vector', 'halfvec', 'sparsevec', 'bit'),
       col_description(c.oid, a.attnum)
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relkind IN ('r', 'm', 'p')
"""


class LabelError(ValueError):
    """A comment has a label's line, but it cannot be read."""


class Label(StrictModel):
    """The model that made a column's vectors, and the column of their text."""

    model: str = Field(min_length=1)
    version: str = Field(min_length=1, pattern="^[^@]+$")
    text_column: str | None = None
    updated_column: str | None = None  # holds when the text was changed last
    embedded_column: str | None = None  # holds when the vector was made

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"

    @property
    def line(self) -> str:
        """The label as it stands in the comment."""
        return f"{PREFIX} {self.model_dump_json(exclude_none=True)}"


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment in two parts: the label's line, and everything else."""

    label: str
    others: tuple[str, ...]


def split(comment: str | None) -> Comment:
    """Take a comment apart. Raises :class:`LabelError` where it has several labels."""
    lines = _lines(comment)
    own = [line.strip() for line in lines if _is_label(line)]
    if len(own) > 1:
        raise LabelError(f"{len(own)} labels in one comment")
    return Comment(own[0] if own else "", tuple(line for line in lines if not _is_label(line)))


def _lines(comment: str | None) -> list[str]:
    # Not splitlines(): it also breaks at characters that JSON leaves in a string.
    return comment.split("\n") if comment else []


def _is_label(line: str) -> bool:
    return line.strip().startswith(PREFIX)


def parse_label(comment: str | None) -> Label | None:
    """Return the label in a comment, None where there is none.

    Raises :class:`LabelError` where it cannot be read.
    """
    line = split(comment).label
    if not line:
        return None
    try:
        return Label.model_validate_json(line.removeprefix(PREFIX))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LabelError(f"{where}: {first['msg']}" if where else first["msg"]) from None


def with_label(comment: str | None, label: Label) -> str:
    """Return the comment with its label replaced, or added as its last line.

    Every other line stays.
    """
    lines = _lines(comment)
    own = [number for number, line in enumerate(lines) if _is_label(line)]
    kept = [line for number, line in enumerate(lines) if number not in own]
    kept.insert(own[0] if own else len(kept), label.line)
    return "\n".join(kept)


def read_comments(connection: psycopg.Connection, named: Sequence[str] = ()) -> dict[Place, str]:
    """Read the comment that counts for each vector column; empty where it has none.

    Columns of bits that are ``named`` are read, too.
    """
    found = {}
    for place in vector_places(connection, named):
        own, root = connection.execute(COMMENT, place).fetchone() or (None, None)
        labelled = any(map(_is_label, _lines(own)))
        found[place] = (own if labelled else root or own) or ""
    return found


def read_labels(connection: psycopg.Connection) -> dict[Place, Label | None]:
    """Read the label of every vector column; None where it has none that can be read."""
    found: dict[Place, Label | None] = {}
    for place, comment in read_comments(connection).items():
        try:
            found[place] = parse_label(comment)
        except LabelError:
            found[place] = None
    return found


def label_statement(connection: psycopg.Connection, table: str, column: str, label: Label) -> str:
    """Return the statement that writes a column's label into its comment.

    ``table`` is schema-qualified where not in public. Raises :class:`ConfigError` where the column
    is no vector column.
    """
    place = (*apart(table), column)
    with connection.transaction():
        row = connection.execute(COLUMN, place).fetchone()
        if row is None or not row[0]:
            raise ConfigError(
                "no-vector-column",
                f"{table}.{column}",
                found="another type" if row else "no such column",
                expected="a column of type vector, halfvec, sparsevec or bit",
                hint=(
                    "`pgdrill label` without a table lists them all; write schema.table where it is"
                    " not in public"
                ),
            )
        return _statement(place, with_label(row[1], label)).as_string(connection)


def set_label(connection: psycopg.Connection, table: str, column: str, label: Label) -> None:
    """Write a column's label into its comment."""
    with connection.transaction():
        statement = label_statement(connection, table, column, label)
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                "not-the-owner",
                f"comment on {table}.{column}",
                found=str(error).strip(),
                expected=(
                    "the table's owner or a superuser, and server.dsn leads in as"
                    f" {connection.info.user}"
                ),
                hint=(
                    f"add `--sql | psql {connection.info.dbname}` to the command, as one of them;"
                    f" or let them run: {statement};"
                ),
            ) from None


def _statement(place: Place, comment: str) -> sql.Composed:
    return sql.SQL("COMMENT ON COLUMN {} IS {}").format(
        sql.Identifier(*place), sql.Literal(comment)
    )
