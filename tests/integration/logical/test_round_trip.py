"""A dump comes back whole: rows, large objects, policies, partitions, roles, vector search."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

import psycopg
import pytest

from pgdrill.errors import BackupFault, ConfigError
from pgdrill.host.process import Runner
from pgdrill.logical import checks, manifest, store
from pgdrill.logical.build_forecast import forecast
from pgdrill.logical.drill import context_of
from pgdrill.logical.pg_restore import Restore
from pgdrill.logical.report import DumpTimings
from pgdrill.logical.single_table import Allowed, restore_table
from pgdrill.postgres.wal import parse_lsn
from pgdrill.recovery.workspace import Workspace
from tests.integration.logical.conftest import DATABASE, Source, explained, red


def test_a_dump_counts_once_it_has_been_restored_and_checked(source: Source) -> None:
    source.dump()
    before = store.listed(source.access)
    assert [one.counts for one in before] == [False]
    report = source.drill()
    assert report.verdict == "passed", explained(report)
    assert [one.counts for one in store.listed(source.access)] == [True]
    # Every question of a physical drill has an answer, or a reason why it was not asked.
    skipped = {one.name: one.message for one in report.results if one.status == "skip"}
    assert {"table-content", "catalogs", "target-reached"} <= set(skipped)
    assert all(skipped.values())
    assert any("by_mood" in one.thing for one in report.results if one.value == "not asked")
    builds = {build.index: build for build in report.builds}
    assert set(builds) == {"public.items_hnsw", "public.wide_hnsw"}
    assert (
        builds["public.items_hnsw"].rows,
        builds["public.items_hnsw"].m,
        builds["public.items_hnsw"].fits,
    ) == (1200, 8, True)
    assert report.timings.rows == 1200 + 20 + 400 + 2 + 50 + 5 + 3
    assert report.timings.rows_per_second


def test_the_manifest_says_what_was_dumped_and_how_and_holds_no_row(dumped: Source) -> None:
    made = manifest.choose(dumped.access, "LATEST")
    one = made.databases[0]
    assert one.extensions["vector"] == "0.8.6"
    assert one.labels == {"public.items.embedding": "tiny@1", "public.wide.embedding": "wide@2"}
    assert one.large_objects.rows == 2
    assert made.server_version == made.pg_dump_version.split()[-1] == "18.6"
    assert parse_lsn(one.snapshot_lsn) > 0
    content = dumped.access.dumps.read(f"{made.dump_id}/agents.dump") or b""
    assert [(file.bytes, file.sha256) for file in one.files] == [
        (len(content), hashlib.sha256(content).hexdigest())
    ]
    assert one.command[1:4] == ["--format=custom", "--compress=gzip:1", one.command[3]]
    assert not any("extension" in word for word in one.command), "it would leave out large objects"
    assert not made.from_standby
    assert one.stored_bytes == dumped.objects()[f"{made.dump_id}/agents.dump"]
    text = made.model_dump_json()
    for secret in ("row-content-nobody-may-see", "app-secret-word", "item 7"):
        assert secret not in text
    roles = dumped.access.dumps.read(f"{made.dump_id}/globals.sql")
    assert roles is not None
    assert b"CREATE ROLE app" in roles
    assert b"PASSWORD" not in roles


DAMAGE = {
    "dump-rows": {
        "UPDATE secrets SET body = 'other' WHERE id = 2": "public.secrets other content",
        "UPDATE items SET embedding = (SELECT embedding FROM items WHERE id = 8) WHERE id = 7": (
            "public.items other content"
        ),
        "DELETE FROM log_2025 WHERE id = 3": "public.log_2025",
        "DROP TABLE orders": "public.orders no such table",
        "ALTER TABLE scratch RENAME n TO m": "public.scratch no column 'n'",
    },
    "dump-large-objects": {"SELECT lo_put(4711, 7, '\\x99')": "agents 2 other content"},
    "dump-sequences": {
        "SELECT setval('odd', 9001)": "public.odd 9001",
        "DROP SEQUENCE never": "public.never no such sequence",
    },
    "dump-definitions": {
        "ALTER TABLE secrets DISABLE ROW LEVEL SECURITY": "ROW SECURITY public.secrets missing",
        "DROP INDEX items_hnsw": "INDEX public.items_hnsw missing",
        "ALTER POLICY own ON secrets USING (true)": "POLICY public.secrets own changed",
        "REVOKE SELECT ON log FROM reader": "ACL public.TABLE log",
        "COMMENT ON LARGE OBJECT 4711 IS NULL": "",  # not a definition: its content is what counts
    },
    "dump-extensions": {
        "UPDATE pg_extension SET extversion = '0.7.0' WHERE extname = 'vector'": (
            "agents.vector 0.7.0"
        )
    },
    "dump-roles": {
        "REVOKE reader FROM app": "GRANT reader TO app",
        "ALTER ROLE reader RESET statement_timeout": "statement_timeout",
    },
}


def test_what_differs_from_the_snapshot_is_red_and_named(dumped: Source) -> None:
    """A restored cluster, proved clean, then damaged in every way."""
    report = dumped.drill(keep=True, families=("vectors",))
    workspace = Workspace.of(dumped.access, report.drill_id)
    try:
        assert red(report) == {}, explained(report)
        server = workspace.server(dumped.access)
        with server.system() as superuser:
            assert (
                superuser.execute(
                    "SELECT rolname FROM pg_roles WHERE rolname ~"
                    " '^pgdrill_(asks|tenant|application)_'"
                ).fetchall()
                == []
            )
        for statements in DAMAGE.values():
            for statement in statements:
                with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as connection:
                    connection.execute(statement)
        made = manifest.read(dumped.access, report.dump_id)
        work = Restore(
            dumped.access, made, workspace.directory / "dump", server, Runner(), DumpTimings()
        )
        report.results = list(checks.ask(context_of(work), ("vectors",)))
    finally:
        workspace.destroy()
    found = red(report)
    for name, statements in DAMAGE.items():
        for statement, thing in statements.items():
            assert any(thing in answer for answer in found[name]), (name, statement, found[name])
    assert "vector-values" not in found


def test_a_directory_dump_is_taken_and_restored_in_parallel_with_passwords_if_asked(
    source: Source,
) -> None:
    source.more = {
        "dump": {"format": "directory", "jobs": 2, "compression": "none", "role_passwords": True}
    }
    source.sql("ALTER ROLE app VALID UNTIL '2030-01-01'")
    made = source.dump()
    assert len(made.databases[0].files) > 10
    assert not list((source.access.cluster.state_directory / "dumping").iterdir())
    report = source.drill(families=("vectors",))
    source.sql("ALTER ROLE app VALID UNTIL 'infinity'")
    assert report.verdict == "passed", explained(report)
    assert "SCRAM" not in report.model_dump_json()


def test_an_index_that_does_not_fit_into_memory_is_said_before_it_is_built(
    dumped: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source = replace(dumped, more={**dumped.more, "dump": {"maintenance_work_mem_bytes": 200_000}})
    with caplog.at_level(logging.INFO, logger="pgdrill"):
        report = source.drill(families=("vectors",))
    assert report.verdict == "passed", explained(report)
    builds = {build.index: build for build in report.builds}
    items = builds["public.items_hnsw"]
    assert (items.fits, items.maintenance_work_mem_bytes) == (False, 200_000)
    assert items.needed_bytes > 200_000
    assert any(
        note.startswith("public.items_hnsw") and "does not fit" in note for note in report.notes
    )
    said = [
        record.getMessage()
        for record in caplog.records
        if "public.items_hnsw" in record.getMessage()
    ]
    assert "does not fit" in said[0]
    assert next(n for n, text in enumerate(said) if "rows in" in text) > 0
    assert forecast(report.builds, "public.items_hnsw", 10_000) is None, (
        "a build that overflowed tells nothing of others"
    )


def test_a_cluster_without_vectors_is_dumped_and_its_restore_says_that_no_search_was_proved(
    source: Source,
) -> None:
    source.sql("CREATE DATABASE plain", database="postgres")
    try:
        source.sql("CREATE TABLE t AS SELECT generate_series(1, 9) AS n", database="plain")
        source.more = {"dump": {"databases": ["plain"]}}
        source.dump()
        report = source.drill()
    finally:
        source.sql("DROP DATABASE plain", database="postgres")
    assert (report.verdict, report.reason) == ("could not verify", "checks: no-vectors")
    assert red(report) == {}


class TestASingleTable:
    """Out of a dump into a database that a person names."""

    @pytest.fixture
    def there(self, dumped: Source) -> str:
        dumped.sql("DROP DATABASE IF EXISTS target", database="postgres")
        dumped.sql("CREATE DATABASE target", database="postgres")
        dumped.sql(
            "CREATE EXTENSION vector; CREATE TYPE mood AS ENUM ('good', 'bad'); GRANT CREATE ON"
            " SCHEMA public TO app",
            database="target",
        )
        return f"host={dumped.home} user=app dbname=target"

    def test_it_comes_with_its_rows_indexes_and_identity(self, dumped: Source, there: str) -> None:
        result = restore_table(dumped.access, there, "items")
        assert (result.rows, result.tables) == (1200, ("public.items",))
        assert result.left_out["TRIGGER"] == 1
        names = {
            row[0]
            for row in dumped.sql(
                "SELECT indexname FROM pg_indexes WHERE tablename = 'items'", database="target"
            )
        }
        assert names == {"items_pkey", "items_hnsw", "items_name"}
        dumped.sql(
            "INSERT INTO items (name, embedding) SELECT 'new', embedding FROM items LIMIT 1",
            database="target",
        )
        assert dumped.sql("SELECT max(id) FROM items", database="target") == [(1201,)]

    def test_a_partitioned_one_comes_with_its_partitions(self, dumped: Source, there: str) -> None:
        result = restore_table(dumped.access, there, "public.log")
        assert (result.rows, set(result.tables)) == (
            400,
            {"public.log", "public.log_2025", "public.log_2026"},
        )
        assert dumped.sql("SELECT count(*) FROM log WHERE what = 'row 7'", database="target") == [
            (1,)
        ]

    def test_nothing_is_written_over_unless_told(self, dumped: Source, there: str) -> None:
        dumped.sql(
            "CREATE TABLE items AS SELECT 1 AS mine; ALTER TABLE items OWNER TO app",
            database="target",
        )
        with pytest.raises(ConfigError, match="nothing is written over"):
            restore_table(dumped.access, there, "items")
        assert dumped.sql("SELECT mine FROM items", database="target") == [(1,)]
        assert (
            restore_table(dumped.access, there, "items", allowed=Allowed(replace=True)).rows == 1200
        )

    def test_one_that_fails_leaves_nothing_and_what_was_there_stays(
        self, dumped: Source, there: str
    ) -> None:
        dumped.sql(
            "DROP TYPE mood; CREATE TABLE items AS SELECT 1 AS mine; ALTER TABLE items OWNER"
            " TO app",
            database="target",
        )
        with pytest.raises(BackupFault, match=r'type "public\.mood" does not exist'):
            restore_table(dumped.access, there, "items", allowed=Allowed(replace=True))
        assert dumped.sql("SELECT mine FROM items", database="target") == [(1,)]

    def test_an_unknown_one_is_answered_with_those_that_are_like_it(
        self, dumped: Source, there: str
    ) -> None:
        with pytest.raises(ConfigError, match=r"public\.items"):
            restore_table(dumped.access, there, "other.items")


def test_a_password_in_the_target_is_refused(dumped: Source) -> None:
    with pytest.raises(ConfigError, match="PGPASSWORD"):
        restore_table(dumped.access, "host=/tmp dbname=x password=y", "items")
    with pytest.raises((ConfigError, psycopg.Error, Exception), match="connection"):
        restore_table(dumped.access, "host=/nowhere dbname=x", "items")
