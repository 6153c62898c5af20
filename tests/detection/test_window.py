"""What was written, rewritten or altered right around the restore point is compared like everything else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from pgdrill import store
from pgdrill.asking import checking, settled
from pgdrill.backup import take_backup
from pgdrill.baseline import Baseline
from pgdrill.baseline.bracket import Bracket
from pgdrill.checks import Context, run_checks
from pgdrill.drill import drill
from pgdrill.postgres.server import LocalServer
from pgdrill.report import CheckResult, Report
from pgdrill.workspace import Workspace
from pgdrill_demo.stack import DATABASE, Stack, preferred_tool
from tests.copies import server_on_copy
from tests.damage.small import SmallStack

ROWS = 8145
VECTOR = "ARRAY[sin({0}), cos({0}), sin({0} * 3), cos({0} * 3)]::vector"
TABLES = ("quiet", "full_before", "grown_before", "retyped_before", "updated_before", "fresh", "deleted_just_then", "full_just_then",
          "full_after", "grown_after", "shrunk_after", "retyped_after", "renamed_after", "busy_after", "emptied_after")  # fmt: skip
MADE = """
CREATE TABLE {name} (id int PRIMARY KEY, title text NOT NULL, old int, v vector(4)) WITH (autovacuum_enabled = off);
INSERT INTO {name} SELECT g, md5(g::text), g, {vector} FROM generate_series(1, {rows}) g;
COMMENT ON COLUMN {name}.v IS 'pgdrill: {{"model": "made", "version": "1", "text_column": "title"}}';
"""
BEFORE = (  # after production's catalogs were read, before the first snapshot
    "DELETE FROM full_before WHERE id % 7 = 0", "VACUUM FULL full_before",
    "ALTER TABLE grown_before ADD COLUMN more int DEFAULT 7",
    "ALTER TABLE retyped_before ADD COLUMN more float DEFAULT random()",
    f"UPDATE updated_before SET v = {VECTOR.format('id + 0.5')} WHERE id <= 30",
    f"INSERT INTO fresh SELECT g, md5(g::text), g, {VECTOR.format('g')} FROM generate_series({ROWS + 1}, {ROWS + 400}) g",
)  # fmt: skip
JUST_THEN = (  # between both snapshots, before the restore point
    "DELETE FROM deleted_just_then WHERE id IN (5, 500, 5000)", "UPDATE deleted_just_then SET old = 0 WHERE id = 77",
    "VACUUM FULL full_just_then",
)  # fmt: skip
AFTER = (  # when both were made, before anything was read
    "VACUUM FULL full_after", "ALTER TABLE grown_after ADD COLUMN more int DEFAULT 7", "ALTER TABLE shrunk_after DROP COLUMN old",
    "ALTER TABLE retyped_after ALTER COLUMN old TYPE bigint", "ALTER TABLE renamed_after RENAME COLUMN title TO name",
    "UPDATE busy_after SET title = title || 'x' WHERE id % 3 = 0", "TRUNCATE emptied_after",
)  # fmt: skip
COMPARED = set(TABLES) - {"retyped_after", "emptied_after"}  # those two: their rows are nowhere on production any more


@dataclass
class Drilled:
    """A drill with all of that in its way, its stopped copy, and the baseline to compare with."""

    stack: Stack
    report: Report
    baseline: Baseline
    folder: Path
    idle: list[Path] = field(default_factory=list)

    @contextmanager
    def copy(self) -> Iterator[LocalServer]:
        with server_on_copy(self.folder, self.stack, self.idle) as server:
            server.start()
            yield server

    def asked(self, server: LocalServer) -> list[CheckResult]:
        context = Context(cluster=self.stack.cluster, connect=checking(lambda name: server.connect(name, autocommit=False), 60),
                          databases=(DATABASE,), baseline=self.baseline.model_copy(deep=True), settle=lambda: True)  # fmt: skip
        return list(run_checks(context, ("rows",)))


def executing(stack: Stack, statements: tuple[str, ...]) -> None:
    with stack.connect() as connection:
        for statement in statements:
            connection.execute(statement)


def in_between(patch: pytest.MonkeyPatch, stack: Stack) -> None:
    """Real statements on production, at three instants that nobody else could hit."""
    begin, end = Bracket.begin, Bracket.end

    def begun(bracket: Bracket, primary: psycopg.Connection) -> None:
        executing(stack, BEFORE)
        begin(bracket, primary)
        executing(stack, JUST_THEN)

    def ended(bracket: Bracket, primary: psycopg.Connection) -> None:
        end(bracket, primary)
        executing(stack, AFTER)

    patch.setattr(Bracket, "begin", begun)
    patch.setattr(Bracket, "end", ended)


@pytest.fixture(scope="module")
def drilled() -> Iterator[Drilled]:
    stack = SmallStack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
    try:
        stack.create(sample=False)
        stack.config_file.write_text(stack.config_file.read_text().replace("statement_timeout_seconds = 5", "statement_timeout_seconds = 60"))
        stack.start()
        executing(stack, ("CREATE EXTENSION vector", *(MADE.format(name=name, rows=ROWS, vector=VECTOR.format("g")) for name in TABLES)))
        executing(stack, tuple(f"CREATE INDEX ON {name} USING hnsw (v vector_l2_ops)" for name in ("quiet", "updated_before", "full_after")))
        executing(stack, ("VACUUM ANALYZE", "CHECKPOINT"))
        take_backup(stack.access)
        with pytest.MonkeyPatch.context() as patch:
            in_between(patch, stack)
            report = drill(stack.access, keep=True)
        baseline = store.load_baseline(stack.access, report.drill_id)
        assert baseline is not None
        assert settled(stack.access, baseline)
        workspace = Workspace.of(stack.access, report.drill_id)
        workspace.server(stack.access).stop()
        yield Drilled(stack, report, baseline, workspace.data_directory)
    finally:
        stack.remove()


def of_rows(results: list[CheckResult]) -> dict[str, CheckResult]:
    return {r.thing.rpartition(".")[2]: r for r in results if r.name == "table-content"}


def test_a_healthy_drill_passes_and_only_what_production_threw_away_just_then_was_not_compared(drilled: Drilled) -> None:
    assert drilled.report.verdict == "passed", [
        r for r in drilled.report.results if r.status == "fail" or (r.status == "skip" and r.required)]
    answers = of_rows(drilled.report.results)
    assert {name for name, answer in answers.items() if answer.status == "warn"} == set(TABLES) - COMPARED, answers
    compared = drilled.report.compared
    assert compared is not None
    rows = len(TABLES) * ROWS
    assert compared.exact > 0.84 * rows, compared
    assert compared.not_compared == 2 * ROWS, compared
    assert compared.counted < 0.02 * rows


DAMAGES: dict[str, tuple[str, ...]] = {
    "300 rows deleted": ("DELETE FROM {t} WHERE id % 27 = 1",),
    "500 titles overwritten": ("UPDATE {t} SET title = 'x' WHERE id BETWEEN 1000 AND 1499",),
    "one row deleted": ("DELETE FROM {t} WHERE id = 4001",),
    "30 vectors changed": ("UPDATE {t} SET v = v * '[2,2,2,2]'::vector WHERE id BETWEEN 1 AND 30",),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_to_any_of_these_tables_is_red(drilled: Drilled, kind: str) -> None:
    with drilled.copy() as server:
        assert not [r for r in drilled.asked(server) if r.status == "fail"], "the copy is not clean"
        with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as connection:
            for name in TABLES:
                for statement in DAMAGES[kind]:
                    connection.execute(statement.format(t=name))
        red = {name for name, answer in of_rows(drilled.asked(server)).items() if answer.status == "fail"}
    assert red >= COMPARED, COMPARED - red


def test_five_rows_written_just_before_the_restore_point_and_lost_are_red(drilled: Drilled) -> None:
    with drilled.copy() as server:
        with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as connection:
            connection.execute(f"DELETE FROM fresh WHERE id IN ({ROWS + 1}, {ROWS + 77}, {ROWS + 200}, {ROWS + 399}, {ROWS + 400})")
        (answer,) = [r for r in drilled.asked(server) if r.status == "fail"]
    assert (answer.name, answer.thing) == ("table-content", "agents.public.fresh")
