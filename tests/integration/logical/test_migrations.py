"""A schema migration is rehearsed on a restored dump before production sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pgdrill.errors import ConfigError
from pgdrill.host.process import Runner
from pgdrill.logical import manifest, store
from pgdrill.logical.drill import Options, rehearse_migrations
from pgdrill.logical.pg_restore import Restore
from pgdrill.logical.report import DumpReport, DumpTimings, StatementRun
from pgdrill.recovery.workspace import Workspace
from tests.integration.logical.conftest import DATABASE, Source, explained, red

Rehearse = Callable[..., DumpReport]
MOULD = "mould"


@pytest.fixture(scope="module")
def restored(dumped: Source) -> Iterator[Restore]:
    """The dump, restored once; each test migrates a copy of its database."""
    report = dumped.drill(keep=True, families=("vectors",))
    workspace = Workspace.of(dumped.access, report.drill_id)
    try:
        assert report.verdict == "passed", explained(report)
        server = workspace.server(dumped.access)
        with server.connect() as connection:
            connection.execute(f"ALTER DATABASE {DATABASE} RENAME TO {MOULD}")
        yield Restore(
            dumped.access,
            manifest.read(dumped.access, report.dump_id),
            workspace.directory,
            server,
            Runner(),
            DumpTimings(),
        )
    finally:
        workspace.destroy()


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def rehearse(restored: Restore, tmp_path: Path) -> Rehearse:
    """``rehearse({"001.sql": "…"})``: what a drill does with migrations once the dump is
    restored."""
    with restored.server.connect() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {MOULD} STRATEGY file_copy")

    def run(files: dict[str, str], may_change: tuple[str, ...] = ()) -> DumpReport:
        report = DumpReport(
            drill_id="d", dump_id="x", cluster="agents", started_at=datetime.now(UTC)
        )
        rehearse_migrations(
            restored, report, Options(migrations=write(tmp_path, files), may_change=may_change)
        )
        return report

    return run


def by_line(report: DumpReport) -> dict[str, StatementRun]:
    return {f"{run.file}:{run.line}": run for run in report.statements}


def test_locks_seconds_and_rewrites_are_told_of_each_statement(
    dumped: Source, tmp_path: Path
) -> None:
    folder = write(
        tmp_path,
        {
            "001_columns.sql": (
                "-- a column with a constant default rewrites nothing\nALTER TABLE items ADD COLUMN"
                " stock int DEFAULT 0;\n/* a ; here */ COMMENT ON TABLE items IS 'a; b';\n"
            ),
            "002_types.sql": (
                "BEGIN;\nALTER TABLE log ALTER COLUMN what TYPE varchar(80);\n\nALTER TABLE orders"
                " ALTER COLUMN id TYPE bigint;\nSELECT $q$a; b$q$;\nCOMMIT;\n"
            ),
            "003_index.sql": (
                "CREATE INDEX CONCURRENTLY items_price ON items (price);\nVACUUM orders;\nUPDATE"
                " items SET stock = 1 WHERE id < 5;\n"
            ),
        },
    )
    # its trigger sets `at`
    report = dumped.drill(migrations=folder, families=("vectors",), may_change=("items",))
    assert report.migrated
    assert not store.Listed(report.dump_id, (report,)).counts, "a rehearsal proves no dump"
    assert report.verdict == "passed", explained(report)
    runs = by_line(report)
    added = runs["001_columns.sql:2"]
    assert added.strongest
    assert (added.strongest.mode, added.strongest.relation, added.rewritten) == (
        "AccessExclusiveLock",
        "items",
        [],
    )
    comment = runs["001_columns.sql:3"].strongest
    assert comment
    assert comment.mode == "ShareUpdateExclusiveLock"
    wider = runs["002_types.sql:4"]
    assert wider.strongest
    assert wider.strongest.mode == "AccessExclusiveLock"
    assert {"orders", "orders_pkey"} <= set(wider.rewritten)
    concurrent = runs["003_index.sql:1"]
    assert not concurrent.transactional
    assert concurrent.strongest is None or concurrent.strongest.mode == "ShareUpdateExclusiveLock"
    written = runs["003_index.sql:3"].strongest
    assert written
    assert written.mode == "RowExclusiveLock"
    kept = {one.thing: one.status for one in report.results if one.name == "data-kept"}
    assert kept["public.orders.id"] == "warn", "retyped"
    assert any(
        one.name == "index-recall (migrated)" and one.status == "pass" for one in report.results
    )
    assert all(run.seconds >= 0 for run in report.statements)


def test_a_failing_statement_is_named_with_file_line_and_words_but_no_value(
    rehearse: Rehearse,
) -> None:
    report = rehearse(
        {
            "001.sql": "SELECT 1;\n",
            "002.sql": (
                "SELECT 1;\n\nALTER TABLE items\n  ADD COLUMN a int,\n  ADD CONSTRAINT c CHECK"
                " (nowhere > 1);\nSELECT 'never reached';\n"
            ),
        }
    )
    failing = next(one for one in report.results if one.name == "migration")
    assert (failing.thing, failing.status, failing.value) == ("002.sql:3", "fail", "42703")
    assert 'column "nowhere" does not exist' in failing.message
    assert len(report.statements) == 2


def test_lost_and_changed_rows_are_red_and_a_dropped_column_is_said(rehearse: Rehearse) -> None:
    report = rehearse(
        {
            "001.sql": (
                "DELETE FROM log WHERE id = 3; UPDATE items SET name = name || '!' WHERE id = 5;"
                " DROP TABLE wide; ALTER TABLE secrets DROP COLUMN body; UPDATE orders SET item ="
                " item;"
            )
        }
    )
    found = red(report)["data-kept"]
    # The table's own trigger sets `at` as well.
    assert [answer.split()[0] for answer in found] == [
        "public.items.name",
        "public.items.at",
        "public.log_2025",
        "public.wide",
    ]
    assert [
        one.thing for one in report.results if one.name == "data-kept" and one.status == "warn"
    ] == ["public.secrets.body"]


def test_what_may_change_is_a_warning(rehearse: Rehearse) -> None:
    report = rehearse({"001.sql": "DELETE FROM log WHERE id = 3"}, may_change=("log_2025",))
    assert red(report) == {}
    assert [one.thing for one in report.results if one.status == "warn"] == ["public.log_2025"]


def test_a_transaction_left_open_is_red(rehearse: Rehearse) -> None:
    assert (
        "a transaction left open" in red(rehearse({"001.sql": "BEGIN; SELECT 1;"}))["migration"][0]
    )


ENV = """
from alembic import context
from sqlalchemy import create_engine
if not context.is_offline_mode():
    raise SystemExit("this would connect")
context.configure(url="postgresql://", literal_binds=True)
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{new}", {old}
def upgrade():
    op.add_column("items", sa.Column("{name}", sa.Integer()))
def downgrade():
    op.drop_column("items", "{name}")
"""


ALEMBIC = {
    "alembic.ini": "[alembic]\nscript_location = %(here)s/scripts\n",
    "scripts/env.py": ENV,
    "scripts/versions/a.py": REVISION.format(new="a1", old=None, name="first"),
    "scripts/versions/b.py": REVISION.format(new="b2", old='"a1"', name="second"),
}


def test_alembic_goes_on_from_the_revision_that_was_dumped(
    rehearse: Rehearse, restored: Restore
) -> None:
    pytest.importorskip("alembic")
    with restored.server.connect(DATABASE) as connection:
        connection.execute(
            "CREATE TABLE public.alembic_version (version_num varchar(32) PRIMARY KEY)"
        )
        connection.execute("INSERT INTO public.alembic_version VALUES ('a1')")
    report = rehearse(ALEMBIC)
    assert red(report) == {}, "its own table changes with every migration"
    assert [run.words for run in report.statements if "ALTER" in run.words] == [
        "ALTER TABLE items ADD COLUMN second INTEGER"
    ]
    assert {run.file for run in report.statements} == {"alembic upgrade a1:head"}


def test_alembic_s_migrations_are_run_as_the_sql_they_would_be(rehearse: Rehearse) -> None:
    pytest.importorskip("alembic")
    report = rehearse(ALEMBIC)
    assert red(report) == {}
    assert [run.words for run in report.statements if "ALTER" in run.words] == [
        "ALTER TABLE items ADD COLUMN first INTEGER",
        "ALTER TABLE items ADD COLUMN second INTEGER",
    ]


def test_a_folder_without_migrations_is_refused_before_anything_is_restored(
    dumped: Source, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"no \.sql file"):
        dumped.drill(migrations=tmp_path)
    (tmp_path / "1.sql").write_text("\\copy t from 'x'")
    with pytest.raises(ConfigError, match="psql's own command"):
        dumped.drill(migrations=tmp_path)
