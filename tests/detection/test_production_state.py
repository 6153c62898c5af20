"""What production has alike is no damage: it warns, whatever stands beside it; what came on top of
it is red.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pgdrill.baseline.habits import Habits
from pgdrill.baseline.production import Production
from pgdrill.checks import Context, run_checks
from pgdrill.checks.columns import looks
from pgdrill.checks.runner import checking
from pgdrill.config import Deviation
from pgdrill.host.process import Runner
from pgdrill.reports.deviations import today
from pgdrill.reports.model import CheckResult
from pgdrill.vectors.columns import FoundColumn
from pgdrill.vectors.model import VectorState
from pgdrill_demo.stack import DATABASE
from tests.detection.conftest import STATEMENT_SECONDS, Copy
from tests.detection.test_vectors import QUIET, ask, red, remember

FAMILIES = ("vectors", "search")
RANDOM = "ARRAY(SELECT random() - 0.5 FROM generate_series(1, 16) WHERE i > 0)::vector"


def of(results: list[CheckResult], check: str, thing: str) -> set[tuple[str, object]]:
    return {
        (r.status, r.value)
        for r in results
        if r.name == check and r.thing.partition(" (")[0] == thing
    }


def test_a_column_that_is_not_filled_yet_warns_and_a_vector_that_became_null_is_red(
    copy: Copy,
) -> None:
    copy.sql(
        "CREATE TABLE items (id int, v vector(16))",
        f"INSERT INTO items SELECT i, {RANDOM} FROM generate_series(1, 300) i",
        "ALTER TABLE items ADD COLUMN v2 vector(32)",
    )
    baseline, _ = remember(copy)
    beside, without = ask(copy, baseline, "vectors"), ask(copy, None, "vectors")
    assert of(beside, "vector-values", "items.v2") == {("warn", 300), ("pass", 0)}
    assert of(without, "vector-values", "items.v2") == {("warn", 300), ("pass", 0)}
    assert red(beside) == {}
    copy.sql(f"{QUIET}; UPDATE items SET v = NULL WHERE id = 7")
    assert "items.v: 1 (0 NULL vectors)" in red(ask(copy, baseline, "vectors"))["vector-values"]


@pytest.mark.parametrize(
    ("value", "limit"),
    [("NULL", "NULL vectors"), ("array_fill(0, ARRAY[16])::vector", "vectors of zeros")],
)
def test_what_the_application_writes_is_its_own_and_what_old_rows_lost_is_damage_however_long_ago(
    copy: Copy, value: str, limit: str
) -> None:
    """With production gone nobody knows what was written since: old rows are told apart all the
    same.
    """
    copy.sql(
        "CREATE TABLE items (id int, v vector(16))",
        f"INSERT INTO items SELECT i, {RANDOM} FROM generate_series(1, 300) i",
        f"INSERT INTO items SELECT i, {value} FROM generate_series(301, 320) i",
    )
    baseline, _ = remember(copy)
    baseline.databases[DATABASE].tables["public.items"].changes = None
    copy.sql(
        f"INSERT INTO items SELECT i, {value} FROM generate_series(1, 40) i",
        f"UPDATE items SET v = {value} WHERE id BETWEEN 100 AND 109",
    )
    found = ask(copy, baseline, "vectors")
    assert ("warn", 70) in of(found, "vector-values", "items.v"), found
    assert "vector-values" not in red(found)
    # As if the rows had lost their vectors where they stood: by this horizon they are all older
    # than the baseline.
    state = baseline.databases[DATABASE]
    now = int(str(copy.one("SELECT pg_snapshot_xmax(pg_current_snapshot())")))
    state.horizon = state.horizon.model_copy(update={"oldest_xid": now, "next_xid": now})
    assert f"(20 {limit})" in red(ask(copy, baseline, "vectors"))["vector-values"]


def test_a_table_whose_index_finds_little_on_production_warns_at_every_instant(copy: Copy) -> None:
    copy.sql(
        "CREATE TABLE zeros (id int, v vector(16))",
        "INSERT INTO zeros SELECT i, array_fill(0, ARRAY[16])::vector FROM generate_series(1,"
        " 60) i",
        f"INSERT INTO zeros SELECT i, {RANDOM} FROM generate_series(61, 460) i",
        "CREATE INDEX zeros_hnsw ON zeros USING hnsw (v vector_l2_ops) WITH (m = 2, ef_construction"
        " = 4)",
    )
    copy.sql(f"ALTER DATABASE {DATABASE} SET hnsw.ef_search = 1")
    baseline, _ = remember(copy)
    state = baseline.databases[DATABASE].vectors["public.zeros.v"]
    (search,) = state.searches
    assert sum(search.whole.hits) < 0.5 * sum(search.whole.wanted), "its own index finds little"
    answers = {
        "beside production": ask(copy, baseline, "vectors"),
        "beside another instant": list(run_checks(context_of(copy, {"zeros": state}), ["vectors"])),
    }
    for words, results in answers.items():
        assert {status for status, _ in of(results, "index-recall", "zeros.v")} == {"warn"}, words
        assert ("warn", 60) in of(results, "vector-values", "zeros.v"), words
    # What is far worse than it ever was on production stays red.
    whole = search.whole.model_copy(update={"hits": search.whole.wanted})
    state.searches = [search.model_copy(update={"whole": whole})]
    worse = list(run_checks(context_of(copy, {"zeros": state}), ["vectors"]))
    assert {status for status, _ in of(worse, "index-recall", "zeros.v")} == {"fail"}


def context_of(copy: Copy, states: dict[str, VectorState]) -> Context:
    """No baseline of the very instant; those columns as they were at another one."""

    def habits(column: FoundColumn) -> Iterator[tuple[str, VectorState]]:
        if column.table in states:
            yield "when the backup was taken", states[column.table]

    return Context(
        cluster=copy.mould.stack.cluster,
        databases=(DATABASE,),
        habits=habits,
        connect=checking(
            lambda name: copy.server.connect(name, autocommit=False), STATEMENT_SECONDS
        ),
    )


def test_production_is_asked_what_it_is_like_today_and_the_record_what_it_was(copy: Copy) -> None:
    stack = copy.mould.stack
    context = Context(
        cluster=stack.cluster,
        databases=(DATABASE,),
        connect=checking(
            lambda name: copy.server.connect(name, autocommit=False), STATEMENT_SECONDS
        ),
    )
    column = next(look.column for look in looks(context) if look.name == "embeddings.embedding")
    identifier = copy.mould.baseline.system_identifier
    told = dict(Habits(stack.access, Runner(), identifier=identifier).of(column))
    assert set(told) == {"when the backup was taken", "today"}
    contents = told["today"].contents
    assert contents
    assert contents.rows > 0
    assert set(dict(Habits(stack.access, Runner(), identifier=identifier + 1).of(column))) == {
        "when the backup was taken"
    }
    gone = stack.cluster.model_copy(
        update={
            "server": stack.cluster.server.model_copy(
                update={"dsn": "host=127.0.0.1 port=9 dbname=agents"}
            )
        }
    )
    assert (
        set(dict(Habits(replace(stack.access, cluster=gone), Runner(), backup="none").of(column)))
        == set()
    )


def test_an_index_whose_build_failed_is_invalid_on_production_too(copy: Copy) -> None:
    copy.sql(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid ="
        " 're_listings_embed_hnsw_idx'::regclass"
    )
    assert "re_listings_embed_hnsw_idx" in red(copy.results("vectors"))["index-recall"], (
        "beside a baseline it is red"
    )
    thing = "re_listings_embed.embedding"
    assert of(ask(copy, None, "vectors"), "index-recall", thing) == {("warn", "invalid index")}
    assert {r.status for r in ask(copy, None, "integrity") if r.name == "invalid-indexes"} == {
        "warn"
    }


BLIND = (
    "CREATE TABLE notes (id int, tenant_id text, v vector(16))",
    # A thin graph and a short search: what is found first is mostly another tenant's row.
    f"INSERT INTO notes SELECT i, 'tenant ' || i % 20, {RANDOM} FROM generate_series(1, 3000) i",
    (
        "CREATE INDEX notes_hnsw ON notes USING hnsw (v vector_l2_ops) WITH (m = 2, ef_construction"
        " = 4)"
    ),
    "ANALYZE notes",
    "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
    (
        "CREATE POLICY tenant_isolation ON notes USING (tenant_id = current_setting('app.tenant',"
        " true))"
    ),
    "GRANT SELECT ON notes TO agents_app",
    *(
        f"ALTER DATABASE {DATABASE} SET {setting}"
        for setting in (
            "enable_seqscan = off",
            "enable_bitmapscan = off",
            "enable_sort = off",
            "hnsw.ef_search = 1",
        )
    ),
)


def test_a_tenants_search_that_finds_nothing_behind_the_filter_warns_and_tells_the_owner(
    copy: Copy,
) -> None:
    copy.sql(*BLIND)
    baseline, _ = remember(copy)
    for beside, words in (
        (baseline, "of 10 on production"),
        (None, "production's own are not recorded"),
    ):
        results = [
            r
            for r in ask(copy, beside, "vectors")
            if r.name == "filtered-search" and r.thing.startswith("notes.v")
        ]
        as_tenant = [r for r in results if "(as agents_" in r.thing]
        assert {r.status for r in results} == {"warn"}, results
        assert "searches found nothing" in str(as_tenant[0].value)
        for result in results:
            assert words in result.message
            assert "tell the application's owner" in result.hint


def test_row_security_that_hides_a_tenants_own_rows_is_red(copy: Copy) -> None:
    copy.sql(*BLIND[:7])
    baseline, _ = remember(copy)
    copy.sql(
        "DROP POLICY tenant_isolation ON notes",
        "CREATE POLICY tenant_isolation ON notes USING (tenant_id = current_setting('app.tenant',"
        " true) || 'x')",
    )
    found = red(ask(copy, baseline, "vectors"))["filtered-search"]
    assert (
        "notes.v (as agents_app): nothing found" in found
        or "notes.v (as agents_service): nothing found" in found
    )
    assert "row security hides every row" in found


def test_a_row_that_the_policy_hides_on_production_too_is_no_damage(copy: Copy) -> None:
    """Rows marked as deleted: their tenant has others, or had only these."""
    copy.sql(
        *BLIND[:3],
        "ALTER TABLE notes ADD COLUMN deleted boolean NOT NULL DEFAULT false",
        *BLIND[4:5],
        BLIND[6],
        "CREATE POLICY own ON notes USING (tenant_id = current_setting('app.tenant', true) AND NOT"
        " deleted)",
        "UPDATE notes SET deleted = true WHERE tenant_id IN ('tenant 3', 'tenant 4') OR id % 3 = 0",
        "VACUUM FULL notes",
    )
    baseline, _ = remember(copy)
    results = [
        r
        for r in ask(copy, baseline, "vectors")
        if r.name == "filtered-search" and r.thing.startswith("notes.v")
    ]
    assert any("(as agents_" in r.thing for r in results)
    assert {r.status for r in results} <= {"pass", "warn"}, results


def test_a_row_that_was_updated_in_place_is_in_the_index_and_one_that_the_index_lacks_is_not(
    copy: Copy,
) -> None:
    """Chains of versions, pruned and not, with a place given to another row in between."""
    copy.sql(
        "CREATE TABLE items (id int, v vector(8), note int)",
        "ALTER TABLE items SET (fillfactor = 40)",
        "CREATE INDEX items_hnsw ON items USING hnsw (v vector_l2_ops)",
        "INSERT INTO items SELECT i, ARRAY(SELECT random() FROM generate_series(1, 8) WHERE i >"
        " 0)::vector FROM generate_series(1, 300) i",
    )
    for number in range(4):
        copy.sql(f"UPDATE items SET note = {number} WHERE id % 3 = 0")
    copy.sql(
        "BEGIN; UPDATE items SET note = 9 WHERE id % 5 = 0; ROLLBACK",
        "UPDATE items SET note = 10 WHERE id % 7 = 0",
    )
    healthy = [
        r
        for r in ask(copy, None, "search")
        if r.name == "index-coverage" and r.thing.startswith("items.v")
    ]
    assert [(r.status, r.value) for r in healthy] == [("pass", 300)], healthy
    off = (
        "UPDATE pg_index SET indisready = {0}, indisvalid = {0} WHERE indrelid = 'items'::regclass"
    )
    copy.sql(
        off.format("false"),
        "INSERT INTO items SELECT 900, v, 0 FROM items WHERE id = 3",
        off.format("true"),
    )
    # Its vector is another row's, so that a search would bring it: only the pages tell.
    assert (
        "items.v (items_hnsw): 1 rows not in the index"
        in red(ask(copy, None, "search"))["index-coverage"]
    )


def test_an_accepted_answer_is_green_until_its_day_and_hides_nothing_else(copy: Copy) -> None:
    cluster = copy.mould.stack.cluster
    until = today()
    known = Deviation(
        check="catalogs",
        object="agents: index embeddings_hnsw_idx",
        reason="rebuilt by hand, ticket 4711",
        until=until,
    )

    def results(**damage: object) -> list[CheckResult]:
        context = Context(
            cluster=cluster.model_copy(update={"deviations": (known.model_copy(update=damage),)}),
            databases=(DATABASE,),
            connect=checking(
                lambda name: copy.server.connect(name, autocommit=False), STATEMENT_SECONDS
            ),
            baseline=copy.mould.baseline.model_copy(deep=True),
            settle=lambda: True,
        )
        return list(run_checks(context, ["schema"]))

    copy.sql("ALTER INDEX embeddings_hnsw_idx SET (ef_construction = 4)")
    accepted = results()
    assert red(accepted) == {}
    assert [r.accepted for r in accepted if r.accepted] == [
        f"accepted until {until}: rebuilt by hand, ticket 4711"
    ]
    copy.sql("ALTER INDEX re_listings_embed_hnsw_idx SET (ef_construction = 4)")
    assert "re_listings_embed_hnsw_idx" in red(results())["catalogs"]
    assert "embeddings_hnsw_idx" in red(results(check="vector-indexes"))["catalogs"]


def failures(copy: Copy, family: str, name: str) -> dict[str, str]:
    """What a check says of each thing that is not as production has it now."""
    context = Context(
        cluster=copy.mould.stack.cluster,
        databases=(DATABASE,),
        baseline=copy.mould.baseline.model_copy(deep=True),
        settle=lambda: True,
        connect=checking(
            lambda name: copy.server.connect(name, autocommit=False), STATEMENT_SECONDS
        ),
        production_now=Production(copy.mould.stack.access).catalogs,
    )
    return {
        r.thing: r.message
        for r in run_checks(context, [family])
        if r.name == name and r.status == "fail"
    }


def test_what_differs_in_a_catalog_is_told_by_column_with_production_s_value_and_the_one_that_came_back(  # noqa: E501
    copy: Copy,
) -> None:
    copy.sql(
        "ALTER INDEX embeddings_hnsw_idx SET (ef_construction = 4)",
        "ALTER TABLE embeddings ALTER COLUMN content SET STORAGE PLAIN",
        "SET allow_system_table_mods = on; UPDATE pg_collation SET collcollate = 'POSIX' WHERE"
        " collname = 'ucs_basic' AND oid < 16384",
        "UPDATE pg_proc SET prosrc = 'SELECT 42' WHERE oid = (SELECT min(oid) FROM pg_proc WHERE"
        " oid >= 16384 AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql'))",
    )
    told = failures(copy, "schema", "catalogs")
    index = told["agents: index embeddings_hnsw_idx"]
    assert "ef_construction=4" in index.partition("reloptions: ")[2]
    assert index.endswith("came back")
    assert (
        told["agents: table embeddings"]
        == "pg_attribute; column content attstorage: x on production now, p came back"
    )
    assert "ucs_basic collcollate" in told["agents: objects of PostgreSQL itself"], told
    assert any("prosrc differs" in words for words in told.values()), told
    assert "42" not in str(told)


def test_large_objects_that_differ_are_one_answer_with_their_numbers(copy: Copy) -> None:
    """They stand in two catalogs, of which the one that is unlinked is missing in both."""
    first, second = (
        int(
            str(
                copy.one(f"SELECT oid FROM pg_largeobject_metadata ORDER BY oid LIMIT 1 OFFSET {n}")
            )
        )
        for n in (0, 1)
    )
    copy.sql(f"SELECT lo_unlink({first})")
    told = failures(copy, "rows", "table-content")
    assert list(told) == ["agents.pg_catalog.pg_largeobject_metadata"]
    assert told["agents.pg_catalog.pg_largeobject_metadata"] == f"large objects missing {first}"
    copy.sql(f"SELECT lo_put({second}, 0, 'x')")
    told = failures(copy, "rows", "table-content")
    assert list(told) == ["agents.pg_catalog.pg_largeobject_metadata"]
    assert (
        told["agents.pg_catalog.pg_largeobject_metadata"]
        == f"large objects missing {first}, changed {second}"
    )


def test_a_large_object_of_another_owner_is_told_by_its_number(copy: Copy) -> None:
    number = copy.one("SELECT min(oid) FROM pg_largeobject_metadata")
    copy.sql("CREATE ROLE thief", f"ALTER LARGE OBJECT {number} OWNER TO thief")
    told = failures(copy, "rows", "table-content")
    assert list(told) == ["agents.pg_catalog.pg_largeobject_metadata"]
    assert told["agents.pg_catalog.pg_largeobject_metadata"].endswith(
        f"large objects changed {number}"
    )


def test_without_productions_numbers_large_objects_are_one_answer_with_both_figures(
    copy: Copy,
) -> None:
    copy.sql("SELECT lo_unlink(min(oid)) FROM pg_largeobject_metadata")
    told = copy.red("rows")["table-content"]
    assert len(told) == 1, told
    assert re.fullmatch(
        r"agents\.pg_catalog\.pg_largeobject_metadata \d+ their content: \d+, wanted \d+ rows",
        told[0],
    )
