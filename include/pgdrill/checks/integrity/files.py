"""Relation files: is each there, and as long as the catalog says?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from pgdrill.baseline import Changes
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.integrity.relations import Relation, each, opened, relations

BULK_PAGES = 64  # most pages added at a time: MAX_BUFFERS_TO_EXTEND_BY of PostgreSQL's hio.c


@check(
    "relation-files",
    "integrity",
    passing=(
        "every table, index, TOAST table, sequence and materialized view has its file, in whole"
        " pages, and no fewer of them than the catalog counted when it was last vacuumed or"
        " analyzed"
    ),
    hint=(
        "the backup lacks a file or a part of one: drill with an older base backup and take a new"
        " one; ANALYZE on production if `pg_restore --statistics` set page counts of another"
        " cluster"
    ),
    example="agents.hc_patients: no file, wanted >= 12 pages",
)
def relation_files(context: Context) -> Iterator[Outcome]:
    """Compare the sizes of relations' files with the catalog.

    In a good restore a table may lack some of the pages noted there. That is a warning; its content
    proves the rest.
    """
    for database in context.databases:
        with opened(context, database) as connection:

            def ask(
                relation: Relation,
                connection: psycopg.Connection = connection,
                database: str = database,
            ) -> Outcome | None:
                _, size, first, page = _sizes(connection, [relation])[0]
                wanted = f">= {relation.pages} pages"
                if first is None:
                    return Outcome("fail", f"{database}.{relation.name}", "no file", wanted)
                if size < relation.pages * page or size % page:
                    missing = relation.pages - size // page
                    cut = size % page == 0 and relation.kind in "rmt"
                    why = (
                        _excused(context, connection, database, relation.oid, missing)
                        if cut
                        else ""
                    )
                    return Outcome(
                        "warn" if why else "fail",
                        f"{database}.{relation.name}",
                        f"{size / page:g} pages",
                        wanted,
                        why,
                    )
                return None

            def sound(some: list[Relation], connection: psycopg.Connection = connection) -> bool:
                return all(
                    first is not None and size >= relation.pages * page and size % page == 0
                    for relation, (_, size, first, page) in zip(
                        some, _sizes(connection, some), strict=True
                    )
                )

            yield from each(
                context,
                connection,
                database,
                relations(connection),
                "files as long as noted",
                ask,
                sound,
            )


def _sizes(
    connection: psycopg.Connection, some: list[Relation]
) -> list[tuple[int, int, int | None, int]]:
    """Read the sizes of relations' files.

    For each: OID, bytes, bytes of its first file (None: there is none), bytes of a page.
    """
    return connection.execute(
        "SELECT oid::int8, pg_relation_size(oid::regclass),"
        " (pg_stat_file(pg_relation_filepath(oid::regclass), true)).size,"
        " current_setting('block_size')::int FROM unnest(%s::oid[]) WITH ORDINALITY u(oid, n) ORDER"
        " BY n",
        ([one.oid for one in some],),
    ).fetchall()


def _excused(
    context: Context, connection: psycopg.Connection, database: str, oid: int, missing: int
) -> str:
    """Return what explains that a table, or the one of this TOAST table, is shorter than noted.

    Empty if nothing does. Vacuum cuts a file, and then notes its pages; one that gives way to
    another session's lock does so for seconds. Nobody locks a table that nobody uses, so this
    excuses only a table that was written or vacuumed. Pages that were added many at a time and are
    not filled yet are in no WAL: they excuse a table of which the baseline has every row.
    """
    if (
        context.baseline is None
        or database not in context.baseline.databases
        or not context.settle()
    ):
        return ""
    row = connection.execute(
        "SELECT oid::int8 FROM pg_class WHERE reltoastrelid = %s", (oid,)
    ).fetchone()
    owner = row[0] if row else oid
    state = next(
        (one for one in context.baseline.databases[database].tables.values() if one.oid == owner),
        None,
    )
    if state is None:
        return ""
    if state.vacuumed or state.changes != Changes():
        return "production wrote or vacuumed it just then"
    return (
        "empty pages at its end are in no WAL; table-content compares its rows"
        if state.content and missing <= BULK_PAGES
        else ""
    )
