"""Page checksums: is every page as it was written?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.integrity.relations import (
    PREWARM,
    Relation,
    each,
    made_extension,
    opened,
    relations,
    without,
)
from pgdrill.postgres.checksums import computes_none, switch_on


@check(
    "page-checksums",
    "integrity",
    passing=(
        "every page of every relation, index pages and maps among them, is read without a checksum"
        " failure"
    ),
    hint=(
        "the named relation is damaged in the backup or was on production: run amcheck or a full"
        " scan there; REINDEX an index"
    ),
    example=(
        "agents.things_btree: DataCorrupted (invalid page in block 3 of relation"
        ' "base/16385/19002"), wanted no error'
    ),
)
def page_checksums(context: Context) -> Iterator[Outcome]:
    """Read every page with pg_prewarm, through the server's buffers.

    That is where PostgreSQL compares checksums.
    """
    for database in context.databases:
        with opened(context, database) as connection:
            extension = made_extension(context, connection, "pg_prewarm")
            read = extension.call("pg_prewarm", *PREWARM) if extension else None
            if read is None:
                yield without(context, database, "pg_prewarm")
                continue
            query = sql.SQL(
                "SELECT sum({}(oid::regclass, 'buffer'::text, fork, NULL::int8, NULL::int8)) FROM"
                " unnest(%s::oid[]) oid, unnest(ARRAY['main', 'fsm', 'vm']) fork WHERE"
                " pg_relation_size(oid::regclass, fork) > 0"
            ).format(read)

            def ask(
                relation: Relation,
                connection: psycopg.Connection = connection,
                query: sql.Composed = query,
            ) -> None:
                connection.execute(query, ([relation.oid],))

            def sound(
                some: list[Relation],
                connection: psycopg.Connection = connection,
                query: sql.Composed = query,
            ) -> bool:
                connection.execute(query, ([relation.oid for relation in some],))
                return True

            every = relations(connection)
            if computes_none(connection):
                server = context.cluster.server
                yield Outcome(
                    "warn",
                    database,
                    "no checksums",
                    "data_checksums = on",
                    "pages are only as proved as amcheck, searches and content prove them",
                    "nothing is damaged: production computes none;"
                    f" {switch_on(server.bin_dir, server.data_directory)}",
                )
                yield from (
                    o
                    for o in each(context, connection, database, every, "", ask, sound)
                    if o.status != "pass"
                )
            else:
                yield from each(
                    context, connection, database, every, "every page has its checksum", ask, sound
                )
