"""The baseline on real servers: on a standby, with few rights, within its bounds, and gone when the
job is stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from pgdrill.access import Access, Credentials
from pgdrill.baseline import database as database_module
from pgdrill.baseline import reading as reading_module
from pgdrill.baseline import settle, take_baseline
from pgdrill.baseline.bracket import wait_announced
from pgdrill.baseline.production import Production
from pgdrill.checks.tables import compare as compare_table
from pgdrill.cli import app
from pgdrill.errors import CouldNotVerify, Unreachable
from pgdrill.host.process import Runner, Stopped
from pgdrill.postgres.catalog_fingerprint import read_fingerprint
from pgdrill.postgres.row_digests import compare_sample, read_content
from pgdrill.verify import read_baseline
from pgdrill_demo.stack import DATABASE, Stack

OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgdrill'"


def access_with(
    stack: Stack,
    credentials: Credentials | None = None,
    *,
    drill: dict[str, Any] | None = None,
    **server: Any,
) -> Access:
    cluster = stack.cluster
    cluster = cluster.model_copy(
        update={
            "server": cluster.server.model_copy(update=server),
            "drill": cluster.drill.model_copy(update=drill or {}),
        }
    )
    return Access(cluster, credentials or stack.credentials)


def eventually(condition: Callable[[], object], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


# --- What is committed in WAL and not announced yet ---


def test_a_commit_that_waits_for_a_standby_is_waited_for_and_one_that_its_client_holds_open_is_not(
    stack: Stack,
) -> None:
    """The first is in WAL and in no snapshot: a restored server has it."""
    over = threading.Event()
    with stack.connect() as primary, stack.connect() as held, stack.connect() as writer:
        primary.execute("CREATE TABLE announced (i int)")

        def write() -> None:
            while not over.is_set():  # the configuration reaches every process in its own time
                writer.execute("INSERT INTO announced VALUES (1)")

        held.execute("BEGIN; INSERT INTO announced VALUES (0)")
        assert wait_announced(primary, Runner(), 0.2)
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        primary.execute("SELECT pg_reload_conf()")
        try:
            writing = threading.Thread(target=write)
            writing.start()
            waits = (
                f"SELECT 1 FROM pg_stat_activity WHERE pid = {writer.info.backend_pid} AND"
                " wait_event = 'SyncRep'"
            )
            assert eventually(lambda: primary.execute(waits).fetchone())
            assert not wait_announced(primary, Runner(), 0.2)
        finally:
            over.set()
            primary.execute("ALTER SYSTEM RESET synchronous_standby_names")
            primary.execute("SELECT pg_reload_conf()")
        writing.join()
        assert wait_announced(primary, Runner(), 0.2)
        held.execute("ROLLBACK")
        primary.execute("DROP TABLE announced")


# --- On a standby ---


@pytest.fixture(scope="module")
def standby(stack: Stack) -> Iterator[Access]:
    stack.start_standby()
    yield access_with(stack, standby_dsn=f"host={stack.standby.socket_directory}")
    stack.standby.stop()
    shutil.rmtree(stack.standby.data_directory)
    with stack.connect() as connection:
        connection.execute("SELECT pg_drop_replication_slot('standby')")


def scans(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'documents'"
    ).fetchone()
    return int(row[0]) if row else 0


def test_rows_are_read_on_the_standby_and_only_what_it_cannot_tell_on_production(
    stack: Stack, standby: Access
) -> None:
    there = psycopg.connect(
        stack.standby.conninfo(DATABASE, password=stack.passwords["postgres"]), autocommit=True
    )
    with there, stack.connect() as production:
        before = scans(production), scans(there)
        production.execute(
            "INSERT INTO hc_clinics (tenant_id, name, street, city) SELECT tenant_id, 'new',"
            " street, city FROM hc_clinics LIMIT 1"
        )
        expected = production.execute("SELECT count(*) FROM hc_clinics").fetchone()
        baseline = take_baseline(standby, restore_point="on-standby")
        settle(standby, baseline)
        assert baseline.read_on == "standby"
        tables = baseline.databases[DATABASE].tables
        assert tables["public.hc_clinics"].content
        assert (tables["public.hc_clinics"].content.rows,) == expected, (
            "it did not wait for what was committed before"
        )
        assert eventually(lambda: scans(there) > before[1])
        assert scans(production) == before[0]
        # Sequences are the primary's: a standby shows what WAL holds in advance.
        mine = take_baseline(stack.access).databases[DATABASE]
        assert {name: s.value for name, s in mine.sequences.items()} == {
            name: s.value for name, s in baseline.databases[DATABASE].sequences.items()
        }
        assert mine.schema_objects == baseline.databases[DATABASE].schema_objects
        production.execute("DELETE FROM hc_clinics WHERE name = 'new'")


def test_a_standby_that_does_not_follow_is_an_error_and_never_an_older_baseline(
    stack: Stack, standby: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgdrill.baseline.production.REPLAY_SECONDS", 0.5)
    with psycopg.connect(
        stack.standby.conninfo(DATABASE, password=stack.passwords["postgres"]), autocommit=True
    ) as there:
        there.execute("SELECT pg_wal_replay_pause()")
        with pytest.raises(CouldNotVerify) as caught:
            take_baseline(standby)
        there.execute("SELECT pg_wal_replay_resume()")
    assert (caught.value.problem.reason, "paused" in caught.value.problem.found) == (
        "standby-behind",
        True,
    )


def test_what_recovery_cancels_on_the_standby_is_read_again_and_then_names_the_settings(
    stack: Stack, standby: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def conflicting(connection: psycopg.Connection, **options: Any) -> Any:
        if options["shared"]:
            return read_fingerprint(connection, **options)
        tries.append(1)
        connection.execute("SELECT count(*) FROM public.in_the_way")
        with stack.connect() as production:
            production.execute(f"ALTER TABLE in_the_way ADD COLUMN c{len(tries)} int")
        connection.execute("SELECT pg_sleep(30)")
        raise AssertionError("recovery did not cancel it")

    monkeypatch.setattr(database_module, "read_fingerprint", conflicting)
    with psycopg.connect(
        stack.standby.conninfo(DATABASE, password=stack.passwords["postgres"]), autocommit=True
    ) as there:
        there.execute("ALTER SYSTEM SET max_standby_streaming_delay = '100ms'")
        there.execute("SELECT pg_reload_conf()")
    with stack.connect() as production:
        production.execute("CREATE TABLE in_the_way (id int)")
        try:
            with pytest.raises(CouldNotVerify) as caught:
                take_baseline(standby)
        finally:
            production.execute("DROP TABLE in_the_way")
    assert len(tries) == 2
    assert caught.value.problem.reason == "standby-conflict"
    assert "hot_standby_feedback" in caught.value.problem.hint
    assert "max_standby_streaming_delay" in caught.value.problem.hint


def test_a_standby_that_is_none_or_is_away_is_named(stack: Stack) -> None:
    with pytest.raises(CouldNotVerify) as caught:
        take_baseline(access_with(stack, standby_dsn=f"host={stack.home}"))
    assert caught.value.problem.reason == "wrong-standby"
    with pytest.raises(CouldNotVerify) as caught:
        take_baseline(access_with(stack, standby_dsn="host=/nowhere"))
    assert caught.value.problem.reason == "standby-unreachable"
    assert not isinstance(caught.value, Unreachable), (
        "a drill would go on as if production were gone"
    )


# --- With few rights ---


LISTED = """
CREATE ROLE listed LOGIN PASSWORD 'listed';
GRANT pg_monitor TO listed;
GRANT EXECUTE ON FUNCTION pg_switch_wal(), pg_create_restore_point(text) TO listed;
GRANT SELECT ON re_plans, hc_clinics, invoice_number_seq TO listed;
"""


@pytest.fixture
def listed(stack: Stack) -> Iterator[Access]:
    """A role that was given single tables."""
    with stack.connect() as connection:
        connection.execute(LISTED)
        yield access_with(
            stack,
            Credentials({"user": "listed", "password": "listed"}, stack.s3.environment),
            drill={"state_tables": ("re_plans", "hc_agent_state")},
        )
        connection.execute("DROP OWNED BY listed; DROP ROLE listed")


def test_a_table_that_the_role_may_not_read_is_named_with_its_grant_and_is_no_pass(
    stack: Stack, listed: Access
) -> None:
    baseline = take_baseline(listed, restore_point="listed")
    state = baseline.databases[DATABASE]
    with stack.connect() as connection:
        secured = {
            row[0]
            for row in connection.execute(
                "SELECT relname FROM pg_class WHERE relrowsecurity"
            ).fetchall()
        }
    assert (
        "GRANT SELECT ON public.documents TO listed" in baseline.unread["agents.public.documents"]
    )
    for table in ("re_plans", "hc_clinics"):
        if table in secured:
            assert "ALTER ROLE listed BYPASSRLS" in baseline.unread[f"agents.public.{table}"]
        else:
            assert state.tables[f"public.{table}"].content
    assert (
        "GRANT SELECT ON SEQUENCE public.claim_number_seq"
        in baseline.unread["agents.public.claim_number_seq"]
    )
    assert "public.invoice_number_seq" in state.sequences
    assert "GRANT SELECT" in state.state_tables["public.hc_agent_state"].unread
    assert baseline.shared_objects.left_out["pg_authid"] == ["rolpassword"]
    assert any(key.startswith("pg_authid:") for key in baseline.shared_objects.objects)


def test_a_right_that_a_baseline_cannot_do_without_is_named(stack: Stack, listed: Access) -> None:
    with stack.connect() as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_create_restore_point(text) FROM listed")
    with pytest.raises(CouldNotVerify) as caught:
        take_baseline(listed, restore_point="none")
    assert caught.value.problem.reason == "missing-privilege"
    assert "pg_create_restore_point(text), pg_switch_wal() TO listed" in caught.value.problem.hint


# --- Within its bounds ---


def test_above_the_budget_of_bytes_tables_are_sampled_the_largest_first(stack: Stack) -> None:
    state = take_baseline(
        access_with(stack, drill={"baseline_bytes": 1_000_000}), restore_point="budget"
    ).databases[DATABASE]
    whole = {name: table.bytes for name, table in state.tables.items() if table.content}
    sampled = {name: table.bytes for name, table in state.tables.items() if not table.content}
    assert sum(whole.values()) <= 1_000_000 < sum(whole.values()) + min(sampled.values())
    assert max(whole.values()) <= min(sampled.values())
    assert all(
        state.tables[name].sample or state.tables[name].code
        for name, size in sampled.items()
        if size and state.tables[name].estimated_rows
    )


def test_a_table_that_takes_too_long_is_left_out_by_name_and_the_others_are_read(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading_module.read_content

    def slow(
        connection: psycopg.Connection, schema: str, table: str, line: Any, **options: Any
    ) -> Any:
        if table == "documents":
            with connection.transaction():
                connection.execute("SELECT pg_sleep(60)")
        return real(connection, schema, table, line, **options)

    monkeypatch.setattr(reading_module, "read_content", slow)
    baseline = take_baseline(access_with(stack, drill={"statement_timeout_seconds": 1.0}))
    assert list(baseline.unread) == ["agents.public.documents"]
    assert "statement timeout" in baseline.unread["agents.public.documents"]
    assert baseline.databases[DATABASE].tables["public.re_plans"].content


def test_single_rows_of_a_large_table_must_all_have_come_back(stack: Stack) -> None:
    access = access_with(stack, drill={"baseline_table_bytes": 1})
    baseline = take_baseline(access, restore_point="sampled")
    settle(access, baseline)
    state = baseline.databases[DATABASE].tables["public.documents"]
    assert state.content is None
    assert state.sample
    with stack.connect() as connection:
        line = baseline.databases[DATABASE].horizon
        found = read_content(connection, "public", "documents", line, whole=False)
        answer = compare_sample(
            connection, "public", "documents", line, state.sample, state.columns
        )
        assert compare_table("documents", state, found, answer).status == "pass"
        connection.execute("BEGIN")
        connection.execute(
            "DELETE FROM documents WHERE ctid = %s::tid",
            (next(iter(state.sample)).partition("/")[0],),
        )
        answer = compare_sample(
            connection, "public", "documents", line, state.sample, state.columns
        )
        lost = compare_table("documents", state, found, answer)
        connection.execute("ROLLBACK")
    assert (lost.status, lost.value, lost.threshold) == ("fail", 1, "0 lost or changed rows")


# --- Gone when the job is stopped ---


@pytest.fixture
def locked(stack: Stack) -> Iterator[psycopg.Connection]:
    """A server on which whoever reads waits."""
    with stack.connect() as connection, stack.connect() as other:
        connection.execute("BEGIN; LOCK TABLE documents IN ACCESS EXCLUSIVE MODE")
        yield other
        connection.execute("ROLLBACK")


WAITING = OURS + " AND wait_event_type = 'Lock'"


def count(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def test_a_terminated_command_leaves_no_statement_on_production(
    stack: Stack, locked: psycopg.Connection
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from pgdrill.cli import main; main()", "baseline", "--json"],
        env={**os.environ, **stack.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert eventually(lambda: count(locked, WAITING), 30), child.communicate(timeout=5)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=10)
    assert (child.returncode, json.loads(out)["error"]["reason"]) == (143, "stopped"), err
    assert eventually(lambda: count(locked, OURS) == 0, 3)


def test_a_killed_command_is_noticed_by_production(
    stack: Stack, locked: psycopg.Connection
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from pgdrill.cli import main; main()", "baseline"],
        env={**os.environ, **stack.environment},
        stderr=subprocess.DEVNULL,
    )
    assert eventually(lambda: count(locked, WAITING), 30)
    child.kill()
    child.wait()
    assert eventually(lambda: count(locked, OURS) == 0, 8)


def test_what_airflow_kills_is_cancelled_at_once(stack: Stack, locked: psycopg.Connection) -> None:
    """``on_kill`` calls the runner's ``stop``, and nothing is raised in the task by it."""
    runner = Runner()

    def stop() -> None:
        eventually(lambda: count(locked, WAITING), 30)
        runner.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped):
        take_baseline(stack.access, runner=runner)
    stopper.join()
    assert eventually(lambda: count(locked, OURS) == 0, 2)
    with pytest.raises(Stopped), Production(stack.access, runner).connection():
        pass  # nothing begins any more


# --- The command ---


def test_the_command_keeps_a_baseline_that_verify_can_read_with_no_secret_and_no_row_in_it(
    stack: Stack, tmp_path: Path
) -> None:
    file = tmp_path / "baseline.json"
    result = CliRunner().invoke(
        app, ["baseline", "--output", str(file), "--json"], env=stack.environment
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [place for place in found["kept_at"] if place.startswith("s3://")]
    assert stack.access.reports.read(f"baselines/{found['id']}.json") == file.read_bytes()
    baseline = read_baseline(file, stack.cluster)
    assert baseline.settled_at
    assert baseline.restore_point == found["restore_point"]
    assert set(found["databases"]) == {DATABASE}
    text = file.read_text()
    with stack.connect() as connection:
        name = connection.execute(
            "SELECT last_name || first_name FROM hc_patients LIMIT 1"
        ).fetchone()
        words = [
            row[0]
            for row in connection.execute("SELECT content FROM embeddings LIMIT 5").fetchall()
        ]
    for secret in (
        *stack.passwords.values(),
        stack.s3.secret_key,
        *words,
        str(name[0] if name else ""),
    ):
        assert secret not in text
    shown = CliRunner().invoke(app, ["baseline"], env=stack.environment)
    assert "complete" in shown.stdout
    refused = CliRunner().invoke(
        app, ["baseline", "--output", str(tmp_path), "--json"], env=stack.environment
    )
    assert (refused.exit_code, json.loads(refused.stdout)["error"]["reason"]) == (2, "bad-output")


def test_an_incomplete_baseline_is_exit_code_2_and_says_what_is_missing(
    stack: Stack, listed: Access
) -> None:
    environment = {**stack.environment, "PGUSER": "listed", "PGPASSWORD": "listed"}
    result = CliRunner().invoke(app, ["baseline", "--json"], env=environment)
    assert result.exit_code == 2
    assert (
        "GRANT SELECT ON public.documents TO listed"
        in json.loads(result.stdout)["unread"]["agents.public.documents"]
    )
