"""Searching a column as applications do, through its index.

It tells what is found, how the search is planned, and how long it takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from pgdrill.vectors.columns import FoundColumn, Search
from pgdrill.vectors.exact_search import EPSILON
from pgdrill.vectors.probes import Probe

K = 10
Found = list[float]
"""Distances, ascending, as PostgreSQL computes them."""


def distance_to(search: Search, probe: Probe) -> sql.Composed:
    """Return the ORDER BY expression of a search for a probe."""
    # a bare bit is one bit
    size = sql.SQL(f"({len(probe.text)})" if search.field.kind == "bit" else "")
    return sql.SQL("{} {} {}::{}{}").format(
        sql.SQL(search.field.expression),
        search.measured_by,
        sql.Literal(probe.text),
        search.type,
        size,
    )


def query(
    column: FoundColumn, search: Search, probe: Probe, k: int = K, *, filtered: bool = False
) -> sql.Composed:
    """Return a query of the application's shape: nearest first, so many.

    It has literals and no parameters: names may hold a percent sign.
    """
    field = search.field
    distance = distance_to(search, probe)
    conditions = [sql.SQL("({})").format(sql.SQL(field.predicate))] if field.predicate else []
    if filtered and column.filter:
        conditions.append(
            sql.SQL("{} = {}").format(
                sql.Identifier(column.filter.column), sql.Literal(probe.group)
            )
        )
    where = (
        sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions))
        if conditions
        else sql.SQL("")
    )
    return sql.SQL("SELECT {d} FROM ONLY {t}{where} ORDER BY {d} LIMIT {k}").format(
        d=distance, t=column.relation, where=where, k=sql.Literal(k)
    )


@contextmanager
def through_index(connection: psycopg.Connection) -> Iterator[None]:
    """Allow only a plan without sequential scan and sort, where there is one, inside this block.

    So small tables are searched by their index, too.
    """
    with connection.transaction(force_rollback=True):
        for setting in ("enable_seqscan", "enable_sort", "enable_bitmapscan"):
            connection.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(setting)))
        yield


def search_all(
    connection: psycopg.Connection,
    column: FoundColumn,
    search: Search,
    probes: Sequence[Probe],
    *,
    filtered: bool = False,
) -> list[Found]:
    """Return the distances found for each probe."""
    asked = (query(column, search, probe, filtered=filtered) for probe in probes)
    return [
        [row[0] for row in connection.execute(one).fetchall() if row[0] is not None]
        for one in asked
    ]


def plan(
    connection: psycopg.Connection, asked: sql.Composable, *, run: bool = False
) -> tuple[set[str], float]:
    """Return the indexes in a query's plan and, where it is ``run``, its milliseconds.

    The time is the server's.
    """
    how = sql.SQL("EXPLAIN ({}FORMAT json) {}").format(
        sql.SQL("ANALYZE, TIMING off, " if run else ""), asked
    )
    row = connection.execute(how).fetchone()
    explained = row[0] if row else []
    if isinstance(explained, str):
        explained = json.loads(explained)
    return set(_indexes(explained)), float(
        explained[0].get("Execution Time", 0.0)
    ) if explained else 0.0


def _indexes(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "Index Name" in node:
            yield node["Index Name"]
        for value in node.values():
            yield from _indexes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _indexes(value)


def tolerance(operator: str, distance: float, probe_squared: float, dimensions: int) -> float:
    """Return how far PostgreSQL's float32 sums may be from the distance.

    With it, equal distances count as equal.
    """
    scale = {"<~>": 0.0, "<=>": 1.0, "<%>": 1.0, "<#>": max(abs(distance), probe_squared)}.get(
        operator, abs(distance)
    )
    return float(EPSILON * (4 + dimensions**0.5) * scale)


def hits(
    found: Found, exact: Sequence[float], operator: str, probe_squared: float, dimensions: int
) -> int:
    """Return how many of the exact nearest a search found.

    Whatever is as near as the farthest of them counts as one of them.
    """
    if not exact:
        return 0
    farthest = exact[-1]
    limit = farthest + tolerance(operator, farthest, probe_squared, dimensions)
    return min(len(exact), sum(1 for distance in found if distance <= limit))
