"""Vector columns of a real server: found whatever their names, and searched exactly as PostgreSQL
itself would.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from pgdrill.config import Cluster, VectorColumn
from pgdrill.postgres.guarded import Guard
from pgdrill.postgres.row_digests import horizon
from pgdrill.vectors.columns import FoundColumn, find_columns, use_pgvector
from pgdrill.vectors.copy_stream import place_text
from pgdrill.vectors.index_search import K, distance_to, tolerance
from pgdrill.vectors.observation import Observed, observe, placed, writers
from pgdrill.vectors.snapshot import read_vectors
from pgdrill_demo.stack import Stack

EVERY = {"public.parts_1", "public.parts_2", "public.domains", "odd %s schema.T a"}
TYPES = {
    "vector": (
        "vector(6)",
        ("<->", "<#>", "<=>", "<+>"),
        ("vector_l2_ops", "vector_ip_ops", "vector_cosine_ops", "vector_l1_ops"),
    ),
    "halfvec": (
        "halfvec(6)",
        ("<->", "<#>", "<=>", "<+>"),
        ("halfvec_l2_ops", "halfvec_ip_ops", "halfvec_cosine_ops", "halfvec_l1_ops"),
    ),
    "sparsevec": (
        "sparsevec(6)",
        ("<->", "<#>", "<=>", "<+>"),
        ("sparsevec_l2_ops", "sparsevec_ip_ops", "sparsevec_cosine_ops", "sparsevec_l1_ops"),
    ),
    "bit": ("bit(6)", ("<~>", "<%>"), ("bit_hamming_ops", "bit_jaccard_ops")),
}
ELEMENTS = {
    "vector": st.one_of(
        st.sampled_from([0.0, 1.0, -1.0]),
        st.floats(-1e3, 1e3, width=32).map(lambda x: x if abs(x) > 1e-3 else 0.0),
    ),
    "halfvec": st.one_of(
        st.sampled_from([0.0, 1.0, -1.0]),
        st.floats(-100, 100, width=16).map(lambda x: x if abs(x) > 1e-2 else 0.0),
    ),
    "bit": st.sampled_from([0, 1]),
}
ELEMENTS["sparsevec"] = ELEMENTS["vector"]


@pytest.fixture
def connection(empty_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_database, autocommit=True) as made:
        made.execute("CREATE EXTENSION vector")
        yield made


def cluster(stack: Stack, *wanted: dict[str, Any]) -> Cluster:
    columns = tuple(VectorColumn.model_validate(one) for one in wanted)
    return stack.cluster.model_copy(update={"vectors": columns})


def columns(connection: psycopg.Connection, of: Cluster) -> dict[str, FoundColumn]:
    use_pgvector(connection)
    return {column.name: column for column in find_columns(connection, "scratch", of)}


def written(kind: str, elements: list[float]) -> str:
    match kind:
        case "bit":
            return "".join(str(int(x)) for x in elements)
        case "sparsevec":
            return (
                "{"
                + ",".join(f"{n}:{x}" for n, x in enumerate(elements, 1) if x)
                + f"}}/{len(elements)}"
            )
    return json.dumps(elements)


def agrees_with_postgresql(
    connection: psycopg.Connection, column: FoundColumn, seen: Observed
) -> None:
    """Every probe's neighbours against one scan each, distances to within float32, ties in any
    order.
    """
    for one in seen.searches:
        exact = one.whole.exact
        assert exact is not None or not one.probes
        for number, probe in enumerate(one.probes):
            distance = distance_to(one.search, probe)
            where = (
                sql.SQL("WHERE {}").format(sql.SQL(one.search.field.predicate))
                if one.search.field.predicate
                else sql.SQL("")
            )
            with connection.transaction(force_rollback=True):
                connection.execute("SET LOCAL enable_indexscan = off")
                rows = connection.execute(
                    sql.SQL("SELECT ctid::text, {} d FROM ONLY {} {} ORDER BY d").format(
                        distance, column.relation, where
                    )
                ).fetchall()
            theirs = {
                place: found for place, found in rows if found is not None and np.isfinite(found)
            }
            nearest = list(theirs.values())[:K]
            ours = one.whole.wanted(number)
            assert len(ours) == len(nearest)
            assert exact is not None
            squared = float(exact.probes.dense.squares[number])
            for mine, other in zip(ours, nearest, strict=True):
                assert abs(mine - other) <= 4 * tolerance(
                    one.search.operator, max(mine, other, key=abs), squared, 6
                ) + 1e-6 * abs(other)
            for place, mine in zip(exact.every.places[number], ours, strict=False):
                assert abs(theirs[place_text(int(place))] - mine) <= 4 * tolerance(
                    one.search.operator, mine, squared, 6
                ) + 1e-6 * abs(mine)


@pytest.mark.parametrize("kind", TYPES)
def test_neighbours_and_distances_are_postgresqls_own(
    connection: psycopg.Connection, stack: Stack, kind: str
) -> None:
    declared, operators, classes = TYPES[kind]
    connection.execute(f"CREATE TABLE items (v {declared})")
    for operator, opclass in zip(operators, classes, strict=True):
        connection.execute(f"CREATE INDEX ON items USING hnsw (v {opclass})")
        assert operator
    rows = st.lists(st.lists(ELEMENTS[kind], min_size=6, max_size=6), min_size=1, max_size=40)

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(made=rows, copies=st.integers(1, 3))
    def example(made: list[list[float]], copies: int) -> None:
        connection.execute("TRUNCATE items")
        values = [(written(kind, one),) for one in made] * copies
        with connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO items VALUES (%s::{declared})", [*values, (None,)])
        (column,) = columns(connection, cluster(stack)).values()
        seen = observe(connection, column, line=None, whole=True)
        assert [one.search.operator for one in seen.searches] == [*operators]
        assert seen.reading is not None
        assert (seen.reading.rows, seen.reading.nulls) == (len(values) + 1, 1)
        distinct = connection.execute(
            "SELECT count(v), count(DISTINCT v::text) FROM items"
        ).fetchone()
        assert distinct is not None
        assert seen.reading.copies.rows == distinct[0] - distinct[1]
        agrees_with_postgresql(connection, column, seen)

    example()


NAMED = (
    'CREATE SCHEMA "odd %s schema"',
    (
        'CREATE TABLE "odd %s schema"."T a" (id int, "e ""m%d" vector(8), h halfvec(4), s'
        " sparsevec(10), b bit(16), flags bit(8), m int, x vector)"
    ),
    (
        'CREATE INDEX quantized ON "odd %s schema"."T a" USING hnsw ((binary_quantize("e'
        ' ""m%d")::bit(8)) bit_hamming_ops)'
    ),
    (
        'CREATE INDEX part ON "odd %s schema"."T a" USING hnsw (("e ""m%d"::halfvec(8))'
        " halfvec_cosine_ops) WHERE m %% 2 = 1"
    ),
    (
        'CREATE INDEX head ON "odd %s schema"."T a" USING hnsw ((subvector("e ""m%d", 1,'
        " 4)::vector(4)) vector_l1_ops)"
    ),
    'CREATE INDEX jaccard ON "odd %s schema"."T a" USING hnsw (b bit_jaccard_ops) WITH (m = 8)',
    (
        'CREATE INDEX hamming ON "odd %s schema"."T a" USING ivfflat (b bit_hamming_ops) WITH'
        " (lists = 2)"
    ),
    'CREATE INDEX sparse ON "odd %s schema"."T a" USING hnsw (s sparsevec_l2_ops)',
    (
        'CREATE INDEX three ON "odd %s schema"."T a" USING hnsw ((x::vector(3)) vector_ip_ops)'
        " WHERE vector_dims(x) = 3"
    ),
    "CREATE TABLE parts (id int, v vector(4)) PARTITION BY RANGE (id)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200)",
    "CREATE INDEX ON parts USING hnsw (v vector_cosine_ops)",
    "CREATE DOMAIN meaning AS vector(5)",
    "CREATE TABLE domains (v meaning)",
)
FILLED = """
SELECT setseed(0.5);
INSERT INTO "odd %s schema"."T a"
SELECT i, ARRAY(SELECT random() - 0.5 FROM generate_series(1, 8) WHERE i > 0)::vector,
  ARRAY(SELECT random() FROM generate_series(1, 4) WHERE i > 0)::vector::halfvec,
  format('{%s:1.5,%s:2}/10', 1 + i % 4, 5 + i % 5)::sparsevec,
  (i * 37 % 65536)::bit(16), i::bit(8), i,
  ARRAY(SELECT random() FROM generate_series(1, 2 + i % 2))::vector
FROM generate_series(1, 120) i;
INSERT INTO parts SELECT i, ARRAY[i, i % 7, i % 11, 1]::vector FROM generate_series(1, 199) i;
INSERT INTO domains SELECT ARRAY[i, 1, 1, 1, i % 3]::vector FROM generate_series(1, 20) i
"""


@pytest.fixture
def named(connection: psycopg.Connection) -> psycopg.Connection:
    for statement in NAMED:
        connection.execute(statement.replace("%%", "%").encode())
    connection.execute(FILLED.encode())
    connection.execute("VACUUM ANALYZE")
    return connection


def test_columns_and_indexes_are_found_whatever_their_names_types_and_expressions(
    named: psycopg.Connection, stack: Stack
) -> None:
    found = columns(
        named,
        cluster(stack, {"table": "odd %s schema.T a", "column": "flags", "database": "scratch"}),
    )
    table = "odd %s schema.T a"
    assert {name: (column.kind, column.dimensions) for name, column in found.items()} == {
        f'{table}."e ""m%d"': ("vector", 8),
        f"{table}.h": ("halfvec", 4),
        f"{table}.s": ("sparsevec", 10),
        f"{table}.b": ("bit", 16),
        f"{table}.flags": ("bit", 8),
        f"{table}.x": ("vector", None),
        "parts_1.v": ("vector", 4),
        "parts_2.v": ("vector", 4),
        "domains.v": ("vector", 5),
    }
    indexes = {
        index.name: (
            index.method,
            index.operator,
            index.field.kind,
            index.field.dimensions,
            bool(index.field.predicate),
        )
        for column in found.values()
        for index in column.indexes
    }
    assert indexes == {
        "quantized": ("hnsw", "<~>", "bit", 8, False),
        "part": ("hnsw", "<=>", "halfvec", 8, True),
        "head": ("hnsw", "<+>", "vector", 4, False),
        "jaccard": ("hnsw", "<%>", "bit", 16, False),
        "hamming": ("ivfflat", "<~>", "bit", 16, False),
        "sparse": ("hnsw", "<->", "sparsevec", 10, False),
        "three": ("hnsw", "<#>", "vector", 3, True),
        "parts_1_v_idx": ("hnsw", "<=>", "vector", 4, False),
        "parts_2_v_idx": ("hnsw", "<=>", "vector", 4, False),
    }
    assert f"{table}.flags" not in columns(named, cluster(stack))  # bits that nobody searches


def test_every_index_is_searched_in_its_own_space_and_all_from_one_reading(
    named: psycopg.Connection, stack: Stack
) -> None:
    for column in columns(
        named,
        cluster(stack, {"table": "odd %s schema.T a", "column": "flags", "database": "scratch"}),
    ).values():
        seen = observe(named, column, line=None, whole=True)
        agrees_with_postgresql(named, column, seen)
        for one in seen.searches:
            assert len(one.probes) >= 20
            if one.search.index:
                assert one.usable, one.search
                assert one.recall is not None
                assert one.recall >= (0.3 if one.search.index.method == "ivfflat" else 0.95), (
                    one.search
                )


def test_a_column_is_remembered_without_a_vector_or_a_row_in_it(
    named: psycopg.Connection, stack: Stack
) -> None:
    with psycopg.connect(named.info.dsn, password=named.info.password) as snapshot:
        snapshot.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        states, settings_ = read_vectors(
            snapshot, cluster(stack), horizon(snapshot, "ab" * 16), EVERY, Guard(named)
        )
    assert {state.trouble for state in states.values()} == {""}
    assert settings_["hnsw.ef_search"] == "default: 40"
    kept = states["public.parts_1.v"]
    assert kept.contents is not None
    assert (kept.contents.rows, kept.contents.stable, kept.contents.sizes) == (99, 99, {4: 99})
    assert kept.contents.norms is not None
    row = named.execute(
        "SELECT min(vector_norm(v)), avg(vector_norm(v)), max(vector_norm(v)),"
        " stddev_pop(vector_norm(v)) FROM parts_1"
    ).fetchone()
    norms = kept.contents.norms
    assert row is not None
    assert np.allclose(
        [norms.lowest, norms.mean, norms.highest, norms.deviation],
        [float(x) for x in row],
        rtol=1e-6,
    )
    (search,) = kept.searches
    assert len(search.probes) == len(search.whole.neighbours) == 50
    assert search.whole.neighbours[0][0] == search.probes[0][0]  # its own nearest neighbour
    assert search.warm_ms is not None


def test_a_column_above_the_byte_budget_is_asked_through_its_index_alone(
    named: psycopg.Connection, stack: Stack
) -> None:
    with psycopg.connect(named.info.dsn, password=named.info.password) as snapshot:
        states, _ = read_vectors(
            snapshot,
            cluster(stack),
            horizon(snapshot, "ab" * 16),
            EVERY - {"public.parts_1"},
            Guard(named),
        )
    kept = states["public.parts_1.v"]
    assert kept.contents is None
    (search,) = kept.searches
    assert (search.whole.neighbours, search.whole.hits) == ([], [])
    assert [len(found) for found in search.whole.found] == [10] * 50


def test_new_rows_are_neighbours_but_not_stable_ones(
    connection: psycopg.Connection, stack: Stack
) -> None:
    connection.execute("CREATE TABLE items (v vector(2))")
    connection.execute(
        "INSERT INTO items SELECT ARRAY[i, 1]::vector FROM generate_series(1, 100) i"
    )
    connection.execute("CREATE INDEX ON items USING hnsw (v vector_l2_ops)")
    (column,) = columns(connection, cluster(stack)).values()
    with psycopg.connect(connection.info.dsn, password=connection.info.password) as snapshot:
        line = horizon(snapshot, "ab" * 16)
    before = observe(connection, column, line=line, whole=True)
    connection.execute(
        "INSERT INTO items SELECT ARRAY[i + 0.25, 1]::vector FROM generate_series(1, 100) i"
    )
    connection.execute("DELETE FROM items WHERE v <-> '[50,1]' < 0.1")
    line = line.model_copy(update={"next_xid": line.next_xid + 100})
    after = observe(
        connection,
        column,
        line=line,
        whole=True,
        remembered={"items_v_idx": [p.place for p in before.searches[0].probes]},
    )
    assert before.reading
    assert after.reading
    assert (before.reading.stable, after.reading.rows, after.reading.stable) == (100, 199, 99)
    first, again = before.searches[0].whole.exact, after.searches[0].whole.exact
    assert first
    assert again
    assert set(again.stable.places.ravel()) <= set(first.every.places.ravel()) | set(range(2**20))
    known = writers(connection, column, [*map(int, again.every.places.ravel())])
    assert all("/" in place for place in placed(again.stable, 0, known))
    assert (again.every.distances[0] <= again.stable.distances[0]).all()
    assert after.searches[0].recall is not None
    assert after.searches[0].recall >= 0.95
