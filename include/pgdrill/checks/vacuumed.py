"""An index that production vacuumed, or made anew, right after the restore point.

Searches meet dead rows until a VACUUM takes them out of the index. Production's index is searched a
moment after the restore point, and may be rid of them by then. So the restored one is vacuumed,
too, before it is said to find less.
"""

from __future__ import annotations

import logging

import psycopg
from psycopg import sql

from pgdrill.checks.columns import Look
from pgdrill.postgres.server_words import words_of
from pgdrill.vectors.model import SearchState
from pgdrill.vectors.observation import Searched, search_again

logger = logging.getLogger(__name__)

# The index alone is wanted; what VACUUM runs with is its own, as the table's owner.
VACUUM = "VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) {}"


def was_tidied(look: Look, before: SearchState) -> bool:
    """Return True if production may have rid an index of dead rows after the restore point."""
    look.changes()  # settles the counters
    return before.made_anew or (look.table is not None and look.table.vacuumed)


def searched_when_vacuumed(look: Look, one: Searched) -> Searched | None:
    """Vacuum the restored table, and search through the index again.

    None where the cluster is not our own, or VACUUM did not work.
    """
    context, index = look.context, one.search.index
    if context.prepare is None or index is None:
        return None
    key = (look.column.database, index.oid)
    if key not in context.cache.vacuumed:
        context.cache.vacuumed[key] = _searched(look, one)
    return context.cache.vacuumed[key]


def _searched(look: Look, one: Searched) -> Searched | None:
    context, column = look.context, look.column
    assert context.prepare is not None  # noqa: S101 - the caller has looked
    limit = int(context.cluster.drill.statement_timeout_seconds * 1000)
    try:
        with context.prepare(column.database) as connection:
            connection.autocommit = True
            connection.execute(f"SET statement_timeout = {limit}")
            connection.execute(sql.SQL(VACUUM).format(column.relation))
        with context.connect(column.database) as connection:
            connection.execute("SET row_security = off")
            return search_again(connection, column, one)
    except psycopg.Error as error:
        logger.warning("%s was not searched again: %s", look.name, words_of(error))
        return None
