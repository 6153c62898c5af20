"""Damage to vectors, to the indexes that search them and to what filters the search is found, and
the column named.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import psycopg

from pgdrill.baseline import Baseline, Changes, TableState
from pgdrill.checks import Context, run_checks
from pgdrill.checks.runner import checking
from pgdrill.config import VectorColumn
from pgdrill.postgres.guarded import Guard
from pgdrill.postgres.row_digests import horizon
from pgdrill.reports.model import CheckResult
from pgdrill.vectors.snapshot import read_vectors
from pgdrill_demo.stack import DATABASE
from tests.detection.conftest import STATEMENT_SECONDS, Copy
from tests.detection.test_integrity import rewrite

FAMILIES = ("vectors", "search")
QUIET = "SET session_replication_role = replica"
PAGE = 8192


def remember(copy: Copy, **columns: dict[str, object]) -> tuple[Baseline, Copy]:
    """A baseline of the copy's vector columns as they are now; ``columns``: thresholds by table, of
    its column ``v``.
    """
    wanted = tuple(
        VectorColumn.model_validate({"table": table, "column": "v", **keys})
        for table, keys in columns.items()
    )
    stack = copy.mould.stack
    cluster = stack.cluster.model_copy(update={"vectors": (*stack.cluster.vectors, *wanted)})
    baseline = copy.mould.baseline.model_copy(deep=True)
    state = baseline.databases[DATABASE]
    words = copy.server.conninfo(DATABASE)
    with psycopg.connect(words) as connection, psycopg.connect(words, autocommit=True) as catalogs:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        state.horizon = horizon(connection, "ab" * 16)
        state.vectors, state.search_settings = read_vectors(
            connection, cluster, state.horizon, whole=every_table(connection), guard=Guard(catalogs)
        )
    for key in state.vectors:
        state.tables.setdefault(key.rpartition(".")[0], _table(Changes()))
    return baseline, copy


def every_table(connection: psycopg.Connection) -> set[str]:
    return {
        row[0]
        for row in connection.execute(
            "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class"
        ).fetchall()
    }


def _table(changes: Changes | None) -> TableState:
    return TableState(
        content=None,
        oid=0,
        bytes=0,
        filenode=0,
        estimated_rows=0,
        counters=Changes(),
        changes=changes,
    )


def ask(
    copy: Copy, baseline: Baseline | None, *families: str, **columns: dict[str, object]
) -> list[CheckResult]:
    """The checks' answers beside that baseline."""
    wanted = tuple(
        VectorColumn.model_validate({"table": table, "column": "v", **keys})
        for table, keys in columns.items()
    )
    cluster = copy.mould.stack.cluster
    context = Context(
        cluster=cluster.model_copy(update={"vectors": (*cluster.vectors, *wanted)}),
        connect=checking(
            lambda name: copy.server.connect(name, autocommit=False), STATEMENT_SECONDS
        ),
        databases=(DATABASE,),
        baseline=baseline,
        settle=lambda: True,
    )
    return list(run_checks(context, families or FAMILIES))


def red(results: list[CheckResult]) -> dict[str, str]:
    """The failing checks, each with all it says."""
    found: dict[str, str] = {}
    for result in results:
        if result.status == "fail":
            found[result.name] = (
                f"{found.get(result.name, '')}{result.thing}: {result.value} ({result.threshold})"
                f" {result.message}; "
            )
    return found


Change = Callable[[np.ndarray], None]


def swap(rows: np.ndarray) -> None:
    rows[[3, 9]] = rows[[9, 3]]


def turn(rows: np.ndarray) -> None:
    rows[:] = np.roll(rows, 1, axis=1)


def put(value: object, row: int = 7) -> Change:
    def change(rows: np.ndarray) -> None:
        rows[row] = value

    return change


IN_PLACE: dict[str, Change] = {
    "swapped": swap,
    "rotated": turn,
    "zeroed": put(0),
    "broken": put(np.nan),
    "scaled": lambda rows: np.multiply(rows, 2, out=rows),
    "negated": lambda rows: np.negative(rows[11], out=rows[11]),
    "other_model": lambda rows: rows.__setitem__(
        slice(0, 40), np.random.default_rng(7).normal(size=(40, 16))
    ),
}


def test_vectors_changed_at_their_places_are_found_though_no_row_moved(copy: Copy) -> None:
    """Pages with right checksums, rows with their old transaction numbers: other vectors."""
    copy.sql("CREATE EXTENSION IF NOT EXISTS pageinspect")
    for kind in IN_PLACE:
        copy.sql(
            f"CREATE TABLE {kind} (id int, v vector(16))",
            f"INSERT INTO {kind} SELECT i, ARRAY(SELECT random() - 0.5 FROM generate_series(1, 16)"
            " WHERE i > 0)::vector FROM generate_series(1, 90) i",
            f"CREATE INDEX {kind}_hnsw ON {kind} USING hnsw (v vector_l2_ops)",
            f"VACUUM (FREEZE) {kind}",
        )
    baseline, _ = remember(copy)
    assert red(ask(copy, baseline)) == {}
    for kind, change in IN_PLACE.items():
        rewrite(copy, kind, lambda pages, change=change: edited(pages, change))
    found = red(ask(copy, baseline))
    assert [kind for kind in IN_PLACE if f"{kind}.v" not in found["vector-content"]] == [], found
    assert "broken.v: 1 (0 vectors with NaN" in found["vector-values"], found
    assert "zeroed.v: 1 (0 vectors of zeros" in found["vector-values"], found
    # 50 of 90 rows are probes, and all are neighbours
    for kind in ("swapped", "rotated", "scaled", "negated", "other_model"):
        assert f"{kind}.v" in found["exact-neighbours"], found
    assert "rotated.v" in found["index-recall"], found  # the index has its own copy of the vectors


def test_a_wrong_neighbour_is_found_though_no_probe_changed(copy: Copy) -> None:
    copy.sql(
        "CREATE TABLE near (id int, v vector(16))",
        "CREATE EXTENSION IF NOT EXISTS pageinspect",
        "INSERT INTO near SELECT i, ARRAY(SELECT random() - 0.5 FROM generate_series(1, 16) WHERE i"
        " > 0)::vector FROM generate_series(1, 90) i",
        "VACUUM (FREEZE) near",
    )
    baseline, _ = remember(copy)
    (search,) = baseline.databases[DATABASE].vectors["public.near.v"].searches
    probes = {place.partition("/")[0] for place, _ in search.probes}
    places = str(copy.one("SELECT string_agg(ctid::text, ' ' ORDER BY ctid) FROM near")).split()
    probe = places.index(min(probes))
    other = next(row for row, place in enumerate(places) if place not in probes)
    rewrite(
        copy, "near", lambda pages: edited(pages, lambda rows: rows.__setitem__(other, rows[probe]))
    )
    assert "near.v" in red(ask(copy, baseline, "vectors"))["exact-neighbours"]


def edited(pages: list[bytes], change: Change) -> list[bytes]:
    """Change the vectors of all pages as one matrix, each row where it is."""
    places = [(number, at) for number, page in enumerate(pages) for at in _vectors(page)]
    rows = np.array(
        [np.frombuffer(pages[number], "<f4", 16, at) for number, at in places], dtype=np.float32
    )
    change(rows)
    made = [bytearray(page) for page in pages]
    for (number, at), row in zip(places, rows, strict=True):
        made[number][at : at + 64] = row.tobytes()
    return [bytes(page) for page in made]


def _vectors(page: bytes) -> list[int]:
    """Where the elements of each row's vector(16) begin: after the header, an int, a short varlena
    header and the dimensions.
    """
    lower = struct.unpack_from("<H", page, 12)[0]
    offsets = [struct.unpack_from("<I", page, at)[0] & 0x7FFF for at in range(24, lower, 4)]
    found = []
    for offset in offsets:
        data = offset + page[offset + 22] + 4
        at = data + (1 if page[data] & 1 else 4)
        assert struct.unpack_from("<HH", page, at) == (16, 0)
        found.append(at + 4)
    return found


STATEMENTS = {
    "two swapped": (
        (
            "WITH two AS (SELECT id, embedding, row_number() OVER (ORDER BY id) n FROM embeddings"
            " WHERE id IN (SELECT max(id) FROM embeddings UNION SELECT min(id) FROM embeddings))"
            " UPDATE embeddings e SET embedding = o.embedding FROM two m, two o WHERE e.id = m.id"
            " AND m.n + o.n = 3"
        ),
        "vector-content",
        "embeddings.embedding: 2 (0 to 0 older vectors gone",
    ),
    "one of another model's": (
        (
            "UPDATE re_listings_embed SET embedding = (SELECT array_agg(random() - 0.5) FROM"
            " generate_series(1, 1536))::vector WHERE id = (SELECT min(id) FROM re_listings_embed)"
        ),
        "vector-content",
        "re_listings_embed.embedding: 1",
    ),
    "a row deleted": (
        "DELETE FROM sales_playbooks WHERE id = (SELECT min(id) FROM sales_playbooks)",
        "vector-content",
        "sales_playbooks.embedding: 1",
    ),
    "all rotated": (
        (
            "UPDATE sales_convo_embed SET embedding = subvector(embedding, 2, 1535) ||"
            " subvector(embedding, 1, 1)"
        ),
        "exact-neighbours",
        "sales_convo_embed.embedding",
    ),
    "a column dropped": (
        "ALTER TABLE hc_embeddings DROP COLUMN embedding CASCADE",
        "vector-values",
        "hc_embeddings.embedding: no such vector column",
    ),
}


def test_statements_nobody_ran_on_production_are_found_by_what_is_gone(copy: Copy) -> None:
    copy.sql(QUIET, *(statement for statement, _, _ in STATEMENTS.values()))
    found = red(copy.results(*FAMILIES))
    assert [
        kind for kind, (_, name, words) in STATEMENTS.items() if words not in found.get(name, "")
    ] == [], found


def test_a_vector_cut_short_is_found_where_the_column_takes_any_length(copy: Copy) -> None:
    copy.sql(
        "CREATE TABLE loose (id int, v vector)",
        "INSERT INTO loose SELECT i, ARRAY[i, 1, 2, 3]::vector FROM generate_series(1, 50) i",
        "CREATE TABLE mixed (id int, v vector)",
        "INSERT INTO mixed SELECT i, array_fill(i, ARRAY[2 + i % 2])::vector FROM"
        " generate_series(1, 50) i",
    )
    baseline, _ = remember(copy)
    assert red(ask(copy, baseline)) == {}
    copy.sql("UPDATE loose SET v = subvector(v, 1, 3) WHERE id = 9")
    found = red(ask(copy, baseline))
    assert "loose.v: 1 of 3 dimensions (4 dimensions)" in found["vector-values"], found
    assert "mixed" not in str(found)


def test_indexes_lost_invalid_poor_or_of_another_operator_are_named(copy: Copy) -> None:
    copy.sql(
        "DROP INDEX embeddings_hnsw_idx",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid ="
        " 're_listings_embed_hnsw_idx'::regclass",
        "DROP INDEX sales_convo_embed_hnsw_idx",
        "CREATE INDEX sales_convo_embed_hnsw_idx ON sales_convo_embed USING hnsw (embedding"
        " vector_cosine_ops) WITH (m = 2, ef_construction = 4)",
        "DROP INDEX hc_embeddings_hnsw_idx",
        "CREATE INDEX hc_embeddings_hnsw_idx ON hc_embeddings USING hnsw"
        " ((embedding::halfvec(3072)) halfvec_l2_ops)",
        "CREATE INDEX another ON sales_playbooks USING hnsw (embedding vector_cosine_ops)",
    )
    found = red(copy.results(*FAMILIES))
    indexes = found["vector-indexes"]
    assert "(embeddings_hnsw_idx): no such index" in indexes, found
    assert "(re_listings_embed_hnsw_idx): invalid index" in indexes, found
    assert "m='2'" in indexes, found
    assert "halfvec_l2_ops" in indexes, found
    assert "(another)" in indexes, found
    assert "re_listings_embed_hnsw_idx" in found["index-recall"], found


def test_an_index_damaged_inside_finds_less_and_is_named(copy: Copy) -> None:
    """Neighbour lists cut: every page and checksum is right, every row is there, and searches end
    early.
    """
    copy.sql("CREATE EXTENSION IF NOT EXISTS pageinspect")

    def cut(pages: list[bytes]) -> list[bytes]:
        made = [bytearray(page) for page in pages]
        for page in made[1:]:
            lower = struct.unpack_from("<H", page, 12)[0]
            for at in range(24, lower, 4):
                offset = struct.unpack_from("<I", page, at)[0] & 0x7FFF
                # a neighbour tuple: type, version, count, then places of six bytes
                if page[offset] == 2:
                    count = struct.unpack_from("<H", page, offset + 2)[0]
                    page[offset + 4 + 12 : offset + 4 + 6 * count] = bytes(6 * count - 12)
        return [bytes(page) for page in made]

    rewrite(copy, "embeddings_hnsw_idx", cut)
    results = copy.results(*FAMILIES)
    found = red(results)
    assert "embeddings_hnsw_idx" in found["index-recall"], found
    assert {"vector-values", "vector-content", "exact-neighbours", "vector-indexes"} & set(
        found
    ) == set()


# Table, column and index of each, and one element of the vector of sixteen equal ones as the index
# keeps it.
COPIES = {
    "by_graph": ("vector(16)", "hnsw (v vector_l2_ops)", struct.pack("<f", 12345.5)),
    "by_lists": (
        "vector(16)",
        "ivfflat (v vector_l2_ops) WITH (lists = 4)",
        struct.pack("<f", 12345.5),
    ),
    "by_angle": ("vector(16)", "hnsw (v vector_cosine_ops)", struct.pack("<f", 0.25)),
    "by_halves": ("halfvec(16)", "hnsw (v halfvec_l2_ops)", struct.pack("<e", 12344)),
}


def test_two_indexes_of_one_kind_on_a_column_are_no_damage(copy: Copy) -> None:
    copy.sql("CREATE INDEX embeddings_twin ON embeddings USING hnsw (embedding vector_cosine_ops)")
    answers = [
        r
        for r in ask(copy, None, "vectors")
        if r.name == "index-used" and r.thing.startswith("embeddings.embedding")
    ]
    assert [r for r in answers if r.status == "fail"] == []
    assert ("warn", "another index") in {(r.status, r.value) for r in answers}, answers


def test_one_changed_bit_of_a_vector_in_an_index_is_named(copy: Copy) -> None:
    """The rows are whole, and so is every page: only the index's own copy is another vector."""
    copy.sql("CREATE EXTENSION IF NOT EXISTS pageinspect")
    for table, (kind, index, _) in COPIES.items():
        value = 12344 if kind.startswith("half") else 12345.5
        copy.sql(
            f"CREATE TABLE {table} (id int, v {kind})",
            f"INSERT INTO {table} SELECT i, ARRAY(SELECT random() FROM generate_series(1, 16) WHERE"
            " i > 0)::vector FROM generate_series(1, 90) i",
            f"INSERT INTO {table} VALUES (0, array_fill({value}::real, ARRAY[16])::vector)",
            f"CREATE INDEX {table}_v ON {table} USING {index}",
        )
    healthy = [
        r
        for r in ask(copy, None, "search")
        if r.name == "index-values" and r.thing.partition(".")[0] in COPIES
    ]
    assert [(r.status, r.value) for r in healthy] == [("pass", 91)] * len(COPIES), healthy
    for table, (_, _, element) in COPIES.items():
        other = bytes([element[0] ^ 1, *element[1:]])
        rewrite(
            copy,
            f"{table}_v",
            lambda pages, was=element, now=other: [page.replace(was, now, 1) for page in pages],
        )
    found = red(ask(copy, None, "search"))
    assert [
        table for table in COPIES if f"{table}.v ({table}_v): 1 (" not in found["index-values"]
    ] == [], found


def test_rows_that_an_index_lacks_are_named(copy: Copy) -> None:
    copy.sql(
        "CREATE TABLE items (id int, v vector(8))",
        "CREATE INDEX items_hnsw ON items USING hnsw (v vector_l2_ops)",
        "CREATE TABLE lists (id int, v vector(8))",
        "INSERT INTO lists SELECT i, array_fill(i, ARRAY[8])::vector FROM generate_series(1,"
        " 300) i",
        "CREATE INDEX lists_ivfflat ON lists USING ivfflat (v vector_l2_ops) WITH (lists = 4)",
    )
    more = (
        "INSERT INTO {} SELECT i, ARRAY(SELECT random() FROM generate_series(1, 8) WHERE i >"
        " 0)::vector FROM generate_series({}, {}) i"
    )
    copy.sql(
        more.format("items", 1, 300),
        "ALTER TABLE items SET (fillfactor = 50)",
        "VACUUM FULL items",
        # newer versions, which the index points to by the older ones
        "UPDATE items SET id = id + 1000 WHERE id % 3 = 0",
    )
    healthy = [result for result in ask(copy, None, "search") if result.name == "index-coverage"]
    assert {result.status for result in healthy} == {"pass"}, healthy
    assert {"items.v (items_hnsw)", "lists.v (lists_ivfflat)"} <= {
        result.thing for result in healthy
    }
    off = (
        "UPDATE pg_index SET indisready = {0}, indisvalid = {0} WHERE indrelid IN"
        " ('items'::regclass, 'lists'::regclass)"
    )
    copy.sql(
        off.format("false"),
        more.format("items", 301, 303),
        more.format("lists", 301, 301),
        off.format("true"),
    )
    found = red(ask(copy, None, "search"))["index-coverage"]
    assert "items.v (items_hnsw): 3 rows not in the index" in found, found
    assert "lists.v (lists_ivfflat): 1 rows not in the index" in found, found


def test_a_search_that_became_slow_is_warned_of(copy: Copy) -> None:
    """A warning, never a failure: a drill host is not production."""
    same = (
        "CREATE OR REPLACE FUNCTION same(v vector) RETURNS vector IMMUTABLE LANGUAGE plpgsql AS"
        " 'BEGIN {} RETURN v; END'"
    )
    copy.sql(
        "CREATE TABLE slow (id int, v vector(4))",
        "INSERT INTO slow SELECT i, ARRAY[i, 1, 2, 3]::vector FROM generate_series(1, 60) i",
        # anybody else's is not run on production
        same.format(""),
        "ALTER EXTENSION vector ADD FUNCTION same(vector)",
        "CREATE INDEX slow_hnsw ON slow USING hnsw ((same(v)::vector(4)) vector_l2_ops)",
    )
    baseline, _ = remember(copy)
    assert {r.status for r in ask(copy, baseline, "search") if r.name == "search-latency"} == {
        "pass"
    }
    copy.sql(same.format("PERFORM pg_sleep(0.002);"))
    answers = [
        r
        for r in ask(copy, baseline, "search")
        if r.name == "search-latency" and r.status != "pass"
    ]
    assert [(r.status, r.thing) for r in answers] == [("warn", "slow.v (slow_hnsw)")]


def test_settings_that_decide_searches_are_compared(copy: Copy) -> None:
    assert "search-settings" not in red(copy.results("vectors"))
    copy.sql(
        f"ALTER DATABASE {DATABASE} SET hnsw.ef_search = 10",
        f"ALTER ROLE agents_app IN DATABASE {DATABASE} SET ivfflat.probes = 2",
    )
    found = red(copy.results("vectors"))["search-settings"]
    assert "agents: hnsw.ef_search: database: 10 (default: 40)" in found, found
    assert "role agents_app, ivfflat.probes" in found, found


def test_a_tenant_that_sees_other_tenants_or_nothing_is_found(copy: Copy) -> None:
    copy.sql(
        "ALTER TABLE embeddings DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant_isolation ON re_listings_embed",
        "DROP POLICY tenant_isolation ON hc_embeddings",
        "CREATE POLICY tenant_isolation ON hc_embeddings USING (tenant_id IS NOT NULL)",
    )
    found = red(copy.results("vectors"))["filtered-search"]
    assert "embeddings.embedding (as agents_service): row security is off" in found, found
    assert "re_listings_embed.embedding (as agents_service): nothing found" in found, found
    assert "hc_embeddings.embedding (as agents_service)" in found, found
    assert "rows are another tenant's" in found, found


KINDS = (
    "CREATE TABLE sparse (id int, v sparsevec(30))",
    (
        "INSERT INTO sparse SELECT i, format('{%s:1.5,%s:%s}/30', 1 + i % 9, 11 + i % 13,"
        " i)::sparsevec FROM generate_series(1, 200) i"
    ),
    "CREATE INDEX ON sparse USING hnsw (v sparsevec_cosine_ops)",
    "CREATE TABLE flags (id int, v bit(24))",
    "INSERT INTO flags SELECT i, (i * 7919 % 16777216)::bit(24) FROM generate_series(1, 200) i",
    "CREATE INDEX ON flags USING hnsw (v bit_hamming_ops)",
    "CREATE TABLE nothing (id int, v vector(3))",
    "CREATE INDEX ON nothing USING hnsw (v vector_cosine_ops)",
    "CREATE TABLE loosely (id int, v vector)",
    "CREATE TABLE later (id int, v halfvec(4))",
    (
        "INSERT INTO later SELECT i, CASE WHEN i % 2 = 0 THEN ARRAY[i, 1, i % 5,"
        " 1]::vector::halfvec END FROM generate_series(1, 100) i"
    ),
    "CREATE INDEX ON later USING hnsw (v halfvec_l2_ops)",
    'CREATE TABLE "Odd ""one""" (id int, v vector(4)) PARTITION BY RANGE (id)',
    'CREATE TABLE "part %s 1" PARTITION OF "Odd ""one""" FOR VALUES FROM (0) TO (100)',
    (
        'INSERT INTO "Odd ""one""" SELECT i, ARRAY[i, i % 7, 1, 0]::vector FROM generate_series(1,'
        " 99) i"
    ),
    'CREATE INDEX ON "Odd ""one""" USING hnsw (v vector_ip_ops)',
    "CREATE TABLE busy (id int, v vector(4))",
    "INSERT INTO busy SELECT i, ARRAY[i, i % 7, i % 11, 1]::vector FROM generate_series(1, 400) i",
    "CREATE INDEX ON busy USING hnsw (v vector_l2_ops)",
)
WRITTEN = (
    (
        "INSERT INTO busy SELECT 400 + i, ARRAY[i + 0.5, i % 7, i % 11, 1]::vector FROM"
        " generate_series(1, 50) i"
    ),
    "UPDATE busy SET v = (ARRAY[id, 1, 1, 1])::vector WHERE id % 40 = 0",
    "DELETE FROM busy WHERE id % 50 = 1",
    "VACUUM busy",
)


def test_healthy_columns_of_every_kind_are_green_and_writes_are_no_damage(copy: Copy) -> None:
    copy.sql(*KINDS)
    later: dict[str, dict[str, object]] = {"later": {"allow_null": True}}
    baseline, _ = remember(copy, **later)
    results = ask(copy, baseline, **later)
    unanswered = {
        (r.name, r.thing.partition(" (")[0]) for r in results if r.status not in ("pass", "warn")
    }
    # their pages are not read
    assert unanswered == {("index-values", "flags.v"), ("index-values", "sparse.v")}, results
    # small tables are scanned
    assert {r.name for r in results if r.status == "warn"} <= {"index-used"}
    named = {"sparse.v", "flags.v", "nothing.v", "loosely.v", "later.v", "part %s 1.v", "busy.v"}
    for name in ("vector-values", "vector-content", "exact-neighbours"):
        assert named <= {r.thing.partition(" (")[0] for r in results if r.name == name}, name
    for statement in WRITTEN:
        copy.sql(statement)
    state = baseline.databases[DATABASE]
    state.tables["public.busy"] = _table(Changes(inserted=50, updated=10, deleted=8))
    assert red(ask(copy, baseline, **later)) == {}
    state.tables["public.busy"] = _table(Changes(inserted=50, updated=10, deleted=7))
    assert (
        "busy.v: 18 (0 to 17 older vectors gone"
        in red(ask(copy, baseline, **later))["vector-content"]
    )
    state.tables["public.busy"] = _table(None)
    unknown = [
        r
        for r in ask(copy, baseline, "vectors", **later)
        if r.thing.startswith("busy.v") and r.name == "vector-content"
    ]
    assert [r.status for r in unknown] == ["warn"]


def test_null_vectors_are_told_where_they_are_not_meant_and_red_where_no_row_may_be_without_one(
    copy: Copy,
) -> None:
    copy.sql(*KINDS[9:12])
    told = [
        (r.status, r.value, r.threshold)
        for r in ask(copy, None, "vectors")
        if r.name == "vector-values" and r.thing == "later.v"
    ]
    assert ("warn", 50, "0 NULL vectors") in told
    copy.sql(
        "SET allow_system_table_mods = on; UPDATE pg_attribute SET attnotnull = true WHERE attrelid"
        " = 'later'::regclass AND attname = 'v'"
    )
    assert "later.v: 50 (0 NULL vectors)" in red(ask(copy, None, "vectors"))["vector-values"]


def test_the_applications_own_query_has_to_use_the_index(copy: Copy) -> None:
    copy.sql(
        "CREATE TABLE items (id int, v vector(64))",
        f"ALTER DATABASE {DATABASE} SET enable_seqscan = off",
        "INSERT INTO items SELECT i, ARRAY(SELECT random() FROM generate_series(1, 64) WHERE i >"
        " 0)::vector FROM generate_series(1, 500) i",
        "CREATE INDEX items_hnsw ON items USING hnsw (v vector_cosine_ops)",
        "ANALYZE items",
    )
    by_index: dict[str, object] = {"query": "SELECT id FROM items ORDER BY v <=> $1 LIMIT 5"}
    by_scan: dict[str, object] = {"query": "SELECT id FROM items ORDER BY v <-> $1 LIMIT 5"}
    assert "index-used" not in red(ask(copy, None, "vectors", items=by_index))
    assert (
        "items.v (query in dr.toml): no index"
        in red(ask(copy, None, "vectors", items=by_scan))["index-used"]
    )
    wrong: dict[str, object] = {"query": "SELECT nonsense FROM items ORDER BY v <=> $1"}
    assert "UndefinedColumn" in red(ask(copy, None, "vectors", items=wrong))["index-used"]


def written_until_now(copy: Copy, baseline: Baseline) -> Baseline:
    """As if its restore point were now: what was done so far, production did before it."""
    baseline.end_xid = int(str(copy.one("SELECT pg_snapshot_xmax(pg_current_snapshot())")))
    return baseline


def test_rows_that_production_moved_are_not_taken_for_others(copy: Copy) -> None:
    baseline, _ = remember(copy)
    copy.sql(f"{QUIET}; DELETE FROM embeddings WHERE mod(id, 3) = 0", "VACUUM FULL embeddings")
    state = baseline.databases[DATABASE].tables["public.embeddings"]
    state.changes = None  # which settling finds of a rewritten table
    assert "embeddings.embedding" in red(ask(copy, baseline, "vectors")).get("exact-neighbours", "")
    answers = ask(copy, written_until_now(copy, baseline), "vectors")
    assert {
        r.status
        for r in answers
        if r.name == "exact-neighbours" and "embeddings.embedding (embeddings_" in r.thing
    } == {"warn"}


def test_a_column_in_a_table_that_production_made_unlogged_meanwhile_is_no_loss(copy: Copy) -> None:
    copy.sql(
        "CREATE TABLE scratch (id int, v vector(3))", "INSERT INTO scratch VALUES (1, '[1,2,3]')"
    )
    baseline, _ = remember(copy)
    copy.sql("ALTER TABLE scratch SET UNLOGGED")
    lost = "scratch.v"
    assert lost in red(ask(copy, baseline, "vectors"))["vector-values"]
    # listed a moment before its vectors, while it was unlogged
    del baseline.databases[DATABASE].tables["public.scratch"]
    assert lost in red(ask(copy, baseline, "vectors"))["vector-values"]
    assert lost not in red(ask(copy, written_until_now(copy, baseline), "vectors")).get(
        "vector-values", ""
    )


def recall_of_embeddings(copy: Copy, baseline: Baseline) -> CheckResult:
    (answer,) = [
        r
        for r in ask(copy, baseline, "vectors")
        if r.name == "index-recall" and r.thing.startswith("embeddings") and "hnsw" in r.thing
    ]
    return answer


def test_writes_explain_no_more_lost_recall_than_their_share_of_the_rows(copy: Copy) -> None:
    """An eighth of the table was written meanwhile; the graph was built with fewer links, and its
    options say otherwise.
    """
    baseline, _ = remember(copy)
    copy.sql(
        "ALTER INDEX embeddings_hnsw_idx SET (m = 2, ef_construction = 4)",
        "REINDEX INDEX embeddings_hnsw_idx",
        "ALTER INDEX embeddings_hnsw_idx RESET (m, ef_construction)",
        f"ALTER DATABASE {DATABASE} SET hnsw.ef_search = 2",
    )
    rows = int(str(copy.one("SELECT count(*) FROM embeddings")))
    state = baseline.databases[DATABASE].tables["public.embeddings"]
    told = {}
    for kind, changes, bracketed in (
        ("a twentieth", Changes(updated=rows // 20), True),
        ("an eighth", Changes(inserted=rows // 16, updated=rows // 16), True),
        ("all", Changes(updated=rows), True),
        ("unknown", None, False),
        ("altered, but both snapshots saw the same", None, True),
    ):
        state.changes, state.bracketed = changes, bracketed
        told[kind] = recall_of_embeddings(copy, baseline).status
    assert told == {
        "a twentieth": "fail",
        "an eighth": "fail",
        "all": "warn",
        "unknown": "warn",
        "altered, but both snapshots saw the same": "fail",
    }
