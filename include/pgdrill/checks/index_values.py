"""Comparing the vectors that HNSW and IVFFlat indexes hold with those of the rows they point to.

A search through an index is ordered by the index's own copies. A copy that is not its row's shifts
neighbours a little, and recall, with its tolerance, need not show that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.columns import Look, each_indexed, indexed, let_go, to_be_indexed
from pgdrill.checks.vectors import thing_of
from pgdrill.vectors.copy_stream import place_text
from pgdrill.vectors.index_pages import COPIED, UnknownFormat
from pgdrill.vectors.observation import Searched


@check(
    "index-values",
    "search",
    passing=(
        "HNSW and IVFFlat indexes of vector and halfvec hold, to the bit, the vector of every row"
        " that they point to"
    ),
    hint=(
        "REINDEX the named index on production if it fails there too; if not, the backup is"
        " damaged: drill with an older one"
    ),
    example=(
        "items.embedding (items_hnsw): 1, wanted 0 other vectors than the rows', of 4000, first at"
        " (88,3)"
    ),
)
def index_values(context: Context) -> Iterator[Outcome]:
    """Compare the vectors in each index's pages with the rows' vectors, to the bit.

    The pages are read as by ``index-coverage``. Under cosine, vectors are kept normalized, and are
    compared after SQL's own function has normalized the rows' vectors.
    """
    yield from each_indexed(context, _compared)


def _rights(error: Exception, database: str, connection: psycopg.Connection) -> str:
    """Return the rights that a role of somebody else's server lacks to have the pages read.

    The text is empty where another error than a missing right kept the pages from being read. None
    of the rights lets the role read files that are not the server's.
    """
    if not isinstance(error, psycopg.errors.InsufficientPrivilege):
        return ""
    role = sql.Identifier(connection.info.user).as_string(connection)
    return (
        f"to have them read, as a superuser in database {database} of that server: `GRANT"
        f" pg_checkpoint TO {role}`, `GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint,"
        f" bigint) TO {role}`"
    )


def _compared(look: Look, one: Searched) -> Outcome:
    search, thing = one.search, thing_of(look, one)
    assert search.index is not None  # noqa: S101 - the caller has looked
    if search.field.kind not in COPIED:
        return Outcome(
            "skip",
            thing,
            message=f"not covered: the pages of {search.field.kind} indexes are not read",
            required=False,
        )
    if look.column.table_bytes > look.context.cluster.drill.baseline_table_bytes:
        return Outcome(
            "skip", thing, message="not covered: too large to read its pages", required=False
        )
    with look.context.connect(look.column.database) as connection:
        connection.execute("SET row_security = off")
        try:
            index = indexed(look, search)
        except (psycopg.errors.InsufficientPrivilege, UnknownFormat) as error:
            why = f"not covered: its pages cannot be read: {str(error).strip()[:200]}"
            return Outcome(
                "skip",
                thing,
                message=why,
                required=False,
                hint=_rights(error, look.column.database, connection),
            )
        rows = to_be_indexed(connection, look, search)
    let_go(look, search)  # index-coverage, which needs them too, has been asked before
    places, sums = rows.places, rows.sums
    at = np.minimum(np.searchsorted(places, index.places), max(len(places) - 1, 0))
    there = places[at] == index.places if len(places) else np.zeros(len(index.places), dtype=bool)
    wrong, compared = index.places[there][index.sums[there] != sums[at[there]]], int(there.sum())
    if len(wrong):
        return Outcome(
            "fail",
            thing,
            len(wrong),
            "0 other vectors than the rows'",
            f"of {compared}, first at {place_text(int(wrong.min()))}",
        )
    return Outcome("pass", thing, compared, "the rows' own vectors", "to the bit")
