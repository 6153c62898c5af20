"""Relation files: is each there, and as long as the catalog says?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from pgdrill.baseline import Changes
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.integrity.relations import Relation, each, opened, relations


@check(
    "relation-files", "integrity",
    passing="every table, index, TOAST table, sequence and materialized view has its file, in whole pages, and no "
    "fewer of them than the catalog counted when it was last vacuumed or analyzed",
    mend="the backup lacks a file or a part of one: drill with an older base backup and take a new one; ANALYZE on production "
    "if `pg_restore --statistics` set page counts of another cluster",
    example="agents.hc_patients: no file, wanted >= 12 pages",
)  # fmt: skip
def relation_files(context: Context) -> Iterator[Outcome]:
    """Sizes only. Vacuum cuts a table's file, and then notes its pages: a restore point in between leaves one shorter than
    noted, which is a warning where production may have been at it; the content of tables proves the rest."""
    for database in context.databases:
        with opened(context, database) as connection:

            def ask(relation: Relation, connection: psycopg.Connection = connection, database: str = database) -> Outcome | None:
                _, size, first, page = _sizes(connection, [relation])[0]
                wanted = f">= {relation.pages} pages"
                if first is None:
                    return Outcome("fail", f"{database}.{relation.name}", "no file", wanted)
                if size < relation.pages * page or size % page:
                    cut = size % page == 0 and relation.kind in "rmt" and _may_be_vacuumed(context, connection, database, relation.oid)
                    return Outcome("warn" if cut else "fail", f"{database}.{relation.name}", f"{size / page:g} pages", wanted,
                                   "production wrote or vacuumed it just then" if cut else "")  # fmt: skip
                return None

            def sound(some: list[Relation], connection: psycopg.Connection = connection) -> bool:
                return all(
                    first is not None and size >= relation.pages * page and size % page == 0
                    for relation, (_, size, first, page) in zip(some, _sizes(connection, some), strict=True)
                )

            yield from each(connection, database, relations(connection), "files as long as noted", ask, sound)


def _sizes(connection: psycopg.Connection, some: list[Relation]) -> list[tuple[int, int, int | None, int]]:
    """For each: OID, bytes, bytes of its first file (None: there is none), bytes of a page."""
    return connection.execute(
        "SELECT oid::int8, pg_relation_size(oid::regclass), (pg_stat_file(pg_relation_filepath(oid::regclass), true)).size,"
        " current_setting('block_size')::int FROM unnest(%s::oid[]) WITH ORDINALITY u(oid, n) ORDER BY n", ([one.oid for one in some],)
    ).fetchall()  # fmt: skip


def _may_be_vacuumed(context: Context, connection: psycopg.Connection, database: str, oid: int) -> bool:
    """May a vacuum have been cutting the table, or the one of this TOAST table, at the restore point?

    Not only where vacuums were counted since: one that gave way to another's lock looks for the next cut for seconds before
    it notes the pages and is counted. Nobody locks a table that nobody uses, so one that was not written is not excused.
    """
    if context.baseline is None or database not in context.baseline.databases or not context.settle():
        return False
    row = connection.execute("SELECT oid::int8 FROM pg_class WHERE reltoastrelid = %s", (oid,)).fetchone()
    owner = row[0] if row else oid
    tables = (state for state in context.baseline.databases[database].tables.values() if state.oid == owner)
    return any(state.vacuumed or state.changes != Changes() for state in tables)
