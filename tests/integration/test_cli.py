"""The command line against a real server, a real tool and a real store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pgdrill.cli import app
from pgdrill.report import Report
from pgdrill.verify import Verification
from pgdrill_demo.stack import Stack


def run(stack: Stack, *words: str) -> Result:
    result = CliRunner().invoke(app, list(words), env=stack.environment)
    assert_no_secret(stack, result.output)
    return result


def pure(result: Result) -> Any:
    return json.loads(result.stdout)


def assert_no_secret(stack: Stack, text: str) -> None:
    for secret in (*stack.passwords.values(), stack.s3.access_key, stack.s3.secret_key):
        assert secret not in text


def restored_clusters(stack: Stack) -> list[Path]:
    return list((stack.cluster.state_directory / "drills").glob("*"))


@pytest.fixture(scope="module")
def taken(stack: Stack) -> dict[str, Any]:
    """A base backup, taken by the command."""
    result = run(stack, "backup", "--json")
    assert result.exit_code == 0, result.output
    return pure(result)  # type: ignore[no-any-return]


@pytest.fixture(scope="class")
def kept(stack: Stack, taken: dict[str, Any]) -> Iterator[Report]:
    """A drill whose restored cluster was kept, for looking at; destroyed by the command."""
    result = run(stack, "drill", "agents", "--keep", "--json", "--backup", taken["name"])
    report = Report.model_validate(pure(result))
    assert report.summary.endswith("The restored cluster was kept for a look.")
    yield report
    assert run(stack, "destroy", report.drill_id).exit_code == 0
    assert restored_clusters(stack) == []


def dsn(report: Report) -> str:
    assert report.restored
    return f"host={report.restored.socket_directory} port={report.restored.port} user=postgres"


def baseline(stack: Stack, report: Report) -> str:
    return str(stack.cluster.state_directory / "baselines" / f"{report.drill_id}.json")


def test_a_backup_is_listed_by_name_in_80_columns(stack: Stack, taken: dict[str, Any]) -> None:
    assert taken["tool"] == stack.tool
    result = run(stack, "backups")
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if taken["name"] in line)
    assert row.split()[-1] == "yes"
    assert max(map(len, result.stdout.splitlines())) <= 80
    listed = {backup["name"]: backup for backup in pure(run(stack, "backups", "agents", "--json"))}
    assert listed[taken["name"]]["finish_lsn"] == taken["finish_lsn"]


def test_a_drill_passes_leaves_nothing_and_its_report_is_the_newest(stack: Stack, taken: dict[str, Any]) -> None:
    before = restored_clusters(stack)
    result = run(stack, "drill")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("PASSED")
    assert f"backup {taken['name']}" in " ".join(result.stdout.split())
    assert "drill 20" in result.stderr
    assert restored_clusters(stack) == before
    shown = run(stack, "report", "--json")
    report = Report.model_validate(pure(shown))
    assert (shown.exit_code, report.verdict, report.cleanup.status) == (0, "passed", "ok")
    assert report.drill_id in run(stack, "report", "--list").stdout
    assert report.drill_id in run(stack, "report", report.drill_id).stdout


def test_a_backup_that_is_not_there_is_answered_with_those_that_are(stack: Stack, taken: dict[str, Any]) -> None:
    result = run(stack, "drill", "--backup", "base_of_another_time", "--json")
    assert result.exit_code == 2
    assert taken["name"] in pure(result)["error"]["found"]


class TestAKeptCluster:
    """A restored cluster that was left running, with its lease."""

    def test_it_verifies_against_the_drill_s_baseline(self, stack: Stack, kept: Report) -> None:
        result = run(stack, "verify", "--dsn", dsn(kept), "--baseline", baseline(stack, kept), "--json")
        found = Verification.model_validate(pure(result))
        assert (result.exit_code, found.verdict) == (0, "passed"), result.stdout
        assert {answer.status for answer in found.results if answer.family == "rows"} == {"pass"}
        assert {answer.name for answer in found.results if answer.status == "skip"} <= {"target-reached", "measured-rpo", "application-test"}

    def test_without_a_baseline_what_was_not_compared_is_not_green(self, stack: Stack, kept: Report) -> None:
        result = run(stack, "verify", "--dsn", dsn(kept))
        assert result.exit_code == 2
        assert result.stdout.startswith("COULD NOT VERIFY")
        assert "give --baseline FILE" in " ".join(result.stdout.split())

    def test_one_family_of_checks_can_be_asked_alone(self, stack: Stack, kept: Report) -> None:
        result = run(stack, "verify", "--dsn", dsn(kept), "--check", "vectors", "--json")
        assert result.exit_code == 0
        assert {answer["family"] for answer in pure(result)["results"]} == {"vectors"}

    def test_another_cluster_than_the_baseline_s_fails(self, stack: Stack, kept: Report, tmp_path: Path) -> None:
        other = json.loads(Path(baseline(stack, kept)).read_text())
        other["system_identifier"] += 1
        file = tmp_path / "baseline.json"
        file.write_text(json.dumps(other))
        result = run(stack, "verify", "--dsn", dsn(kept), "--baseline", str(file), "--check", "recovery", "--check", "vectors")
        assert result.exit_code == 1
        assert result.stdout.startswith("FAILED")
        assert "system-identifier: another cluster writes into this repository" in " ".join(result.stdout.split())

    def test_verifying_changes_nothing(self, stack: Stack, kept: Report) -> None:
        with stack.connect() as connection:
            before = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        run(stack, "verify", "--dsn", dsn(kept), "--check", "vectors")
        with stack.connect() as connection:
            assert connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone() == before

    def test_the_next_drill_leaves_it_alone(self, stack: Stack, kept: Report) -> None:
        result = run(stack, "drill", "--json")
        assert (result.exit_code, pure(result)["error"]["reason"]) == (2, "busy")
        assert kept.drill_id in result.stderr


def test_a_terminated_drill_destroys_its_cluster_and_gives_the_lock_back(stack: Stack, taken: dict[str, Any]) -> None:
    before = set(restored_clusters(stack))
    command = [sys.executable, "-c", "from pgdrill.cli import main; main()", "drill", "--json"]
    child = subprocess.Popen(
        command, env={**os.environ, **stack.environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    new: set[Path] = set()
    while not any((folder / "data" / "PG_VERSION").exists() for folder in new) and time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()
        new = set(restored_clusters(stack)) - before
        time.sleep(0.01)
    assert new, "it never began to restore"
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 143, err
    assert json.loads(out)["error"]["reason"] == "stopped"
    assert_no_secret(stack, out + err)
    assert set(restored_clusters(stack)) == before
    stopped = run(stack, "report", next(iter(new)).name, "--json")
    assert (stopped.exit_code, pure(stopped)["restore"]["trouble"]["reason"]) == (2, "stopped")
    assert run(stack, "drill", "--check", "recovery", "--json").exit_code == 2, "not busy: only the vectors are missing"
    assert pure(run(stack, "report", "--json"))["reason"] == "no vector column was checked"


def test_the_server_s_archive_command_is_the_one_that_is_shown(stack: Stack) -> None:
    with stack.connect() as connection:
        row = connection.execute("SHOW archive_command").fetchone()
    assert row == (pure(run(stack, "archive-command", "--json"))["archive_command"],)


def test_the_config_of_the_stack_is_valid(stack: Stack) -> None:
    assert run(stack, "config", "check").exit_code == 0
