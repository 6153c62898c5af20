"""The figures that vector indexes were built with, compared with production's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import psycopg
from psycopg import sql

from pgdrill.baseline.built import INDEXES, PAGE_BYTES, Figures, figures, wanted
from pgdrill.checks.base import Context, Outcome, not_asked
from pgdrill.postgres.relation_names import joined


def built_otherwise(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each index that was not built as the backup's record says.

    An index that was built as its own options do gives none, either. Options that were changed and
    not yet applied are production's business. An index that was made anew since the backup follows
    its options.
    """
    for database in context.databases if context.prepare else ():
        recorded = context.built.get(database, {})
        with context.system(database) as connection:
            for oid, schema, name, method, options, path in connection.execute(INDEXES).fetchall():
                thing = f"{database}: {joined(schema, name)}"
                found = _found(connection, method, path)
                then = recorded.get(oid)
                by_options = wanted(method, options)
                if found is None or found in (then, by_options):
                    continue  # other checks read the pages of a damaged index
                if then is None:
                    yield not_asked(
                        thing,
                        f"built with {_shown(found)}, and how production's was built is in no"
                        " record of the backup",
                    )
                else:
                    yield Outcome(
                        "fail",
                        thing,
                        f"built with {_shown(found)}",
                        f"{_shown(then)}, as on production",
                    )


def _found(connection: psycopg.Connection, method: str, path: str) -> Figures | None:
    query = sql.SQL("SELECT pg_read_binary_file({}, 0, {}, true)").format(
        sql.Literal(path), sql.Literal(PAGE_BYTES)
    )
    for checkpointed in (False, True):
        row = connection.execute(query).fetchone()
        if told := figures(method, bytes(row[0]) if row and row[0] else b""):
            return told
        if not checkpointed:
            connection.execute("CHECKPOINT")
    return None


def _shown(told: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in told.items())
