"""Looking at a vector column, the same way on production and on the restored cluster."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
import psycopg
from psycopg import sql

from pgdrill.postgres.row_digests import Horizon
from pgdrill.vectors.columns import FoundColumn, Search, cell_of, searches
from pgdrill.vectors.copy_stream import Field, place_text
from pgdrill.vectors.exact_search import Nearest, Probes
from pgdrill.vectors.index_search import Found, K, hits, plan, query, search_all, through_index
from pgdrill.vectors.probes import Probe, choose, fetch, values_of
from pgdrill.vectors.scan import Question, Reading, read

FILTERED_PROBES = 10
TIMED_PROBES = 20


@dataclass
class Asked:
    """Probes asked of a column: exactly, and through the index where there is one."""

    exact: Question | None  # None: the column was not read
    found: list[Found] = field(default_factory=list)

    def wanted(self, number: int) -> list[float]:
        """Return the exact distances of a probe's neighbours."""
        if self.exact is None:
            return []
        distances = self.exact.every.distances[number]
        return [float(distance) for distance in distances[np.isfinite(distances)]]

    def hits(self, number: int) -> int:
        """Return how many of a probe's exact neighbours the index found."""
        return self.hits_of(number, self.found[number]) if self.found else 0

    def hits_of(self, number: int, found: Found) -> int:
        """Return how many of a probe's exact neighbours are among another index's distances."""
        if self.exact is None:
            return 0
        probes = self.exact.probes
        squared = float(probes.dense.squares[number])
        return hits(
            found, self.wanted(number), probes.operator, squared, self.exact.searched.dimensions
        )


@dataclass
class Searched:
    """A search of a column with its probes."""

    search: Search
    probes: list[Probe]
    whole: Asked
    filtered: Asked | None
    used: bool = False  # the planner takes the index of its own accord
    usable: bool = False  # the planner takes it where a scan and a sort are forbidden
    instead: str = ""  # another vector index of the column that the planner takes then

    @property
    def recall(self) -> float | None:
        """The share of exact neighbours found; None where there is nothing to find."""
        wanted = sum(len(self.whole.wanted(number)) for number in range(len(self.probes)))
        if not wanted or not self.whole.found:
            return None
        return sum(self.whole.hits(number) for number in range(len(self.probes))) / wanted


@dataclass
class Observed:
    """A column as it was seen."""

    column: FoundColumn
    cell: Field
    reading: Reading | None  # None where the column was not read whole
    searches: list[Searched]
    read_seconds: float = 0.0
    search_seconds: float = 0.0  # of all searches


def observe(
    connection: psycopg.Connection,
    column: FoundColumn,
    *,
    line: Horizon | None,
    whole: bool,
    remembered: Mapping[str, Sequence[str]] | None = None,
) -> Observed:
    """Read the column once for the exact neighbours of all probes, then search for them.

    It is read where ``whole``, and searched through each index. Probes are those that stand at the
    ``remembered`` places of a search, or are drawn anew where none of them is left.
    """
    cell = cell_of(connection, column)
    key = line.key if line else ""
    seen = []
    for search in searches(connection, column) if cell.dimensions else []:
        places = (remembered or {}).get(search.name, ())
        probes = (
            fetch(connection, column, search.field, [place.partition("/")[0] for place in places])
            if places
            else []
        )
        probes = [probe for probe in probes if probe.place in set(places)]
        probes = probes or choose(connection, column, search.field, column.wanted.probes, key)
        seen.append(_prepared(column, search, probes))
    started = time.monotonic()
    reading = (
        read(
            connection,
            column,
            cell,
            [
                asked.exact
                for one in seen
                for asked in (one.whole, one.filtered)
                if asked and asked.exact
            ],
            line,
        )
        if whole
        else None
    )
    read_at = time.monotonic()
    for one in seen:
        if not whole:
            one.whole.exact = None
            one.filtered = None
        if one.search.index and one.probes:
            _through_index(connection, column, one)
    return Observed(column, cell, reading, seen, read_at - started, time.monotonic() - read_at)


def _prepared(column: FoundColumn, search: Search, probes: list[Probe]) -> Searched:
    values = values_of(search.field, probes)
    if values is None:
        return Searched(search, [], Asked(None), None)
    filtered = None
    grouped = [
        number for number, probe in enumerate(probes[:FILTERED_PROBES]) if probe.group is not None
    ]
    if column.filter and len(grouped) == min(len(probes), FILTERED_PROBES):
        groups = np.array([probe.group_hash for probe in probes[:FILTERED_PROBES]], dtype=np.int64)
        part = values_of(search.field, probes[:FILTERED_PROBES])
        assert part is not None  # noqa: S101 - there are probes
        filtered = Asked(Question(search.field, Probes(part, search.operator, K, groups)))
    return Searched(
        search, probes, Asked(Question(search.field, Probes(values, search.operator, K))), filtered
    )


def _through_index(connection: psycopg.Connection, column: FoundColumn, one: Searched) -> None:
    first = query(column, one.search, one.probes[0])
    one.used = one.search.name in plan(connection, first)[0]
    with through_index(connection):
        planned, _ = plan(connection, first)
        one.usable = one.search.name in planned
        one.instead = (
            ""
            if one.usable
            else min(planned & {index.name for index in column.indexes}, default="")
        )
        one.whole.found = search_all(connection, column, one.search, one.probes)
    if one.filtered:
        # Planned as the application's own searches would be, because the question is whether a
        # tenant finds its rows.
        one.filtered.found = search_all(
            connection, column, one.search, one.probes[:FILTERED_PROBES], filtered=True
        )


def search_again(connection: psycopg.Connection, column: FoundColumn, one: Searched) -> Searched:
    """Search through an index with the same probes once more; the exact neighbours stand."""
    again = replace(
        one, whole=replace(one.whole), filtered=replace(one.filtered) if one.filtered else None
    )
    _through_index(connection, column, again)
    return again


def first_search_ms(
    connection: psycopg.Connection, column: FoundColumn, search: Search
) -> float | None:
    """Return the milliseconds in the server of one search for some stored vector.

    None where there is no vector.
    """
    probes = choose(connection, column, search.field, 1, "")
    if not probes:
        return None
    with through_index(connection):
        return plan(connection, query(column, search, probes[0]), run=True)[1]


def warm_ms(connection: psycopg.Connection, one: Searched, column: FoundColumn) -> float | None:
    """Return the median milliseconds, in the server, of searches that were made before."""
    if not one.search.index or not one.probes:
        return None
    with through_index(connection):
        asked = (query(column, one.search, probe) for probe in one.probes[:TIMED_PROBES])
        return median(plan(connection, each, run=True)[1] for each in asked)


def writers(
    connection: psycopg.Connection, column: FoundColumn, places: Iterable[int | str]
) -> dict[str, str]:
    """Read what stands at these places now: ctid -> ``(block,line)/xmin``."""
    ctids = [place if isinstance(place, str) else place_text(place) for place in places]
    query_ = sql.SQL(
        "SELECT ctid::text, ctid::text || '/' || xmin::text FROM ONLY {} WHERE ctid = ANY"
        " ({}::tid[])"
    )
    rows = connection.execute(
        query_.format(column.relation, sql.Literal(sorted(set(ctids))))
    ).fetchall()
    return {row[0]: row[1] for row in rows}


def placed(nearest: Nearest, number: int, known: Mapping[str, str]) -> dict[str, float]:
    """Return a probe's neighbours: ``(block,line)/xmin`` -> distance, the nearest first."""
    finite = np.isfinite(nearest.distances[number])
    pairs = zip(nearest.places[number][finite], nearest.distances[number][finite], strict=True)
    return {
        known.get(place_text(int(place)), place_text(int(place))): float(distance)
        for place, distance in pairs
    }


def places_of(one: Searched) -> set[int]:
    """Return every place that is a stable neighbour of a probe."""
    found: set[int] = set()
    for asked in (one.whole, one.filtered):
        if asked and asked.exact:
            found.update(int(place) for place in asked.exact.stable.places.ravel() if place >= 0)
    return found
