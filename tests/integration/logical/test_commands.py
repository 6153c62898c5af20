"""The commands about dumps on a real server and store: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from pgdrill.cli import app
from pgdrill.retention.dumps import read_dumps
from tests.integration.logical.conftest import DATABASE, Source

GOOD, FAILED, COULD_NOT = 0, 1, 2
# Enough rows for a build's time to tell of a larger one's.
MANY = """
CREATE TABLE many (id int PRIMARY KEY, embedding vector(4));
INSERT INTO many SELECT i, array_agg(random_normal())::real[]::vector
  FROM generate_series(1, 2500) i, generate_series(1, 4) GROUP BY i;
CREATE INDEX many_hnsw ON many USING hnsw (embedding vector_l2_ops);
COMMENT ON COLUMN many.embedding IS 'pgdrill: {"model": "tiny", "version": "1"}';
"""


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Said]


@pytest.fixture(scope="module")
def here(source_server: Source) -> Iterator[Source]:
    """The server with a place for dumps of its own, and a table that is large enough to forecast
    from.
    """
    source_server.sql(MANY)
    # another place's reports would be known, and missed
    yield source_server.with_(drill={"work_directory": str(source_server.home / "commands")})
    source_server.sql("DROP TABLE many")


@pytest.fixture(scope="module")
def pgdrill(here: Source, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command; what it says never holds a key."""
    file = tmp_path_factory.mktemp("config") / "dr.toml"
    cluster = here.cluster.model_dump(mode="json", exclude_defaults=True)
    lines = []
    for name in ("server", "repository", "drill", "dump"):
        lines += [
            f"[clusters.agents.{name}]",
            *(f"{key} = {json.dumps(value)}" for key, value in cluster[name].items()),
        ]
    file.write_text("\n".join(lines))

    def run(*words: str) -> Said:
        result = CliRunner().invoke(
            app, list(words), env={**here.environment, "PGDRILL_CONFIG": str(file)}
        )
        assert here.environment["AWS_SECRET_ACCESS_KEY"] not in result.output
        return Said(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="module")
def before(pgdrill: Run) -> dict[str, Said]:
    """What is said while there is no dump."""
    return {
        "dumps": pgdrill("dumps"),
        "drill": pgdrill("drill", "--dump", "LATEST", "--json"),
        "forecast": pgdrill("forecast", "indexes", "--json"),
    }


@pytest.fixture(scope="module")
def taken(before: dict[str, Said], pgdrill: Run) -> str:
    """A dump that the command took; its id."""
    said = pgdrill("dump", "--json")
    assert said.code == GOOD, said
    assert said.data["cluster"] == "agents"
    return str(said.data["dump_id"])


@pytest.fixture(scope="module")
def drilled(taken: str, pgdrill: Run) -> Said:
    """Its restore."""
    return pgdrill("drill", "agents", "--dump", "LATEST", "--check", "vectors")


def test_without_a_dump_that_is_said_and_is_no_success_where_one_is_needed(
    before: dict[str, Said],
) -> None:
    assert (before["dumps"].code, before["dumps"].out[:10]) == (GOOD, "No dump in")
    assert (before["drill"].code, before["drill"].data["error"]["reason"]) == (COULD_NOT, "no-dump")
    assert (before["forecast"].code, before["forecast"].data["error"]["reason"]) == (
        COULD_NOT,
        "no-build",
    )


def test_a_dump_of_a_database_that_is_not_there_could_not_be_done(taken: str, pgdrill: Run) -> None:
    said = pgdrill("dump", "agents", "--database", "nowhere")
    assert said.code == COULD_NOT
    assert "nowhere" in said.err
    assert [one["dump_id"] for one in pgdrill("dumps", "--json").data] == [taken]


def test_a_dump_counts_once_the_drill_from_it_has_passed(
    drilled: Said, taken: str, pgdrill: Run
) -> None:
    assert (drilled.code, drilled.out[:6]) == (GOOD, "PASSED")
    assert [
        (one["dump_id"], one["counts"], one["databases"]) for one in pgdrill("dumps", "--json").data
    ] == [(taken, True, [DATABASE])]
    shown = pgdrill("dumps").out
    assert taken in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_builds_of_a_drill_are_what_a_forecast_is_made_from(
    drilled: Said, pgdrill: Run
) -> None:
    (told,) = pgdrill("forecast", "indexes", "--rows", "10000", "--json").data
    assert (told["index"], told["rows"], told["from_rows"], told["error"]) == (
        "public.many_hnsw",
        10_000,
        2500,
        0.25,
    )
    assert 0 < told["seconds"] < 600
    assert told["needed_bytes"] > 10_000 * 4 * 4
    shown = pgdrill("forecast", "indexes", "--index", "public.many_hnsw")
    assert (shown.code, "many_hnsw" in shown.out) == (GOOD, True)
    assert pgdrill("forecast", "indexes", "--index", "public.items_hnsw").code == COULD_NOT, (
        "1200 rows tell nothing"
    )


def test_a_dump_that_was_damaged_in_the_store_fails_and_counts_no_more_until_it_passes_again(
    drilled: Said, taken: str, here: Source, pgdrill: Run
) -> None:
    name = f"{taken}/agents.dump"
    content = here.access.dumps.read(name)
    assert content
    here.access.dumps.write(name, content[:-1])
    said = pgdrill("drill", "--dump", "LATEST", "--json")
    here.access.dumps.write(name, content)
    assert (said.code, said.data["verdict"], said.data["reason"]) == (
        FAILED,
        "failed",
        "restore: dump-damaged",
    )
    (one,) = pgdrill("dumps", "--json").data
    assert (one["counts"], one["verdict"]) == (False, "failed")
    (seen,) = read_dumps(here.access.dumps)
    assert seen.damage == "its last restore found it damaged", "nor does retention count it"
    assert pgdrill("drill", "--dump", "LATEST", "--check", "vectors").code == GOOD
    assert pgdrill("dumps", "--json").data[0]["counts"] is True


def test_a_migration_that_works_is_told_statement_by_statement(
    drilled: Said, taken: str, pgdrill: Run, tmp_path: Path
) -> None:
    (tmp_path / "001.sql").write_text("ALTER TABLE orders ALTER COLUMN id TYPE bigint;")
    said = pgdrill("migrate", "--dump", taken, "--migrations", str(tmp_path), "--json")
    assert said.code == GOOD, said
    (statement,) = said.data["statements"]
    assert statement["strongest"] == {"relation": "orders", "mode": "AccessExclusiveLock"}
    assert "orders" in statement["rewritten"]
    assert [one["counts"] for one in pgdrill("dumps", "--json").data] == [True]


def test_a_migration_that_fails_names_file_line_and_words_and_is_a_failure(
    drilled: Said, pgdrill: Run, tmp_path: Path
) -> None:
    (tmp_path / "001.sql").write_text("SELECT 1;\nALTER TABLE nowhere ADD COLUMN a int;\n")
    said = pgdrill("migrate", "--migrations", str(tmp_path))
    assert (said.code, said.out[:6]) == (FAILED, "FAILED")
    assert "001.sql:2" in said.out
    assert 'relation "nowhere" does not exist' in " ".join(said.out.split())
    assert pgdrill("migrate", "--migrations", str(tmp_path / "nothing")).code == COULD_NOT


def test_a_single_table_comes_back_where_a_person_says_and_never_over_another(
    taken: str, source_server: Source, pgdrill: Run
) -> None:
    source_server.sql("CREATE DATABASE elsewhere", database="postgres")
    source_server.sql(
        "CREATE ROLE restorer LOGIN; ALTER DATABASE elsewhere OWNER TO restorer",
        database="postgres",
    )
    words = (
        "restore-table",
        "--table",
        "many",
        "--into",
        f"host={source_server.home} user=restorer dbname=elsewhere",
    )
    try:
        lacking = pgdrill(*words, "--json")
        assert (lacking.code, lacking.data["error"]["reason"]) == (COULD_NOT, "no-extension")
        source_server.sql("CREATE EXTENSION vector", database="elsewhere")
        restored = pgdrill(*words, "--json")
        assert (restored.code, restored.data["rows"], restored.data["dump_id"]) == (
            GOOD,
            2500,
            taken,
        )
        again = pgdrill(*words, "--json")
        assert (again.code, again.data["error"]["reason"]) == (COULD_NOT, "table-exists")
        assert "2500 rows, compared with the dump's snapshot" in pgdrill(*words, "--replace").out
    finally:
        source_server.sql("DROP DATABASE elsewhere", database="postgres")
        source_server.sql("DROP ROLE restorer", database="postgres")
