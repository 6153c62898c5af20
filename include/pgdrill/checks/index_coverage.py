"""Secondary questions about vector search, asked after the clock has stopped.

Does an index hold every row, and how fast is it?
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.built import built_otherwise
from pgdrill.checks.columns import Look, each_indexed, indexed, not_seen, seen, to_be_indexed
from pgdrill.checks.outlived import ENDED, asked_once
from pgdrill.checks.vectors import searches, thing_of
from pgdrill.postgres.server_words import words_of
from pgdrill.vectors.chance import at_least, share_of
from pgdrill.vectors.columns import Search
from pgdrill.vectors.copy_stream import place_text
from pgdrill.vectors.heap import first_versions
from pgdrill.vectors.index_pages import UnknownFormat
from pgdrill.vectors.index_search import distance_to, through_index
from pgdrill.vectors.observation import Searched, warm_ms
from pgdrill.vectors.probes import Probe, choose, fetch
from pgdrill.vectors.recall import wilson
from pgdrill.vectors.types import Integers

TRIED = 200
TRACED = 20_000  # at most so many missing rows are looked up in the table's pages
FAR = 100  # rows that each search asks for: copies of a vector may stand before it
WIDELY = {"hnsw.ef_search": "1000", "ivfflat.probes": "32768"}
UNREACHABLE = 0.01  # an HNSW graph may lose sight of some rows without any damage
SLOWER, SLOWER_MS = 3.0, 5.0


@check(
    "index-coverage",
    "search",
    passing=(
        "HNSW and IVFFlat indexes point to every row that has a vector, by their pages; where those"
        " cannot be read, sampled rows are found by their own vector; each was built with"
        " production's figures (lists; m, ef_construction)"
    ),
    hint=(
        "REINDEX the named index: a search never finds the rows that it lacks, and finds others"
        " with other figures"
    ),
    example="items.embedding (items_hnsw): 12 rows not in the index, wanted 0, first at (88,3)",
)
def index_coverage(context: Context) -> Iterator[Outcome]:
    """Check that each vector index points to every row that has a vector.

    A row that was updated in place is in the index by its first version. The table's own pages tell
    which that is.
    """
    yield from each_indexed(context, _covered)
    yield from built_otherwise(context)


def _covered(look: Look, one: Searched) -> Outcome:
    column, search, thing = look.column, one.search, thing_of(look, one)
    with look.context.connect(column.database) as connection:
        connection.execute("SET row_security = off")
        if column.table_bytes <= look.context.cluster.drill.baseline_table_bytes:
            try:
                places = indexed(look, search).places
            except (psycopg.errors.InsufficientPrivilege, UnknownFormat) as error:
                return _sampled(
                    connection, look, one, f"its pages cannot be read: {str(error).strip()[:200]}"
                )
            rows = to_be_indexed(connection, look, search).places
            missing = rows[~np.isin(rows, places)]
            tried = _some(missing)
            lost = _lacking(connection, look, search, tried, places)
            if lost:
                most = (
                    f"{len(lost)} of {len(tried)} tried"
                    if len(missing) > len(tried)
                    else f"{len(lost)}"
                )
                return Outcome(
                    "fail",
                    thing,
                    f"{most} rows not in the index",
                    "0 rows",
                    f"of {len(rows)}; first at {lost[0]}",
                )
            return Outcome(
                "pass", thing, len(rows), "every row that has a vector", "in the index's pages"
            )
        return _sampled(connection, look, one, "too large to read its pages")


def _some(missing: Integers) -> Integers:
    if len(missing) <= TRACED:
        return missing
    return np.sort(np.array(random.Random(len(missing)).sample(missing.tolist(), TRACED)))  # noqa: S311 - a sample


def _lacking(
    connection: psycopg.Connection, look: Look, search: Search, missing: Integers, places: Integers
) -> list[str]:
    """Return the places of the missing rows that the index really lacks.

    ``missing`` are rows whose place the index does not hold. Left out are those whose first
    version's place it holds, and those whose vector has no direction.
    """
    if not len(missing):
        return []
    with look.context.system(look.column.database) as system:
        firsts = first_versions(system, look.column.oid, map(int, missing))
    known = set(places.tolist()) if firsts else set()
    lost = [place_text(place) for place, first in sorted(firsts.items()) if first not in known]
    return (
        [probe.ctid for probe in fetch(connection, look.column, search.field, lost)] if lost else []
    )


def _not_found(
    connection: psycopg.Connection, look: Look, search: Search, probes: list[Probe]
) -> list[str]:
    """Return the places of the probes that searching far for their own vector does not bring."""
    lost = []
    with through_index(connection):
        for setting, value in WIDELY.items():
            connection.execute("SELECT set_config(%s, %s, true)", (setting, value))
        for probe in probes:
            distance = distance_to(search, probe)
            where = (
                sql.SQL("WHERE {}").format(sql.SQL(search.field.predicate))
                if search.field.predicate
                else sql.SQL("")
            )
            found = connection.execute(
                sql.SQL(
                    "SELECT ctid::text, {d}, {v} {o} {v} FROM ONLY {t} {w} ORDER BY {d} LIMIT {k}"
                ).format(
                    d=distance,
                    v=sql.SQL(search.field.expression),
                    o=search.measured_by,
                    t=look.column.relation,
                    w=where,
                    k=sql.Literal(FAR),
                )
            ).fetchall()
            crowd = len(found) == FAR and abs(found[-1][1] - found[0][1]) <= 1e-6 * max(
                1.0, abs(found[0][1])
            )
            if probe.ctid not in {row[0] for row in found} and not crowd:
                lost.append(probe.ctid)
    return lost


def _sampled(connection: psycopg.Connection, look: Look, one: Searched, why: str) -> Outcome:
    """Return the outcome of searching for sampled rows through the index.

    It is a failure only where chance does not explain the rows that were not found, given how many
    a healthy graph may lose sight of.
    """
    key = look.database.horizon.key if look.database else ""
    probes = choose(connection, look.column, one.search.field, TRIED, key) or one.probes
    if not probes:
        return Outcome("pass", thing_of(look, one), "empty", message="no vectors to search for")
    lost = _not_found(connection, look, one.search, probes)
    surely = at_least(len(lost), len(probes), UNREACHABLE) <= share_of(searches(look.context))
    return Outcome(
        "fail" if surely else "warn" if lost else "pass",
        thing_of(look, one),
        f"{len(lost)} of {len(probes)} rows not found",
        f"<= {UNREACHABLE:.0%}, beyond what chance explains",
        f"sampled, {why}; at most {wilson(len(lost), len(probes))[1]:.1%}"
        f" missing{f', first at {lost[0]}' if lost else ''}",
    )


@check(
    "search-latency",
    "search",
    required=False,
    passing=(
        "searches through the index, warm, take no more than three times what they take on"
        " production (or five milliseconds more)"
    ),
    hint=(
        "compare memory, storage and settings of the two servers; pg_prewarm the index after a real"
        " restore"
    ),
    example="items.embedding (items_hnsw): 48.0 ms warm, 210.0 ms cold, wanted <= 9.0 ms warm",
)
def search_latency(context: Context) -> Iterator[Outcome]:
    """Measure warm searches and compare them with production's.

    This is never a failure: a drill host is not production. Cold is the first search after the
    restore, before prewarming.
    """
    first = context.cache.cold_ms
    yield from not_seen(context)
    for look, column in seen(context):
        states = {one.index: one for one in look.state.searches} if look.state else {}
        with context.connect(look.column.database) as connection:
            for one in column.searches:
                try:
                    with asked_once(context, look.column.database, look.column.oid):
                        warm = warm_ms(connection, one, look.column)
                except ENDED as error:
                    yield Outcome(
                        "skip", thing_of(look, one), message=f"not measured: {words_of(error)}"
                    )
                    break
                if warm is None or one.search.index is None:
                    continue
                cold = first.get((look.column.database, one.search.index.oid))
                before = states.get(one.search.name)
                then = before.warm_ms if before else None
                most = None if then is None else max(SLOWER * then, then + SLOWER_MS)
                yield Outcome(
                    "warn" if most is not None and warm > most else "pass",
                    thing_of(look, one),
                    f"{warm:.1f} ms warm" + (f", {cold:.1f} ms cold" if cold is not None else ""),
                    f"<= {most:.1f} ms warm" if most is not None else "",
                    "" if then is None else f"{then:.1f} ms on production",
                )
