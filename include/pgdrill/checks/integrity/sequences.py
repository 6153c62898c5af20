"""Sequences: is each readable, and ahead of the column that it numbers?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.integrity.relations import Relation, asking, each, relations
from pgdrill.postgres.session import catalogs_only

OWNERS = """
SELECT d.objid::int8, n.nspname, c.relname, a.attname, s.seqincrement > 0, NOT s.seqcycle
FROM pg_depend d
JOIN pg_sequence s ON s.seqrelid = d.objid
JOIN pg_class c ON c.oid = d.refobjid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
  AND d.deptype IN ('a', 'i')
  AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND c.relpersistence = 'p'
"""


@dataclass(frozen=True, slots=True)
class Numbered:
    """The column that a sequence numbers. ``once``: no number comes a second time."""

    schema: str
    table: str
    column: str
    ascending: bool
    once: bool

    def furthest(self, connection: psycopg.Connection) -> int | None:
        """Its last number in the sequence's direction; None of an empty table."""
        row = connection.execute(
            sql.SQL("SELECT {}({}) FROM {}").format(
                sql.SQL("max" if self.ascending else "min"),
                sql.Identifier(self.column),
                sql.Identifier(self.schema, self.table),
            )
        ).fetchone()
        return row[0] if row else None


@check(
    "sequences",
    "integrity",
    passing=(
        "every sequence is readable and holds one row; none is behind the column that it numbers"
    ),
    hint=(
        "a sequence that cannot be read is damage in the backup: drill with an older one; one that"
        " is behind gives duplicate keys: setval() it on production to the column's maximum"
    ),
    example=(
        "agents.invoice_number_seq: DataCorrupted (invalid page in block 0 of relation"
        ' "base/16385/16421"), wanted no error'
    ),
)
def sequences(context: Context) -> Iterator[Outcome]:
    """Read every sequence and compare it with the column that it numbers.

    A sequence behind its column is a warning: rows may have been written with numbers of their own.
    """
    for database in context.databases:
        with asking(context, database) as (connection, _):
            with catalogs_only(connection):
                owners = {
                    oid: Numbered(*column) for oid, *column in connection.execute(OWNERS).fetchall()
                }

            def ask(
                relation: Relation,
                connection: psycopg.Connection = connection,
                database: str = database,
                owners: dict[int, Numbered] = owners,
            ) -> Outcome | None:
                name = sql.Identifier(relation.schema, relation.plain)
                rows = connection.execute(
                    sql.SQL("SELECT last_value, is_called FROM {}").format(name)
                ).fetchall()
                if len(rows) != 1:
                    return Outcome(
                        "fail", f"{database}.{relation.name}", f"{len(rows)} rows", "1 row"
                    )
                if relation.oid in owners:
                    return _behind(
                        connection, f"{database}.{relation.name}", owners[relation.oid], *rows[0]
                    )
                return None

            found = [relation for relation in relations(connection) if relation.kind == "S"]
            yield from each(context, connection, database, found, "readable, and not behind", ask)
            if not found:
                yield Outcome("pass", database, 0, "", "no sequence")


def _behind(
    connection: psycopg.Connection, thing: str, numbered: Numbered, last: int, called: bool
) -> Outcome | None:
    """``called``: the sequence has given its ``last`` number to somebody."""
    furthest = numbered.furthest(connection)  # read even where nothing is asked of it: all readable
    if not numbered.once or furthest is None:
        return None
    ahead = last - furthest if numbered.ascending else furthest - last
    if ahead > 0 or (ahead == 0 and called):
        return None
    return Outcome(
        "warn",
        thing,
        last,
        f"past {furthest}",
        f"behind {numbered.table}.{numbered.column}: the next number may be taken",
    )
