"""Vectors of another model, or of another text, are found and the column named, though every row is
there.
"""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner, Result

from pgdrill.checks import Context, run_checks
from pgdrill.checks.runner import checking
from pgdrill.cli import app
from pgdrill.config import Deviation, Embeddings
from pgdrill.reports.deviations import today
from pgdrill.reports.model import CheckResult, Stage, judge
from pgdrill.vectors.labels import Label, read_labels, set_label
from pgdrill_demo.embedder import Embedder
from pgdrill_demo.stack import DATABASE
from tests.detection.conftest import STATEMENT_SECONDS, Copy

FAMILIES = ("embeddings",)
QUIET = "SET session_replication_role = replica"  # no trigger notes the time of the damage


def answers(copy: Copy, **settings: object) -> list[CheckResult]:
    """The family's answers with other settings than the stack's."""
    cluster = copy.mould.stack.cluster
    changed = cluster.model_copy(
        update={
            "embeddings": Embeddings.model_validate({**cluster.embeddings.model_dump(), **settings})
        }
    )
    connect = checking(lambda name: copy.server.connect(name, autocommit=False), STATEMENT_SECONDS)
    return list(
        run_checks(Context(changed, connect, (DATABASE,), baseline=copy.mould.baseline), FAMILIES)
    )


def by_name(results: list[CheckResult], name: str) -> list[CheckResult]:
    return [result for result in results if result.name == name]


def array(dimensions: int, value: str) -> str:
    return f"(SELECT array_agg({value} ORDER BY i) FROM generate_series(1, {dimensions}) i)::vector"


DAMAGES = {
    "label missing": (
        "COMMENT ON COLUMN embeddings.embedding IS NULL",
        "model-label",
        "embeddings.embedding",
    ),
    "label gone, another comment left": (
        "COMMENT ON COLUMN embeddings.embedding IS 'Made nightly.'",
        "model-label",
        "embeddings.embedding",
    ),
    "label unreadable": (
        "COMMENT ON COLUMN embeddings.embedding IS 'pgdrill: {model: x}'",
        "model-label",
        "unreadable",
    ),
    "label names a column that is not there": (
        (
            'COMMENT ON COLUMN embeddings.embedding IS \'pgdrill: {"model": "hashing-384",'
            ' "version": "1", "text_column": "no"}\''
        ),
        "model-label",
        "label names no",
    ),
    "label of another model": (
        (
            'COMMENT ON COLUMN embeddings.embedding IS \'pgdrill: {"model": "hashing-385",'
            ' "version": "1", "text_column": "content"}\''
        ),
        "model-current",
        "stale vectors",
    ),
    "label of another version": (
        (
            'COMMENT ON COLUMN embeddings.embedding IS \'pgdrill: {"model": "hashing-384",'
            ' "version": "0", "text_column": "content"}\''
        ),
        "model-current",
        "500 stale vectors",
    ),
    "vectors of two rows swapped": (
        (
            "WITH two AS (SELECT id, embedding, row_number() OVER (ORDER BY id) n FROM embeddings"
            " WHERE id IN (SELECT max(id) FROM embeddings UNION SELECT min(id) FROM embeddings))"
            " UPDATE embeddings e SET embedding = o.embedding FROM two m, two o WHERE e.id = m.id"
            " AND m.n + o.n = 3"
        ),
        "canary",
        "2 of 500",
    ),
    "one vector scaled": (
        (
            f"UPDATE embeddings SET embedding = embedding * {array(384, '1.5')}"
            " WHERE id = (SELECT max(id) FROM embeddings)"
        ),
        "canary",
        "1 of 500",
    ),
    "all vectors scaled": (
        f"UPDATE embeddings SET embedding = embedding * {array(384, '2')}",
        "canary",
        "500 of 500",
    ),
    "a vector negated": (
        (
            f"UPDATE embeddings SET embedding = embedding * {array(384, '-1')}"
            " WHERE id = (SELECT max(id) FROM embeddings)"
        ),
        "canary",
        "1 of 500",
    ),
    "vectors rotated": (
        (
            "UPDATE re_listings_embed SET embedding = subvector(embedding, 2, 1535) ||"
            " subvector(embedding, 1, 1)"
        ),
        "canary",
        "re_listings_embed.embedding",
    ),
    "halves of one half-precision-indexed vector exchanged": (
        (
            "UPDATE hc_embeddings SET embedding = subvector(embedding, 1537, 1536) ||"
            " subvector(embedding, 1, 1536) WHERE id = (SELECT max(id) FROM hc_embeddings)"
        ),
        "canary",
        "hc_embeddings.embedding",
    ),
    "dimensions cut off and padded with zeros": (
        (
            "UPDATE sales_convo_embed SET embedding = subvector(embedding, 1, 768) ||"
            f" {array(768, '0')}"
        ),
        "canary",
        "sales_convo_embed.embedding",
    ),
    "a vector of zeros": (
        (
            f"UPDATE sales_playbooks SET embedding = {array(384, '0')}"
            " WHERE id = (SELECT max(id) FROM sales_playbooks)"
        ),
        "canary",
        "sales_playbooks.embedding",
    ),
    "texts of two rows swapped": (
        (
            "WITH two AS (SELECT id, content, row_number() OVER (ORDER BY id) n FROM"
            " re_listings_embed LIMIT 2) UPDATE re_listings_embed e SET content = o.content FROM"
            " two m, two o WHERE e.id = m.id AND m.n + o.n = 3"
        ),
        "canary",
        "re_listings_embed.embedding",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_that_leaves_every_row_there_is_named(copy: Copy, kind: str) -> None:
    statement, name, words = DAMAGES[kind]
    copy.sql(QUIET, statement)
    red = copy.red(*FAMILIES)
    assert any(words in line for line in red.get(name, [])), f"{kind}: {red}"


def test_a_healthy_copy_leaves_no_question_unanswered(copy: Copy) -> None:
    results = copy.results(*FAMILIES)
    assert {result.name: result.status for result in results} == {
        "model-label": "pass",
        "model-current": "pass",
        "canary": "pass",
        "stale-text": "pass",
    }
    assert {result.status for result in results} == {"pass"}
    assert all("every row" in result.message for result in by_name(results, "canary"))


def test_a_part_of_the_rows_made_by_another_model_is_found(copy: Copy) -> None:
    """As after an upgrade of the model that re-embedded a part only: the same dimensions, another
    space.
    """
    copy.sql(QUIET, *_other_model(copy, "id % 10 = 3"))
    red = copy.red(*FAMILIES)
    assert [line for line in red["canary"] if "50 of 500" in line and "0.1 of rows off" in line], (
        red
    )
    assert "model-current" not in red


def test_while_a_column_is_embedded_again_two_models_are_allowed_and_a_vector_of_neither_is_red(
    copy: Copy,
) -> None:
    def asked(days: int, *, model: str = "older-384@1") -> list[CheckResult]:
        cluster, until = copy.mould.stack.cluster, today() + timedelta(days=days)
        known = tuple(
            Deviation(
                check=check,
                object="embeddings.embedding",
                reason="row by row",
                until=until,
                model=model,
            )
            for check in ("canary", "model-current")
        )
        changed = cluster.model_copy(
            update={
                "embeddings": cluster.embeddings.model_copy(
                    update={"embedder": "python:tests.detection.two_models:embed"}
                ),
                "deviations": known,
            }
        )
        connect = checking(
            lambda name: copy.server.connect(name, autocommit=False), STATEMENT_SECONDS
        )
        context = Context(changed, connect, (DATABASE,), baseline=copy.mould.baseline)
        with context.closing:
            return [r for r in run_checks(context, FAMILIES) if r.thing == "embeddings.embedding"]

    copy.sql(QUIET, *_other_model(copy, "id % 10 = 3"))
    (canary,) = by_name(asked(1), "canary")
    assert (canary.status, canary.value) == ("warn", "50 of 500 rows are of older-384@1")
    assert f"allowed besides until {today() + timedelta(days=1)}: row by row" in canary.message
    (ended,) = by_name(asked(-1), "canary")
    assert ended.status == "fail"
    assert (
        f"was allowed besides until {today() - timedelta(days=1)} (row by row), and is no longer"
        in ended.message
    )
    copy.sql(
        QUIET,
        f"UPDATE embeddings SET embedding = embedding * {array(384, '-1')} WHERE id = (SELECT"
        " max(id) FROM embeddings)",
    )
    (neither,) = by_name(asked(1), "canary")
    assert (neither.status, neither.message.partition(",")[0]) == (
        "fail",
        "1 of 500 re-embedded by hashing-384 and by older-384",
    )
    copy.sql(
        'COMMENT ON COLUMN embeddings.embedding IS \'pgdrill: {"model": "older-384", "version":'
        ' "1"}\''
    )
    assert [r.status for r in by_name(asked(1), "model-current")] == ["warn"]
    assert [r.status for r in by_name(asked(1, model="older-384@2"), "model-current")] == ["fail"]


def test_one_stretch_of_the_table_made_by_another_model_is_found_by_few_canaries(
    copy: Copy,
) -> None:
    """Each canary has a part of the table of its own: a stretch of two parts' length holds a whole
    one.
    """
    copy.sql(
        QUIET,
        "CREATE TABLE kept AS SELECT * FROM embeddings ORDER BY id",
        "TRUNCATE embeddings",
        "INSERT INTO embeddings SELECT * FROM kept ORDER BY id",
        "DROP TABLE kept",
        "UPDATE embeddings e SET content = o.content FROM embeddings o WHERE o.id = 501 - e.id AND"
        " e.id <= 125",
        "VACUUM FULL embeddings",
    )
    canary = next(
        r
        for r in answers(copy, canary_rows=8)
        if r.name == "canary" and r.thing == "embeddings.embedding"
    )
    assert canary.status == "fail", canary
    assert canary.message.split(" re-embedded")[0].endswith("of 8")


def _other_model(copy: Copy, where: str) -> list[str]:
    import psycopg

    with psycopg.connect(copy.server.conninfo(DATABASE), autocommit=True) as connection:
        rows = connection.execute(f"SELECT id, content FROM embeddings WHERE {where}").fetchall()
    made = Embedder(385).embed([text for _, text in rows])[:, :384]
    return [
        f"UPDATE embeddings SET embedding = l2_normalize('{json.dumps(vector.tolist())}'::vector)"
        f" WHERE id = {key}"
        for (key, _), vector in zip(rows, made, strict=True)
    ]


def test_a_text_newer_than_its_vector_is_found_among_the_newest(copy: Copy) -> None:
    """The trigger notes the time; three rows of five hundred are re-embedded, those changed
    last."""
    copy.sql(
        "UPDATE embeddings SET content = content || ' And then it was rewritten from the start.'"
        " WHERE id = 77"
    )
    results = [r for r in answers(copy, canary_rows=3) if r.thing == "embeddings.embedding"]
    stale = by_name(results, "stale-text")
    assert [r.status for r in stale] == ["fail"], stale
    assert "1 of 3" in stale[0].message


def test_a_text_newer_than_its_vector_is_found_by_two_times_without_an_embedder(copy: Copy) -> None:
    label = Label(
        model="hashing-384", version="1", updated_column="updated_at", embedded_column="created_at"
    )
    copy.sql(QUIET, "UPDATE embeddings SET created_at = updated_at", _comment(label))
    assert "stale-text" not in {r.name for r in answers(copy, embedder="") if r.status == "fail"}
    copy.sql(
        QUIET,
        "UPDATE embeddings SET updated_at = updated_at + interval '1 second' WHERE id IN (7, 8)",
    )
    failed = [r for r in answers(copy, embedder="") if r.status == "fail"]
    assert [(r.name, r.thing, r.value) for r in failed] == [
        ("stale-text", "embeddings.embedding", 2)
    ]


def _comment(label: Label) -> str:
    return f"COMMENT ON COLUMN embeddings.embedding IS '{label.line}'"


def test_what_nobody_asked_is_skipped_with_its_reason_and_keeps_no_drill_from_green(
    copy: Copy,
) -> None:
    results = answers(copy, embedder="", models={})
    assert {r.status for r in by_name(results, "model-label")} == {"pass"}
    skipped = [r for r in results if r.status == "skip"]
    assert {r.name for r in skipped} == {"model-current", "canary", "stale-text"}
    assert all(r.message and not r.required for r in skipped)
    assert _verdict(results)[0] == "passed"


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"embedder": "http", "url": "http://127.0.0.1:9"}, id="nobody answers"),
        pytest.param(
            {
                "embedder": "http",
                "url": "http://127.0.0.1:9",
                "api_key_variable": "PGDRILL_NO_SUCH_KEY",
            },
            id="no key",
        ),
        pytest.param({"embedder": "python:pgdrill_demo.embedder:nothing"}, id="no such callable"),
        pytest.param(
            {"embedder": "python:pgdrill_demo.embedder:embed", "models": {"*": "other-model@1"}},
            id="an unknown model",
        ),
    ],
)
def test_a_configured_embedder_that_does_not_answer_is_never_green(
    copy: Copy, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgdrill.vectors.embedders.http.ATTEMPTS", 1)
    asked = [r for r in answers(copy, **settings) if r.name == "canary" and r.thing]
    assert asked
    assert all(r.status == "skip" and r.required and r.message for r in asked)
    assert _verdict(asked)[0] == "could not verify"


def _verdict(results: list[CheckResult]) -> tuple[str, str]:
    vectors = CheckResult(name="index-recall", family="vectors", status="pass")
    return judge(Stage(status="ok"), Stage(status="ok"), [vectors, *results])


def test_a_model_configured_for_a_column_that_is_not_there_is_red(copy: Copy) -> None:
    failed = [
        r
        for r in answers(copy, models={"embeddings.embeding": "hashing-384@1"})
        if r.status == "fail"
    ]
    assert [(r.name, r.thing, r.value) for r in failed] == [
        ("model-current", "embeddings.embeding", "no such vector column")
    ]


def test_the_model_of_all_other_columns_and_the_longest_name_count(copy: Copy) -> None:
    models = {
        "*": "hashing-1536@1",
        "embeddings.embedding": "wrong@1",
        "public.embeddings.embedding": "hashing-384@1",
    }
    failed = {r.thing for r in answers(copy, models=models, embedder="") if r.status == "fail"}
    assert failed == {"hc_embeddings.embedding", "sales_playbooks.embedding"}


def test_neither_text_nor_vector_is_in_the_answers(copy: Copy) -> None:
    text = str(copy.one("SELECT content FROM embeddings ORDER BY id LIMIT 1"))
    copy.sql(QUIET, f"UPDATE embeddings SET embedding = embedding * {array(384, '-1')}")
    shown = "".join(result.model_dump_json() for result in copy.results(*FAMILIES))
    for word in (text[:20], "[0.", "[-0."):
        assert word not in shown


def test_a_column_without_vectors_needs_no_label(copy: Copy) -> None:
    copy.sql(
        'CREATE TABLE "new Things" (body text, "Vec" vector(3))',
        "CREATE TABLE plain (body text, v halfvec(3))",
        "INSERT INTO plain VALUES ('a text', NULL)",
    )
    assert copy.red(*FAMILIES) == {}
    copy.sql("INSERT INTO \"new Things\" VALUES ('a text', '[1,2,3]')")
    assert list(copy.red(*FAMILIES)) == ["model-label"]


def test_labels_of_halfvec_odd_names_and_partitions_are_written_and_read(copy: Copy) -> None:
    import psycopg

    made = Label(model="hashing-8", version="1", text_column="the Text")
    with psycopg.connect(copy.server.conninfo(DATABASE), autocommit=True) as connection:
        connection.execute(
            'CREATE SCHEMA odd; CREATE TABLE odd."T.1" ("the Text" text, "V""x" halfvec(8))'
        )
        connection.execute(
            'CREATE TABLE parted (k int, v vector(8), "the Text" text) PARTITION BY LIST (k)'
        )
        connection.execute("CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1)")
        connection.execute("COMMENT ON COLUMN parted.v IS 'It''s ours.\nKeep \\ this.'")
        set_label(connection, "parted", "v", made)
        labels = read_labels(connection)
        assert labels["public", "parted_1", "v"] == made
        assert labels["odd", "T.1", 'V"x'] is None
        row = connection.execute("SELECT col_description('parted'::regclass, 2)").fetchone()
        assert row is not None
        assert row[0].startswith("It's ours.\nKeep \\ this.\npgdrill: {")
        text = "a text of its own"
        vector = json.dumps(Embedder(8).embed(["a text of its own"])[0].tolist())
        connection.execute("INSERT INTO parted VALUES (1, %s::vector, %s)", (vector, text))
    models = {**copy.mould.stack.cluster.embeddings.models, "parted_1.v": "hashing-8@1"}
    parted = [r for r in answers(copy, models=models) if r.thing == "parted_1.v"]
    assert [(r.name, r.status) for r in parted if r.name != "stale-text"] == [
        ("model-label", "pass"),
        ("model-current", "pass"),
        ("canary", "pass"),
    ]


def test_halfvec_vectors_are_within_the_tolerance(copy: Copy) -> None:
    index = copy.one(
        "SELECT indexname FROM pg_indexes WHERE tablename = 'sales_playbooks' AND indexdef LIKE"
        " '%ivfflat%'"
    )
    copy.sql(
        f"DROP INDEX {index}",
        "ALTER TABLE sales_playbooks ALTER COLUMN embedding TYPE halfvec(384)",
    )
    found = {
        r.name: r.status for r in copy.results(*FAMILIES) if r.thing.startswith("sales_playbooks")
    }
    assert set(found.values()) == {"pass"}, found


def cli(copy: Copy, *words: str, user: str = "pgdrill") -> Result:
    stack = copy.mould.stack
    login = {"PGUSER": user, "PGPASSWORD": stack.passwords[user]}
    return CliRunner().invoke(app, ["label", *words], env={**stack.environment, **login})


def test_the_command_lists_labels_and_tells_the_owner_what_to_run(copy: Copy) -> None:
    listed = cli(copy, "agents", "--json")
    assert listed.exit_code == 0, listed.output
    found = {line["column"]: line["label"] for line in json.loads(listed.stdout)}
    assert found["public.hc_embeddings.embedding"] == "hashing-3072@1"
    assert "hashing-384@1" in cli(copy).stdout
    write = (
        "agents",
        "embeddings",
        "embedding",
        "--model",
        "hashing-384",
        "--model-version",
        "1",
        "--text-column",
        "content",
        "--updated-column",
        "updated_at",
    )
    refused = cli(copy, *write)
    assert refused.exit_code == 2
    assert "COMMENT ON COLUMN" in refused.stderr
    assert "PGUSER" not in refused.stderr, "server.dsn overrides it"
    printed = cli(copy, *write, "--sql")
    assert printed.stdout.startswith("COMMENT ON COLUMN"), printed.output
    with copy.mould.stack.connect() as connection:
        connection.execute(printed.stdout.encode())  # as its owner would by psql
    written = cli(copy, *write, user="postgres")  # what is there already: production is shared
    assert (written.exit_code, written.stderr) == (0, ""), written.output
    assert "labelled hashing-384@1" in written.stdout
    assert (
        cli(
            copy,
            "agents",
            "tenants",
            "name",
            "--model",
            "x",
            "--model-version",
            "1",
            user="postgres",
        ).exit_code
        == 2
    )
