"""What was written, rewritten or altered right around the restore point is compared like everything
else.
"""

from __future__ import annotations

import contextlib
import random
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from pgdrill.backup import take_backup
from pgdrill.baseline import Baseline, take_baseline
from pgdrill.baseline.bracket import Bracket
from pgdrill.checks import Context, run_checks
from pgdrill.checks.runner import checking, settled
from pgdrill.drill import check_stage, destroy_stage, drill, new_drill_id, restore_stage
from pgdrill.postgres.row_digests import Horizon, horizon_on, read_rows
from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill.reports.model import CheckResult, Report
from pgdrill_demo.stack import DATABASE, Stack, preferred_tool
from tests.conftest import thorough
from tests.copies import server_on_copy
from tests.damage.small import SmallStack
from tests.faults.cases import seed

ROWS = 8145
VECTOR = "ARRAY[sin({0}), cos({0}), sin({0} * 3), cos({0} * 3)]::vector"
TABLES = (
    "quiet",
    "full_before",
    "grown_before",
    "retyped_before",
    "updated_before",
    "fresh",
    "deleted_just_then",
    "full_just_then",
    "full_after",
    "grown_after",
    "shrunk_after",
    "retyped_after",
    "renamed_after",
    "busy_after",
    "emptied_after",
)
MADE = """
CREATE TABLE {name} (id int PRIMARY KEY, title text NOT NULL, old int, v vector(4))
    WITH (autovacuum_enabled = off);
INSERT INTO {name} SELECT g, md5(g::text), g, {vector} FROM generate_series(1, {rows}) g;
COMMENT ON COLUMN {name}.v IS
    'pgdrill: {{"model": "made", "version": "1", "text_column": "title"}}';
"""
BEFORE = (  # after production's catalogs were read, before the first snapshot
    "DELETE FROM full_before WHERE id % 7 = 0",
    "VACUUM FULL full_before",
    "ALTER TABLE grown_before ADD COLUMN more int DEFAULT 7",
    "ALTER TABLE retyped_before ADD COLUMN more float DEFAULT random()",
    f"UPDATE updated_before SET v = {VECTOR.format('id + 0.5')} WHERE id <= 30",
    (
        f"INSERT INTO fresh SELECT g, md5(g::text), g, {VECTOR.format('g')} FROM"
        f" generate_series({ROWS + 1}, {ROWS + 400}) g"
    ),
)
JUST_THEN = (  # between both snapshots, before the restore point
    "DELETE FROM deleted_just_then WHERE id IN (5, 500, 5000)",
    "UPDATE deleted_just_then SET old = 0 WHERE id = 77",
    "VACUUM FULL full_just_then",
)
AFTER = (  # when both were made, before anything was read
    "VACUUM FULL full_after",
    "ALTER TABLE grown_after ADD COLUMN more int DEFAULT 7",
    "ALTER TABLE shrunk_after DROP COLUMN old",
    "ALTER TABLE retyped_after ALTER COLUMN old TYPE bigint",
    "ALTER TABLE renamed_after RENAME COLUMN title TO name",
    "UPDATE busy_after SET title = title || 'x' WHERE id % 3 = 0",
    "TRUNCATE emptied_after",
)
# those two: their rows are nowhere on production any more
COMPARED = set(TABLES) - {"retyped_after", "emptied_after"}


@dataclass
class Drilled:
    """A drill with all of that in its way, its stopped copy, and the baseline to compare with."""

    stack: Stack
    report: Report
    baseline: Baseline
    folder: Path
    idle: list[Path] = field(default_factory=list)

    @contextlib.contextmanager
    def copy(self, **options: str) -> Iterator[LocalServer]:
        with server_on_copy(self.folder, self.stack, self.idle, **options) as server:
            server.start()
            yield server

    def asked(self, server: LocalServer) -> list[CheckResult]:
        context = Context(
            cluster=self.stack.cluster,
            connect=checking(lambda name: server.connect(name, autocommit=False), 60),
            databases=(DATABASE,),
            baseline=self.baseline.model_copy(deep=True),
            settle=lambda: True,
        )
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
        stack.without_haste()
        stack.start()
        executing(
            stack,
            (
                "CREATE EXTENSION vector",
                *(MADE.format(name=name, rows=ROWS, vector=VECTOR.format("g")) for name in TABLES),
            ),
        )
        executing(
            stack,
            tuple(
                f"CREATE INDEX ON {name} USING hnsw (v vector_l2_ops)"
                for name in ("quiet", "updated_before", "full_after")
            ),
        )
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
        folder = workspace.data_directory.rename(stack.home / "mould")
        destroy_stage(stack.access, report.drill_id)
        yield Drilled(stack, report, baseline, folder)
    finally:
        stack.remove()


def of_rows(results: list[CheckResult]) -> dict[str, CheckResult]:
    return {r.thing.rpartition(".")[2]: r for r in results if r.name == "table-content"}


def test_a_healthy_drill_passes_and_no_release_compares_less_of_this_workload(
    drilled: Drilled,
) -> None:
    assert drilled.report.verdict == "passed", [
        r
        for r in drilled.report.results
        if r.status == "fail" or (r.status == "skip" and r.required)
    ]
    answers = of_rows(drilled.report.results)
    assert {name for name, answer in answers.items() if answer.status == "warn"} == set(
        TABLES
    ) - COMPARED, answers
    compared = drilled.report.compared
    assert compared is not None
    # Of 15 tables, what two no longer have on production, and a row that was written between both
    # snapshots.
    assert (compared.sampled, compared.counted, compared.not_compared) == (0, 1, 2 * ROWS), compared
    assert compared.exact == len(COMPARED) * ROWS + 400 - 3 - 1 - ROWS // 7, compared
    assert compared.exact_bytes > 0.85 * (
        compared.exact_bytes + compared.counted_bytes + compared.not_compared_bytes
    )


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
        red = {
            name
            for name, answer in of_rows(drilled.asked(server)).items()
            if answer.status == "fail"
        }
    assert red >= COMPARED, COMPARED - red


def test_five_rows_written_just_before_the_restore_point_and_lost_are_red(drilled: Drilled) -> None:
    with drilled.copy() as server:
        with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as connection:
            connection.execute(
                f"DELETE FROM fresh WHERE id IN ({ROWS + 1}, {ROWS + 77}, {ROWS + 200},"
                f" {ROWS + 399}, {ROWS + 400})"
            )
        (answer,) = [r for r in drilled.asked(server) if r.status == "fail"]
    assert (answer.name, answer.thing) == ("table-content", "agents.public.fresh")


def test_rows_written_while_a_transaction_ran_that_ended_just_then_are_compared_one_by_one(
    drilled: Drilled,
) -> None:
    """The copy cannot tell those of the long one from others, as numbers of transactions go by
    their beginning.
    """
    stack = drilled.stack
    with (
        pytest.MonkeyPatch.context() as patch,
        stack.connect() as long,
        stack.connect() as connection,
    ):
        begin = Bracket.begin

        def begun(bracket: Bracket, primary: psycopg.Connection) -> None:
            long.execute("BEGIN; UPDATE quiet SET old = 0 WHERE id = 1")
            connection.execute(
                "INSERT INTO fresh SELECT g, 'late', g FROM generate_series(100001, 100400) g"
            )
            begin(bracket, primary)
            long.execute("COMMIT")
            connection.execute("DELETE FROM fresh WHERE id = 100400")

        patch.setattr(Bracket, "begin", begun)
        report = drill(stack.access, keep=True, families=("rows",))
    assert not [r for r in report.results if r.status == "fail"]
    baseline = store.load_baseline(stack.access, report.drill_id)
    assert baseline
    state = baseline.databases[DATABASE].tables["public.fresh"]
    assert len(state.newer) == 399
    workspace = Workspace.of(stack.access, report.drill_id)
    server = workspace.server(stack.access)
    with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as restored:
        restored.execute(
            "SET default_transaction_read_only = off; UPDATE fresh SET title = 'x' WHERE id IN"
            " (100001, 100002, 100399)"
        )
    again = Drilled(stack, report, baseline, workspace.data_directory)
    (answer,) = [r for r in again.asked(server) if r.status == "fail"]
    assert (answer.thing, answer.value, answer.threshold) == (
        "agents.public.fresh",
        3,
        "0 lost or changed rows",
    )
    destroy_stage(stack.access, report.drill_id)


@pytest.mark.parametrize(
    "begun_before", [False, True], ids=["a later transaction", "one that had begun before"]
)
def test_rows_that_were_put_there_afterwards_and_frozen_are_not_taken_for_those_of_the_restore_point(  # noqa: E501
    drilled: Drilled, begun_before: bool
) -> None:
    """Every snapshot sees frozen rows, whoever wrote them: REFRESH and COPY FREEZE write such
    ones."""
    stack, file = drilled.stack, drilled.stack.home / "rows.copy"
    executing(
        stack,
        (
            "CREATE MATERIALIZED VIEW refreshed AS SELECT id, clock_timestamp() AS at FROM quiet",
            "CREATE TABLE frozen (id int, v vector(4)); INSERT INTO frozen SELECT id, v FROM quiet",
            """COMMENT ON COLUMN frozen.v IS 'pgdrill: {"model": "made", "version": "1"}'""",
            f"COPY (SELECT id, v * '[2,2,2,2]'::vector FROM frozen) TO '{file}'",
            "VACUUM ANALYZE",
        ),
    )
    try:
        with pytest.MonkeyPatch.context() as patch, stack.connect() as writer:
            begin, end = Bracket.begin, Bracket.end

            def begun(bracket: Bracket, primary: psycopg.Connection) -> None:
                if begun_before:
                    writer.execute("BEGIN; SELECT pg_current_xact_id()")
                begin(bracket, primary)

            def ended(bracket: Bracket, primary: psycopg.Connection) -> None:
                end(bracket, primary)
                writer.execute(
                    "REFRESH MATERIALIZED VIEW refreshed; TRUNCATE frozen; COPY frozen FROM"
                    f" '{file}' (FREEZE)"
                )
                writer.execute("COMMIT")

            patch.setattr(Bracket, "begin", begun)
            patch.setattr(Bracket, "end", ended)
            report = drill(stack.access, families=("vectors", "rows"))
    finally:
        executing(stack, ("DROP MATERIALIZED VIEW refreshed", "DROP TABLE frozen"))
    assert not [r for r in report.results if r.status == "fail"]
    answers = of_rows(report.results)
    for name in ("refreshed", "frozen"):
        assert (answers[name].status, answers[name].message.partition(",")[0]) == (
            "warn",
            "truncated",
        ), answers[name]


@pytest.mark.parametrize("counted", [False, True], ids=["analyzed", "counted"])
def test_a_view_made_anew_with_fewer_rows_around_the_restore_point_is_not_said_to_have_lost_them(
    drilled: Drilled, counted: bool
) -> None:
    """What the server knows is how many rows it had before."""
    stack = drilled.stack
    executing(
        stack,
        (
            "CREATE TABLE most AS SELECT 40 AS most; ALTER TABLE most ADD PRIMARY KEY (most)",
            "CREATE MATERIALIZED VIEW refreshed AS SELECT id FROM quiet WHERE id <="
            " (SELECT most FROM most)",
            *(() if counted else ("VACUUM ANALYZE",)),
        ),
    )
    anew = "UPDATE most SET most = most / 4; REFRESH MATERIALIZED VIEW refreshed"
    try:
        with pytest.MonkeyPatch.context() as patch, stack.connect() as writer:
            begin, end = Bracket.begin, Bracket.end

            def begun(bracket: Bracket, primary: psycopg.Connection) -> None:
                writer.execute(anew)
                begin(bracket, primary)

            def ended(bracket: Bracket, primary: psycopg.Connection) -> None:
                end(bracket, primary)
                writer.execute(anew)

            patch.setattr(Bracket, "begin", begun)
            patch.setattr(Bracket, "end", ended)
            report = drill(stack.access, families=("vectors", "rows"))
    finally:
        executing(stack, ("DROP MATERIALIZED VIEW refreshed", "DROP TABLE most"))
    answer = of_rows(report.results)["refreshed"]
    assert (answer.status, answer.value) == ("warn", 10), answer


POOR_INDEX = (
    "DROP INDEX bloated_v; CREATE INDEX bloated_v ON bloated USING hnsw (v vector_l2_ops)"
    " WITH (m = 2, ef_construction = 4); ALTER INDEX bloated_v RESET (m, ef_construction)"
)


@pytest.mark.parametrize(
    ("tidied", "damage", "red"),
    [
        ("", "", False),
        ("VACUUM bloated", "", False),
        ("REINDEX INDEX bloated_v", "", False),
        ("VACUUM bloated", POOR_INDEX, True),
    ],
    ids=["left alone", "vacuumed", "made anew", "vacuumed, and damaged in the backup"],
)
def test_dead_rows_that_production_was_rid_of_before_it_was_searched_are_not_held_against_an_index(
    drilled: Drilled, tidied: str, damage: str, red: bool
) -> None:
    stack, drill_id = drilled.stack, new_drill_id()
    executing(
        stack,
        (
            MADE.format(name="bloated", rows=2000, vector=VECTOR.format("g")),
            "CREATE INDEX bloated_title ON bloated (title)",
            "CREATE INDEX bloated_v ON bloated USING hnsw (v vector_l2_ops)",
            # the same vector would stand in the same place of the graph
            *["UPDATE bloated SET v = v + ARRAY[random(), 0, 0, 0]::vector"] * 15,
        ),
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            end = Bracket.end

            def ended(bracket: Bracket, primary: psycopg.Connection) -> None:
                end(bracket, primary)
                executing(stack, (tidied,) if tidied else ())

            patch.setattr(Bracket, "end", ended)
            restore_stage(stack.access, drill_id)
        if damage:
            server = Workspace.of(stack.access, drill_id).server(stack.access)
            with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as restored:
                restored.execute("SET default_transaction_read_only = off")
                restored.execute(damage)
        report = check_stage(stack.access, drill_id, families=("vectors",))
    finally:
        destroy_stage(stack.access, drill_id)
        executing(stack, ("DROP TABLE bloated",))
    (told,) = [
        result
        for result in report.results
        if result.name == "index-recall" and "bloated" in result.thing
    ]
    assert (told.status == "fail") is red, told


def test_a_column_that_was_lost_is_red(drilled: Drilled) -> None:
    with drilled.copy() as server:
        with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as connection:
            connection.execute(
                "ALTER TABLE quiet RENAME COLUMN title TO name; ALTER TABLE fresh DROP COLUMN old"
            )
        red = {
            name: answer.value
            for name, answer in of_rows(drilled.asked(server)).items()
            if answer.status == "fail"
        }
    assert red == {"quiet": "no column title", "fresh": "no column old"}


def test_a_baseline_without_a_restore_point_takes_no_later_change_for_damage_and_still_compares_what_it_can(  # noqa: E501
    drilled: Drilled,
) -> None:
    """As a backup's record is compared with what was restored to a later instant."""
    stack = drilled.stack
    older = take_baseline(stack.access)
    executing(
        stack,
        (
            "VACUUM FULL quiet",
            "ALTER TABLE grown_after ADD COLUMN most int",
            "ALTER TABLE busy_after RENAME COLUMN title TO name",
            "UPDATE shrunk_after SET title = 'x' WHERE id = 1",
        ),
    )
    connect = checking(lambda name: psycopg.connect(stack.conninfo(database=name)), 60)
    context = Context(cluster=stack.cluster, connect=connect, databases=(DATABASE,), baseline=older)
    answers = of_rows(list(run_checks(context, ("rows",))))
    assert not [answer for answer in answers.values() if answer.status == "fail"]
    told = {name: answer.message for name, answer in answers.items() if answer.status == "warn"}
    assert set(told) == {"busy_after", "shrunk_after"}, told
    assert "no column title" in told["busy_after"]
    assert "was not compared" in told["shrunk_after"] or "were not compared" in told["shrunk_after"]


DRAWS = 1000 if thorough() else 10


@pytest.mark.timeout(0 if thorough() else 600)
def test_one_flipped_byte_in_any_row_that_was_compared_exactly_is_red(drilled: Drilled) -> None:
    """A draw is a byte of a row of one table; each table of a copy gets one, as each is judged by
    itself.
    """
    chance = random.Random(f"{seed()} bytes")
    line = drilled.baseline.databases[DATABASE].horizon
    known = drilled.baseline.databases[DATABASE].tables
    drawn = 0
    while drawn < DRAWS:
        tables = chance.sample(sorted(COMPARED), min(len(COMPARED), DRAWS - drawn))
        with drilled.copy(ignore_checksum_failure="on") as server:
            rows = {
                table: rows_of(server, table, line, known[f"public.{table}"].columns)
                for table in tables
            }
            places = {
                table: chance.choice(
                    sorted(place for place, row in rows[table][1].items() if row[1])
                )
                for table in tables
            }
            server.stop()
            for table, place in places.items():
                flip(server.data_directory / rows[table][0], place, chance)
            server.start()
            red = {
                name
                for name, answer in of_rows(drilled.asked(server)).items()
                if answer.status == "fail"
            }
            changed = set(tables)
            for table, place in places.items():
                with contextlib.suppress(psycopg.Error):  # unreadable is another row, too
                    if (
                        rows_of(server, table, line, known[f"public.{table}"].columns)[1].get(place)
                        == rows[table][1][place]
                    ):
                        # between two values, or in a column that production has no more
                        changed.remove(table)
        assert changed <= red, f"seed {seed()}, draw {drawn}: {places}"
        drawn += len(changed)


def rows_of(
    server: LocalServer, table: str, line: Horizon, columns: list[str] | None
) -> tuple[str, dict[str, tuple[str, bool, bool]]]:
    """A table's file and its rows by their places."""
    with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as connection:
        path = connection.execute("SELECT pg_relation_filepath(%s::regclass)", (table,)).fetchone()
        return str(path and path[0]), read_rows(
            connection, "public", table, horizon_on(connection, line), columns
        )


def flip(file: Path, place: str, chance: random.Random) -> None:
    """One bit of a byte among a row's values, where its line pointer says that it is."""
    block, number = (int(part) for part in place.partition("/")[0].strip("()").split(","))
    content = bytearray(file.read_bytes())
    (pointer,) = struct.unpack_from("<I", content, block * 8192 + 24 + 4 * (number - 1))
    start, length = block * 8192 + (pointer & 0x7FFF), pointer >> 17
    content[chance.randrange(start + content[start + 22], start + length)] ^= 1 << chance.randrange(
        8
    )
    file.write_bytes(content)
