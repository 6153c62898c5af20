"""Production is gone: the backup's record is of an earlier time, and proves only what nobody can
have changed since.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.baseline import backup_record
from pgdrill.checks import FAMILIES, FOREIGN_FAMILIES
from pgdrill.drill import check_stage, destroy_stage, new_drill_id, restore_stage
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import CheckResult, Report
from pgdrill.verify import verify
from pgdrill_demo.stack import Stack, preferred_tool
from tests.integration.jobs.test_archive_ends import archive, gone

# the tables here are nobody's application's
ASKED = [family for family in FAMILIES if family not in ("embeddings", "own")]
BEFORE = """
CREATE TABLE dropped_later (n int);
CREATE TABLE truncated_later AS SELECT 1 AS n;
CREATE TABLE with_trigger (n int);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER t BEFORE INSERT ON with_trigger FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE SEQUENCE set_back_later;
SELECT setval('set_back_later', 1000);
CREATE ROLE dropped_role;
COMMENT ON TABLE agents IS 'removed later';
COMMENT ON FUNCTION pg_sleep(float8) IS 'removed later, too';
CREATE TABLE vectors_later (id int, v vector(3));
INSERT INTO vectors_later SELECT i, ARRAY[i, 1, 2]::vector FROM generate_series(1, 50) i;
CREATE TABLE zeros_later (id int, v vector(3));
INSERT INTO zeros_later SELECT i, ARRAY[i, 1, 2]::vector FROM generate_series(1, 50) i;
"""
SINCE = """
ALTER TABLE agents ADD COLUMN since_then int DEFAULT 7;
UPDATE agents SET name = name || '!';
DROP TABLE dropped_later;
TRUNCATE truncated_later;
CREATE TABLE made_since AS SELECT generate_series(1, 10) AS n;
DROP TRIGGER t ON with_trigger;
ALTER SEQUENCE set_back_later RESTART WITH 5;
DROP ROLE dropped_role;
CREATE ROLE made_role;
COMMENT ON TABLE agents IS NULL;
COMMENT ON FUNCTION pg_sleep(float8) IS NULL;
DROP TABLE vectors_later;
UPDATE zeros_later SET v = '[0,0,0]' WHERE id <= 3;
DROP INDEX embeddings_hnsw_idx;
CREATE INDEX another_index ON agents (name);
ALTER DATABASE agents SET hnsw.ef_search = 77;
GRANT SELECT ON with_trigger TO made_role;
"""


@pytest.fixture(scope="module")
def stack_then() -> Iterator[Stack]:
    """Production whose base backup is older than its last changes; they are archived."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
    try:
        stack.create(scale=0.05)
        stack.primary.options["autovacuum"] = "off"  # type: ignore[index]
        stack.start()
        with stack.connect() as connection:
            connection.execute("SET search_path = public")
            connection.execute(BEFORE)
            connection.execute("CREATE DATABASE dropped_database")
        take_backup(stack.access)
        archive(stack)
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def changed(stack_then: Stack) -> Stack:
    with stack_then.connect() as connection:
        connection.execute(SINCE)
        connection.execute("VACUUM with_trigger")
        connection.execute("DROP DATABASE dropped_database")
    archive(stack_then)
    return stack_then


def red(report: Report) -> list[str]:
    return [
        f"{r.name} {r.thing}: {r.value} ({r.threshold}) {r.message}"
        for r in report.results
        if r.status == "fail"
    ]


def found(report: Report, name: str, status: str) -> list[CheckResult]:
    return [r for r in report.results if r.name == name and r.status == status]


def asked(access: Access, *damage: str) -> Report:
    """Restored without production, then changed by these statements, then asked."""
    drill_id = new_drill_id()
    try:
        report = restore_stage(access, drill_id)
        assert report.restore.status == "ok", report.restore.trouble
        with Workspace.of(access, drill_id).server(access).connect("agents") as connection:
            connection.autocommit = True
            for statement in damage:
                connection.execute(statement)
        return check_stage(access, drill_id, families=ASKED)
    finally:
        destroy_stage(access, drill_id)


def test_with_nothing_written_since_the_backup_all_of_the_record_is_compared(
    stack_then: Stack,
) -> None:
    access = gone(stack_then)
    report = asked(access)
    assert not red(report)
    assert report.verdict == "passed", report.reason
    assert not [r for r in report.results if "cannot be told without production" in r.message]
    report = asked(
        access,
        "DROP INDEX embeddings_hnsw_idx",
        "DROP TABLE dropped_later",
        "SELECT setval('set_back_later', 3)",
    )
    assert {line.split()[0] for line in red(report)} >= {
        "catalogs",
        "vector-indexes",
        "table-content",
        "sequence-positions",
    }


def test_with_rows_written_and_no_catalog_since_the_backup_wal_says_so_and_catalogs_are_compared(
    stack_then: Stack,
) -> None:
    with stack_then.connect() as connection:
        connection.execute("INSERT INTO truncated_later SELECT generate_series(1, 1000)")
        connection.execute("UPDATE agents SET name = name || '?'")
    archive(stack_then)
    access = gone(stack_then)
    report = asked(access)
    assert not red(report)
    assert report.verdict == "passed", report.reason
    assert report.restored
    assert report.restored.catalogs_untouched
    report = asked(
        access, "DROP INDEX embeddings_hnsw_idx", "ALTER DATABASE agents SET hnsw.ef_search = 12"
    )
    assert {line.split()[0] for line in red(report)} >= {
        "catalogs",
        "vector-indexes",
        "search-settings",
    }


def test_what_was_changed_since_the_backup_is_no_damage_when_production_is_gone(
    changed: Stack,
) -> None:
    report = asked(gone(changed))
    assert not red(report)
    assert report.verdict == "passed", report.reason
    missing = [r for r in found(report, "catalogs", "warn") if r.value == "missing"]
    assert any("dropped_later" in r.thing for r in missing)
    assert all("compared with the backup's record of" in r.message for r in missing), "in words"
    assert found(report, "vector-values", "warn")
    assert found(report, "vector-indexes", "warn")
    assert found(report, "sequence-positions", "warn")


def test_what_nobody_wrote_since_is_damage_all_the_same(changed: Stack) -> None:
    report = asked(
        gone(changed),
        "ALTER TABLE embeddings ALTER embedding SET STATISTICS 7",
        "UPDATE pg_proc SET procost = 77 WHERE proname = 'nothing'",
        "CREATE TABLE nobodys (n int)",
    )
    lines = "\n".join(red(report))
    assert "nothing()" in lines
    assert "nobodys" in lines
    assert report.verdict == "failed"


def test_verify_with_a_backups_record_takes_no_change_since_for_damage_either(
    changed: Stack,
) -> None:
    access, drill_id = gone(changed), new_drill_id()
    kept = backup_record.read(access.reports, access.repository.backups()[-1].name)
    assert kept
    try:
        restored = restore_stage(access, drill_id)
        assert restored.restored
        socket = restored.restored.socket_directory
        with psycopg.connect(
            host=socket, user="postgres", dbname="agents", autocommit=True
        ) as connection:
            connection.execute("ALTER ROLE pgdrill PASSWORD NULL")
        answer = verify(
            access,
            f"host={socket} user=pgdrill",
            baseline=kept.baseline,
            families=[family for family in ASKED if family in FOREIGN_FAMILIES],
        )
        bad = [
            f"{r.name} {r.thing} {r.value} {r.message}"
            for r in answer.results
            if r.status == "fail"
        ]
        assert not bad
    finally:
        destroy_stage(access, drill_id)
