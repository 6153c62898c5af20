"""Vectors: are they whole, and does the index find what an exact search finds?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.columns import FoundColumn, SearchIndex, find_columns, index_dimensions
from pgdrill.checks.exact import Floats, exact_neighbours, stream_vectors
from pgdrill.postgres.names import doubled

K = 10
TIE = 1e-5  # relative; float32 sums differ in the last bits between PostgreSQL and numpy


def _each(context: Context, ask: Callable[[psycopg.Connection, FoundColumn], Iterator[Outcome]]) -> Iterator[Outcome]:
    """Ask a question of every vector column, and say so of every configured one that is not there."""
    seen = set()
    for database in context.databases:
        with context.connect(database) as connection:
            connection.execute("SET row_security = off")
            for column in find_columns(connection, database, context.cluster):
                seen.add((column.wanted.table, column.wanted.column))
                yield from ask(connection, column)
    for wanted in context.cluster.vectors:
        if (wanted.table, wanted.column) not in seen:
            yield Outcome(context.unlike_today, f"{wanted.table}.{wanted.column}", "no such vector column", "configured in dr.toml")


@check(
    "vector-values", "vectors",
    passing="every vector has the column's dimensions and no NaN; none is NULL where NULL is not allowed",
    mend="embed the named rows again; if production has the same, allow_null says that it is meant",
    example="sales_playbooks.embedding: 2, wanted 0 NULL vectors",
)  # fmt: skip
def vector_values(context: Context) -> Iterator[Outcome]:
    """Counted by one scan of each column."""

    def ask(connection: psycopg.Connection, column: FoundColumn) -> Iterator[Outcome]:
        cell = sql.Identifier(column.column)
        row = connection.execute(
            sql.SQL(
                "SELECT count(*), count({c}), count(DISTINCT vector_dims({c})), min(vector_dims({c})),"
                # A norm is NaN or infinite exactly if an element is (or the sum overflows).
                " count(*) FILTER (WHERE {norm} IN ('NaN', 'Infinity')) FROM ONLY {t}"
            ).format(c=cell, t=column.relation, norm=_norm(column, cell))
        ).fetchone()
        total, present, kinds, dimensions, broken = row or (0, 0, 0, None, 0)
        wanted = column.dimensions
        if broken:
            yield Outcome("fail", column.name, broken, "0 vectors with NaN or infinity")
        if kinds > 1 or (wanted and dimensions not in (None, wanted)):
            yield Outcome("fail", column.name, f"{dimensions} dimensions", f"{wanted or 'one number of'} dimensions")
        if total > present and not column.wanted.allow_null:
            yield Outcome("fail", column.name, total - present, "0 NULL vectors")
        if not broken and kinds <= 1 and (total == present or column.wanted.allow_null):
            yield Outcome("pass", column.name, present, f"{wanted or dimensions or 'any'} dimensions", "vectors")

    yield from _each(context, ask)


def _norm(column: FoundColumn, cell: sql.Identifier) -> sql.Composable:
    function = "l2_norm" if column.kind == "halfvec" else "vector_norm"
    return sql.SQL("{}({})").format(sql.SQL(function), cell)


@check(
    "index-recall", "vectors",
    passing="searching through the index finds at least the configured share of the exact ten nearest neighbours",
    mend="REINDEX the named index on production and look for pgvector releases that mend index damage; then drill again",
    example="embeddings.embedding (embeddings_hnsw_idx): 0.412 (recall@10), wanted >= 0.9",
)  # fmt: skip
def index_recall(context: Context) -> Iterator[Outcome]:
    """Recall@10 against exact neighbours of stored vectors. Neighbours at equal distance count as found."""

    def ask(connection: psycopg.Connection, column: FoundColumn) -> Iterator[Outcome]:
        for index in column.indexes:
            thing = f"{column.name} ({index.name})"
            if not index.valid:
                yield Outcome("fail", thing, "invalid index", "valid")
                continue
            dimensions = index_dimensions(column, index)
            if dimensions is None:
                yield Outcome("skip", thing, message="the column does not fix its dimensions")
                continue
            found = recall(connection, column, index, dimensions)
            if found is None:
                yield Outcome("pass", thing, "empty", message="no vectors to search")
                continue
            threshold = column.wanted.min_recall_at_10
            yield Outcome("pass" if found >= threshold else "fail", thing, round(found, 4), f">= {threshold:g}",
                          "recall@10")  # fmt: skip

    yield from _each(context, ask)


def recall(connection: psycopg.Connection, column: FoundColumn, index: SearchIndex, dimensions: int) -> float | None:
    """Recall@10 of an index over stored vectors as probes; None for an empty column."""
    probes = _probes(connection, column, index, dimensions)
    if len(probes) == 0:
        return None
    every = sql.SQL("SELECT {} FROM ONLY {} WHERE {} IS NOT NULL").format(
        sql.SQL(index.expression), column.relation, sql.Identifier(column.column)
    )  # fmt: skip
    exact = exact_neighbours(stream_vectors(connection, every, index.kind, dimensions), probes, index.operator, K)
    k = min(K, exact.rows)
    hits = 0
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_sort = off")
        for probe, known in zip(probes, exact.distances[:, :k], strict=True):
            rows = connection.execute(_search(column, index), {"probe": _text(probe), "k": k}).fetchall()
            limit = float(known[-1]) + TIE * max(1.0, abs(float(known[-1])))
            hits += sum(1 for (distance,) in rows if distance is not None and distance <= limit)
    return hits / (k * len(probes))


def _probes(connection: psycopg.Connection, column: FoundColumn, index: SearchIndex, dimensions: int) -> Floats:
    """Stored vectors, the same ones at every drill of the same data."""
    query = sql.SQL(
        "SELECT v FROM (SELECT {v} AS v FROM ONLY {t} WHERE {c} IS NOT NULL ORDER BY hashtext(ctid::text) LIMIT {n}) s"
    ).format(v=sql.SQL(index.expression), t=column.relation, c=sql.Identifier(column.column),
             n=sql.Literal(column.wanted.probes))  # fmt: skip
    blocks = list(stream_vectors(connection, query, index.kind, dimensions))
    return np.concatenate(blocks) if blocks else np.empty((0, dimensions), dtype=np.float32)


def _search(column: FoundColumn, index: SearchIndex) -> sql.Composed:
    distance = sql.SQL("{} {} %(probe)s::{}").format(
        doubled(sql.SQL(index.expression)), sql.SQL(index.operator), sql.SQL(index.kind)
    )  # fmt: skip
    return sql.SQL("SELECT {d} FROM {t} ORDER BY {d} LIMIT %(k)s").format(d=distance, t=doubled(column.relation))


def _text(probe: Floats) -> str:
    return "[" + ",".join(repr(float(x)) for x in probe) + "]"


@check(
    "index-used", "vectors",
    passing="a nearest-neighbour query of the application's shape is planned through the vector index",
    mend="compare the index's operator class with the query's operator; ANALYZE; look at the planner's settings",
    example="embeddings.embedding (embeddings_hnsw_idx): index not usable, wanted index scan",
)  # fmt: skip
def index_used(context: Context) -> Iterator[Outcome]:
    """EXPLAIN with the server's own settings; an index that only a forbidden sequential scan brings out is a warning."""

    def ask(connection: psycopg.Connection, column: FoundColumn) -> Iterator[Outcome]:
        if not column.indexes and column.wanted.index_required:
            yield Outcome("warn", column.name, "no vector index", "an HNSW or IVFFlat index", "every search is a scan")
        for index in (index for index in column.indexes if index.valid):
            thing = f"{column.name} ({index.name})"
            dimensions = index_dimensions(column, index) or 1
            probe = np.ones(dimensions, dtype=np.float32)
            if index.name in _planned(connection, column, index, probe):
                yield Outcome("pass", thing, "index scan", "index scan")
            else:
                connection.execute("SET enable_seqscan = off")
                forced = index.name in _planned(connection, column, index, probe)
                connection.execute("RESET enable_seqscan")
                yield Outcome("warn" if forced else "fail", thing, "sequential scan" if forced else "index not usable",
                              "index scan", "the planner prefers a scan at this size" if forced else "")  # fmt: skip

    yield from _each(context, ask)


def _planned(connection: psycopg.Connection, column: FoundColumn, index: SearchIndex, probe: Floats) -> str:
    """The plan's index names, as text."""
    query = sql.SQL("EXPLAIN (FORMAT json) {}").format(_search(column, index))
    row = connection.execute(query, {"probe": _text(probe), "k": K}).fetchone()
    plan = row[0] if row else []
    return json.dumps(plan if not isinstance(plan, str) else json.loads(plan))
