"""Searching: are indexes, settings and plans as on production?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from pgdrill.baseline import DatabaseState
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.columns import Look, not_seen, seen
from pgdrill.checks.outlived import ENDED, asked_once
from pgdrill.checks.vectors import not_known, thing_of
from pgdrill.postgres.server_words import words_of
from pgdrill.vectors.columns import SearchIndex, use_pgvector
from pgdrill.vectors.index_search import plan
from pgdrill.vectors.model import SearchState, VectorState
from pgdrill.vectors.observation import Searched
from pgdrill.vectors.probes import Probe
from pgdrill.vectors.snapshot import search_settings


@check(
    "vector-indexes",
    "vectors",
    compares=True,
    passing=(
        "every vector index of production is there and valid, of the same operator class and"
        " options, and no other has come"
    ),
    hint=(
        "make the index again as the baseline's definition says; find out why production's differs"
    ),
    example="items.embedding (items_hnsw): no such index, wanted CREATE INDEX items_hnsw ON …",
)
def vector_indexes(context: Context) -> Iterator[Outcome]:
    """Compare vector indexes by the definition that PostgreSQL gives.

    Options and predicate are included.
    """
    yield from not_seen(context)
    for look, column in seen(context):
        if look.state is None:
            yield not_known(look)
            continue
        found = {index.name: index for index in column.column.indexes}
        wrong = list(_other_indexes(look, found, look.state))
        yield from wrong or [Outcome("pass", look.name, len(found), "indexes as recorded")]


def _other_indexes(
    look: Look, found: dict[str, SearchIndex], before: VectorState
) -> Iterator[Outcome]:
    recorded = {index.name: index for index in before.indexes}
    for name in sorted(recorded.keys() | found.keys()):
        then, now = recorded.get(name), found.get(name)
        if then and now and (then.definition, then.valid) == (now.definition, now.valid):
            continue
        altered = any(one and look.altered(one.oid) for one in (then, now))
        what = (
            "no such index"
            if now is None
            else "invalid index"
            if then and then.valid and not now.valid
            else now.definition
        )
        yield Outcome(
            "warn" if altered else "fail",
            f"{look.name} ({name})",
            what,
            then.definition if then else "no such index",
            "changed on production since the baseline" if altered else "",
        )


@check(
    "search-settings",
    "vectors",
    compares=True,
    passing=(
        "hnsw.* and ivfflat.* settings, and those of roles and databases that decide how searches"
        " are planned, are production's"
    ),
    hint=(
        "ALTER DATABASE or ALTER ROLE … SET as on production; what stands in a file outside the"
        " data directory is in no backup"
    ),
    example="agents: hnsw.ef_search: default: 40, wanted database: 200",
)
def search_settings_as_recorded(context: Context) -> Iterator[Outcome]:
    """Compare the effective settings of a new session with production's.

    They decide recall and speed, and are not in any table.
    """
    for name in context.databases:
        recorded = context.baseline.databases.get(name) if context.baseline else None
        with context.connect(name) as connection:
            if not use_pgvector(connection):
                continue
            found = search_settings(connection)
        if recorded is None or not recorded.search_settings:
            yield Outcome("skip", name, message="no baseline to compare with")
        else:
            wrong = list(_other_settings(context, name, found, recorded))
            yield from wrong or [Outcome("pass", name, len(found), "settings as recorded")]


def _other_settings(
    context: Context, name: str, found: dict[str, str], recorded: DatabaseState
) -> Iterator[Outcome]:
    before = recorded.search_settings
    for setting in sorted(before.keys() | found.keys()):
        then, now = before.get(setting, "not set"), found.get(setting, "not set")
        if then == now:
            continue
        thing = f"{name}: {setting}"
        if {then.partition(":")[0], now.partition(":")[0]} <= {
            "default",
            "configuration file",
            "command line",
            "not set",
        } and ("," not in setting):
            yield Outcome(
                "warn",
                thing,
                now,
                then,
                "from a file or the version, which the backup need not hold",
            )
        elif _settings_altered(context):
            yield Outcome("warn", thing, now, then, "changed on production since the baseline")
        else:
            yield Outcome("fail", thing, now, then)


def _settings_altered(context: Context) -> bool:
    context.settle_catalogs()
    later = context.baseline.shared_objects.later if context.baseline else {}
    return any(key.startswith("pg_db_role_setting:") for key in later)


@check(
    "index-used",
    "vectors",
    passing=(
        "a nearest-neighbour query of the application's shape is planned through the vector index,"
        " or as production's planner does"
    ),
    hint=(
        "compare the index's operator class with the query's operator; ANALYZE; look at the"
        " planner's settings"
    ),
    example="items.embedding (items_hnsw): index not usable, wanted index scan",
)
def index_used(context: Context) -> Iterator[Outcome]:
    """Plan a search with EXPLAIN and the server's own settings.

    It is a warning where the index is used only if a sequential scan is forbidden.
    """
    yield from not_seen(context)
    for look, column in seen(context):
        wanted = column.column.wanted
        if not column.column.indexes:
            threshold = "an HNSW or IVFFlat index" if wanted.index_required else ""
            yield Outcome(
                "warn" if threshold else "pass",
                look.name,
                "no vector index",
                threshold,
                "every search is a scan",
            )
        states = {one.index: one for one in look.state.searches} if look.state else {}
        for one in column.searches:
            thing = thing_of(look, one)
            if one.search.index and one.probes:
                yield _planned(thing, one, states.get(one.search.name))
            elif one.search.index and column.reading and sum(column.reading.sizes.values()):
                predicate = one.search.field.predicate
                yield Outcome("warn", thing, "no row fits its predicate", "index scan", predicate)
        if wanted.query and (
            probe := next((one.probes[0] for one in column.searches if one.probes), None)
        ):
            yield _own_query(look, wanted.query, probe)


def _planned(thing: str, one: Searched, before: SearchState | None) -> Outcome:
    """How a search is planned; ``before``: how production's planner did it."""
    if one.used:
        return Outcome("pass", thing, "index scan", "index scan")
    if one.usable and before and not before.used:
        return Outcome(
            "pass",
            thing,
            "another plan",
            "the plan that production's planner prefers",
            "the index can be used",
        )
    if one.usable:
        message = (
            "production's planner takes it"
            if before
            else "the planner prefers another plan at this size"
        )
        return Outcome("warn", thing, "another plan", "index scan", message)
    if one.instead:
        return Outcome(
            "warn",
            thing,
            "another index",
            "index scan",
            f"{one.instead} answers for it: one of them is too many",
        )
    return Outcome("fail", thing, "index not usable", "index scan")


def _own_query(look: Look, query: str, probe: Probe) -> Outcome:
    """Plan the application's own query as it would send it: prepared, the vector a parameter."""
    thing = f"{look.name} (query in dr.toml)"
    with look.context.connect(look.column.database) as connection:
        try:
            connection.execute(
                sql.SQL("PREPARE pgdrill_search ({}) AS {}").format(
                    sql.SQL(look.column.kind), sql.SQL(query)
                )
            )
            with asked_once(look.context, look.column.database, look.column.oid):
                found, _ = plan(
                    connection,
                    sql.SQL("EXECUTE pgdrill_search ({})").format(sql.Literal(probe.text)),
                )
        except ENDED as error:
            return Outcome("skip", thing, message=f"could not be planned: {words_of(error)}")
        except psycopg.Error as error:
            return Outcome(
                look.context.unlike_today,
                thing,
                type(error).__name__,
                "a plan",
                str(error).strip()[:300],
            )
    used = found & {index.name for index in look.column.indexes}
    return Outcome(
        "pass" if used else "fail", thing, ", ".join(sorted(found)) or "no index", "a vector index"
    )
