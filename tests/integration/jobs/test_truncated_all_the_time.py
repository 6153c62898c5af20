"""A table that production truncates and fills anew all the time is compared like any other: an
emptied or a halved one is red.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgdrill.backup import take_backup
from pgdrill.baseline import Baseline
from pgdrill.baseline.bracket import Bracket
from pgdrill.baseline.kept import Place, keep, release
from pgdrill.baseline.production import Production
from pgdrill.checks import Context, run_checks
from pgdrill.checks.runner import checking
from pgdrill.drill import destroy_stage, drill
from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill.reports.model import CheckResult, Report
from pgdrill_demo.stack import DATABASE, Stack, preferred_tool
from tests.damage.small import SmallStack

ROWS = 400
FILL = f"INSERT INTO {{0}} SELECT g, md5(g::text) FROM generate_series(1, {ROWS}) g"
CHURNED = ("at_once", "in_two_steps", "made_anew")
# once, when nobody could foresee it; of the last no query is made
CUT_OFF = ("truncated", "thrown_away", "coded")
PAUSE_SECONDS = 0.05
ITEMS = """
CREATE TABLE items (id int PRIMARY KEY, title text NOT NULL, v vector(4));
INSERT INTO items SELECT g, md5(g::text), ARRAY[sin(g), cos(g), sin(g * 3), cos(g * 3)]::vector
    FROM generate_series(1, 300) g;
COMMENT ON COLUMN items.v IS 'pgdrill: {"model": "made", "version": "1", "text_column": "title"}';
CREATE INDEX ON items USING hnsw (v vector_l2_ops);
CREATE TABLE embedded (id int, v vector(4));
COMMENT ON COLUMN embedded.v IS 'pgdrill: {"model": "made", "version": "1"}';
CREATE INDEX ON embedded USING hnsw (v vector_l2_ops);
"""
EMBED = (
    "INSERT INTO embedded SELECT g, ARRAY[random(), random(), g, 1]::vector FROM generate_series(1,"
    " 200) g"
)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    made = SmallStack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
    try:
        made.create(sample=False)
        made.without_haste()
        made.start()
        with made.connect() as connection:
            connection.execute("CREATE EXTENSION vector")
            for name in (*CHURNED, *CUT_OFF):
                connection.execute(f"CREATE TABLE {name} (id int, title text); {FILL.format(name)}")
            connection.execute(
                "CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN"
                " $1 * 2; END'"
            )
            connection.execute("CREATE INDEX ON coded (twice(id))")
            connection.execute(f"{ITEMS}; {EMBED}")
            connection.execute("VACUUM ANALYZE")
        take_backup(made.access)
        yield made
    finally:
        made.remove()


@contextlib.contextmanager
def churning(stack: Stack) -> Iterator[None]:
    """Production's job, over and over: in one transaction, in two, and with a new table each
    time."""
    done, rounds, broke = threading.Event(), threading.Semaphore(0), list[BaseException]()

    def work() -> None:
        try:
            with stack.connect() as connection:
                while not done.wait(PAUSE_SECONDS):
                    connection.execute(f"TRUNCATE at_once; {FILL.format('at_once')}")
                    connection.execute("TRUNCATE in_two_steps")
                    connection.execute(FILL.format("in_two_steps"))
                    connection.execute(
                        "DROP TABLE made_anew; CREATE TABLE made_anew (id int, title text);"
                        + FILL.format("made_anew")
                    )
                    connection.execute(f"TRUNCATE embedded; {EMBED}")
                    rounds.release()
        except BaseException as error:  # told by the test and not by a thread
            broke.append(error)
            rounds.release()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        rounds.acquire()
        yield
    finally:
        done.set()
        thread.join()
    assert not broke, broke


def about_rows(report: Report) -> dict[str, CheckResult]:
    return {r.thing.rpartition(".")[2]: r for r in report.results if r.name == "table-content"}


def asked(stack: Stack, server: LocalServer, baseline: Baseline) -> dict[str, CheckResult]:
    context = Context(
        cluster=stack.cluster,
        connect=checking(lambda name: server.connect(name, autocommit=False), 60),
        databases=(DATABASE,),
        baseline=baseline.model_copy(deep=True),
        settle=lambda: True,
    )
    return {
        r.thing.rpartition(".")[2]: r
        for r in run_checks(context, ("rows",))
        if r.name == "table-content"
    }


def written(server: LocalServer, *statements: str) -> None:
    with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        for statement in statements:
            connection.execute(statement)


def test_a_table_that_is_truncated_and_filled_all_the_time_is_compared_and_an_emptied_or_halved_copy_of_it_is_red(  # noqa: E501
    stack: Stack,
) -> None:
    with churning(stack):
        report = drill(stack.access, keep=True)
    try:
        assert report.verdict == "passed", [
            r for r in report.results if r.status == "fail" or (r.status == "skip" and r.required)
        ]
        warned = {name: one for name, one in about_rows(report).items() if one.status != "pass"}
        assert not warned, warned
        embedded = {one.name: one for one in report.results if one.thing.startswith("embedded.v")}
        assert {
            name: one.status for name, one in embedded.items() if one.status not in ("pass", "skip")
        } == {}
        assert (embedded["vector-content"].value, embedded["exact-neighbours"].value) == (
            200,
            50,
        ), embedded
        assert report.compared
        assert report.compared.not_compared == 0, report.compared
        baseline = store.load_baseline(stack.access, report.drill_id)
        assert baseline
        server = Workspace.of(stack.access, report.drill_id).server(stack.access)
        for damage in ("DELETE FROM {0} WHERE id % 2 = 0", "DELETE FROM {0}"):
            written(server, *(damage.format(name) for name in CHURNED))
            red = {
                name for name, one in asked(stack, server, baseline).items() if one.status == "fail"
            }
            empty = {
                name
                for name in CHURNED
                if not baseline.databases[DATABASE].tables[f"public.{name}"].content.rows
            }  # type: ignore[union-attr]
            assert red == set(CHURNED) - empty, damage
            assert empty <= {"in_two_steps"}, "only that one is ever empty"
    finally:
        destroy_stage(stack.access, report.drill_id)


def test_a_drill_waits_for_nobody_while_it_keeps_tables_and_ends_nobodys_work(stack: Stack) -> None:
    """Whoever alters another table for longer than a kept one is asked for, and then wants the kept
    one as well.
    """
    done, broke, altered = threading.Event(), list[BaseException](), 0

    def alter() -> None:
        nonlocal altered
        try:
            with stack.connect() as connection:
                while not done.is_set():
                    with connection.transaction():
                        connection.execute("LOCK TABLE items")
                        connection.execute("SELECT pg_sleep(1.2)")  # past deadlock_timeout
                        connection.execute("LOCK TABLE at_once")
                    altered += 1
        except BaseException as error:  # told by the test and not by a thread
            broke.append(error)

    thread = threading.Thread(target=alter)
    thread.start()
    try:
        with churning(stack):
            report = drill(stack.access)
    finally:
        done.set()
        thread.join()
    assert not broke, broke
    assert altered > 1
    assert report.verdict == "passed", (
        report.reason,
        [r for r in report.results if r.status == "fail" or (r.status == "skip" and r.required)],
    )


def test_no_snapshot_is_taken_while_tables_are_locked_however_often_that_is_tried(
    stack: Stack,
) -> None:
    """psycopg prepares what is executed often and throws that away at a ROLLBACK, by a statement
    that takes a snapshot.
    """
    production = Production(stack.access)
    places = [Place("public", name, 1) for name in (*CHURNED, *CUT_OFF, "items")]
    with (
        stack.connect() as other,
        production.snapshot(DATABASE) as before,
        production.snapshot(DATABASE) as after,
    ):
        with other.transaction():
            other.execute("LOCK TABLE items")
            assert Place("public", "items", 1) not in keep((before, after), places)
        other.execute("CREATE TABLE meanwhile AS SELECT 1")
        for connection in (before, after):
            assert connection.execute(
                "SELECT count(*) FROM pg_class WHERE relname = 'meanwhile'"
            ).fetchone() == (1,)
        release((before, after))
        other.execute("DROP TABLE meanwhile")


def test_a_table_whose_rows_were_taken_away_before_they_could_be_read_is_told_and_too_few_of_them_are_never_green(  # noqa: E501
    stack: Stack,
) -> None:
    """Nobody could foresee it; its rows were counted by the server before."""
    end = Bracket.end

    def ended(bracket: Bracket, primary: psycopg.Connection) -> None:
        end(bracket, primary)
        with stack.connect() as connection:
            connection.execute(
                f"TRUNCATE truncated, coded; {FILL.format('truncated')}; {FILL.format('coded')};"
                " DROP TABLE thrown_away"
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bracket, "end", ended)
        report = drill(stack.access, keep=True)
    try:
        assert report.verdict == "passed", [
            r for r in report.results if r.status == "fail" or (r.status == "skip" and r.required)
        ]
        answers = about_rows(report)
        assert {(name, answers[name].status, answers[name].value) for name in CUT_OFF} == {
            (name, "warn", ROWS) for name in CUT_OFF
        }, answers
        assert report.compared
        assert report.compared.not_compared == len(CUT_OFF) * ROWS, report.compared
        assert report.compared.not_compared_bytes > 0
        assert report.compared.not_proven == [f"agents.public.{name}" for name in sorted(CUT_OFF)]
        assert str(report.compared).endswith("rows not compared of agents.public.coded and 2 more")
        baseline = store.load_baseline(stack.access, report.drill_id)
        assert baseline
        server = Workspace.of(stack.access, report.drill_id).server(stack.access)
        for damage in ("DELETE FROM {0} WHERE id % 2 = 0", "DELETE FROM {0}"):
            written(server, *(damage.format(name) for name in CUT_OFF))
            answers = asked(stack, server, baseline)
            for name in CUT_OFF:
                assert (answers[name].status, answers[name].required) == ("skip", True), answers[
                    name
                ]
    finally:
        destroy_stage(stack.access, report.drill_id)
