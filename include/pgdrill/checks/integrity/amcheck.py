"""amcheck: are heaps, TOAST, B-trees and GIN indexes sound inside?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.integrity.relations import (
    Extension,
    Relation,
    asking,
    each,
    find_extension,
    make,
    relations,
    without,
)
from pgdrill.postgres.prepared import ALL, Held, held
from pgdrill.postgres.session import catalogs_only

LIGHT = "btree, beside writers"
EACH = " FROM unnest(%s::oid[]) oid"
# Only a superuser may call the functions, and they run an index's expressions as the table's
# owner. So everybody may call them, and the role that asks stands in for an owner who is a
# superuser, until the transaction is rolled back.
LENT = """
{make};
UPDATE pg_proc SET proacl = NULL WHERE oid IN (
    SELECT d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
      AND d.deptype = 'e' AND e.extname = 'amcheck');
UPDATE pg_class SET relowner = (SELECT oid FROM pg_roles WHERE rolname = session_user)
WHERE relowner IN (SELECT oid FROM pg_roles WHERE rolsuper)
  AND oid IN (SELECT indrelid FROM pg_index WHERE indexprs IS NOT NULL OR indpred IS NOT NULL);
"""
KINDS = {
    "verify_heapam": ("regclass", "boolean", "boolean", "text", "bigint", "bigint"),
    "gin_index_check": ("regclass",),
}


@check(
    "amcheck",
    "integrity",
    passing=(
        "amcheck finds every heap and TOAST page sound, every B-tree in order and complete (each"
        " row of the table is in it and found from its root; no duplicate in a unique one), and"
        " from PostgreSQL 18 on every GIN index in order"
    ),
    hint=(
        "run the same amcheck function on production: if it fails there, REINDEX or salvage the"
        " table; if not, the backup is damaged: drill with an older one"
    ),
    example=(
        "agents.things_btree: IndexCorrupted (item order invariant violated for index"
        ' "things_btree"), wanted no error'
    ),
)
def amcheck(context: Context) -> Iterator[Outcome]:
    """Ask amcheck of every relation that it knows.

    Its thorough forms lock out writers, and are used only on a cluster of our own.
    """
    for database in context.databases:
        with asking(context, database, LENT.format(make=make("amcheck"))) as (connection, lend):
            if lend:
                with contextlib.suppress(psycopg.Error), connection.transaction():
                    connection.execute(sql.SQL("SELECT {}(0)").format(lend))
            extension = find_extension(connection, "amcheck")
            if extension is None:
                yield without(context, database, "amcheck")
                continue
            functions = _amcheck_functions(extension, ours=context.prepare is not None)
            with catalogs_only(connection):
                locked = {one.oid: one for one in held(connection) if one.database == database}

            def ask(
                relation: Relation,
                connection: psycopg.Connection = connection,
                database: str = database,
                functions: dict[str, sql.Composed] = functions,
            ) -> Outcome | None:
                row = connection.execute(functions[relation.method], ([relation.oid],)).fetchone()
                if row and row[0]:
                    return Outcome(
                        "fail",
                        f"{database}.{relation.name}",
                        row[0],
                        "0 findings",
                        str(row[1])[:300],
                    )
                return None

            def sound(
                some: list[Relation],
                connection: psycopg.Connection = connection,
                functions: dict[str, sql.Composed] = functions,
            ) -> bool:
                row = connection.execute(
                    functions[some[0].method], ([relation.oid for relation in some],)
                ).fetchone()
                return row is not None and not row[0]

            covered = [
                r
                for r in relations(connection)
                if r.usable and r.method in functions and r.kind != "S"
            ]
            yield from each(
                context,
                connection,
                database,
                list(_beside_locks(connection, covered, locked)),
                "sound",
                ask,
                sound,
            )
            yield from _locked(database, locked)


def _beside_locks(
    connection: psycopg.Connection, covered: list[Relation], locked: Mapping[int, Held]
) -> Iterator[Relation]:
    """Yield the relations that no prepared transaction keeps us from reading.

    Recovery brings prepared transactions back, with their locks. A B-tree that one has locked more
    weakly is given the form of the check that waits for no writer.
    """
    closed = {oid for oid, one in locked.items() if one.mode == ALL}
    with catalogs_only(connection):
        tables: dict[int, int] = (
            dict(
                connection.execute(
                    "SELECT indexrelid::int8, indrelid::int8 FROM pg_index"
                ).fetchall()
            )
            if locked
            else {}
        )
    for relation in covered:
        touched = {relation.oid, tables.get(relation.oid, relation.oid)} & locked.keys()
        if not touched & closed:
            yield (
                replace(relation, method=LIGHT)
                if touched and relation.method == "btree"
                else relation
            )


def _locked(database: str, locked: Mapping[int, Held]) -> Iterator[Outcome]:
    seen = [one for one in locked.values() if one.name]
    for one in seen:
        if one.mode == ALL:
            yield Outcome(
                "skip",
                f"{database}.{one.name}",
                message=f"{one} keeps everybody from reading it: {one.hint}",
            )
    if beside := [one for one in seen if one.mode != ALL]:
        first, more = beside[0], f" (and {len(beside) - 1} more)" if len(beside) > 1 else ""
        yield Outcome(
            "warn",
            f"{database}.{first.name}{more}",
            "B-trees looked at beside a writer",
            "alone",
            f"{first}, has written there, and is in the copy, too; if it is forgotten:"
            f" {first.hint}",
        )


def _amcheck_functions(extension: Extension, *, ours: bool) -> dict[str, sql.Composed]:
    """Return a query for each access method that amcheck knows.

    Each query gives the number of findings in the given relations, and the first of them. Damaged
    indexes raise an error instead.
    """
    functions = {}
    if heap := extension.call("verify_heapam", *KINDS["verify_heapam"]):
        functions["heap"] = sql.SQL(
            "SELECT count(*), min(format('block %%s, line %%s: %%s', blkno, offnum, msg)) FROM"
            " (SELECT f.* FROM unnest(%s::oid[]) oid, {}(oid::regclass, false, true, 'none'::text,"
            " NULL::int8, NULL::int8) f LIMIT 1000) found"
        ).format(heap)
    # The arguments in their order: every row is in the index, each is found from the root, and a
    # unique index is unique (amcheck 1.4).
    name, given = ("bt_index_parent_check", 2) if ours else ("bt_index_check", 1)
    for more in (given + 1, given):
        if btree := extension.call(name, "regclass", *["boolean"] * more):
            functions["btree"] = sql.SQL(
                "SELECT 0, count({}(oid::regclass" + ", true" * more + "))" + EACH
            ).format(btree)
            break
    if light := extension.call("bt_index_check", "regclass", "boolean"):
        functions[LIGHT] = sql.SQL("SELECT 0, count({}(oid::regclass, true))" + EACH).format(light)
    if gin := extension.call("gin_index_check", *KINDS["gin_index_check"]):
        functions["gin"] = sql.SQL("SELECT 0, count({}(oid::regclass))" + EACH).format(gin)
    return functions
