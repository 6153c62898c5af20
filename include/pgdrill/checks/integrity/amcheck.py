"""amcheck: are heaps, TOAST, B-trees and GIN indexes sound inside?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.integrity.relations import Relation, each, find_extension, opened, relations, without

EACH = " FROM unnest(%s::oid[]) oid"


@check(
    "amcheck", "integrity",
    passing="amcheck finds every heap and TOAST page sound, every B-tree in order and complete (each row of the table is "
    "in it and found from its root; no duplicate in a unique one), and from PostgreSQL 18 on every GIN index in order",
    mend="run the same amcheck function on production: if it fails there, REINDEX or salvage the table; if not, the backup is "
    "damaged: drill with an older one",
    example='agents.things_btree: IndexCorrupted (item order invariant violated for index "things_btree"), wanted no error',
)  # fmt: skip
def amcheck(context: Context) -> Iterator[Outcome]:
    """The thorough forms, which lock out writers, only on a cluster of our own."""
    for database in context.databases:
        with opened(context, database) as connection:
            extension = find_extension(context, connection, "amcheck")
            if extension is None:
                yield without(context, database, "amcheck")
                continue
            functions = _amcheck_functions(*extension, ours=context.prepare is not None)

            def ask(
                relation: Relation, connection: psycopg.Connection = connection, database: str = database,
                functions: dict[str, sql.Composed] = functions,
            ) -> Outcome | None:  # fmt: skip
                row = connection.execute(functions[relation.method], ([relation.oid],)).fetchone()
                if row and row[0]:
                    return Outcome("fail", f"{database}.{relation.name}", row[0], "0 findings", str(row[1])[:300])
                return None

            def sound(
                some: list[Relation], connection: psycopg.Connection = connection, functions: dict[str, sql.Composed] = functions
            ) -> bool:
                row = connection.execute(functions[some[0].method], ([relation.oid for relation in some],)).fetchone()
                return row is not None and not row[0]

            covered = [r for r in relations(connection) if r.usable and r.method in functions and r.kind != "S"]
            yield from each(connection, database, covered, "sound", ask, sound)


def _amcheck_functions(schema: str, version: tuple[int, ...], *, ours: bool) -> dict[str, sql.Composed]:
    """A query for each access method that amcheck knows: number of findings in the given relations and the first; damaged
    indexes raise."""
    where = sql.Identifier(schema)
    # In order: every row is in the index, each is found from the root, a unique index is unique (amcheck 1.4).
    btree = "bt_index_parent_check(oid, true, true" if ours else "bt_index_check(oid, true"
    functions = {
        "heap": sql.SQL(
            "SELECT count(*), min(format('block %%s, line %%s: %%s', blkno, offnum, msg)) FROM"
            " (SELECT f.* FROM unnest(%s::oid[]) oid, {}.verify_heapam(oid, check_toast => true) f LIMIT 1000) found"
        ).format(where),
        "btree": sql.SQL("SELECT 0, count({}." + btree + (", true))" if version >= (1, 4) else "))") + EACH).format(where),
    }
    if version >= (1, 5):
        functions["gin"] = sql.SQL("SELECT 0, count({}.gin_index_check(oid))" + EACH).format(where)
    return functions
