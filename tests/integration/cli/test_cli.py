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
from pgdrill.reports.model import Report
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


def test_a_drill_passes_leaves_nothing_and_its_report_is_the_newest(
    stack: Stack, taken: dict[str, Any]
) -> None:
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
    short, full = (
        run(stack, "report", report.drill_id, *option).stdout for option in ((), ("--full",))
    )
    assert "answers passed" in short
    assert f"pgdrill report {report.cluster} {report.drill_id} --full" in short
    assert f"{len(report.results)} answers: " in full
    assert len(short.splitlines()) < len(full.splitlines())


def test_a_backup_that_is_not_there_is_answered_with_those_that_are(
    stack: Stack, taken: dict[str, Any]
) -> None:
    result = run(stack, "drill", "--backup", "base_of_another_time", "--json")
    assert result.exit_code == 2
    assert taken["name"] in pure(result)["error"]["found"]


class TestAKeptCluster:
    """A restored cluster that was left running, with its lease."""

    def test_it_verifies_against_the_drill_s_baseline(self, stack: Stack, kept: Report) -> None:
        result = run(
            stack,
            "verify",
            "--as-superuser",
            "--dsn",
            dsn(kept),
            "--baseline",
            baseline(stack, kept),
            "--json",
        )
        found = Verification.model_validate(pure(result))
        assert (result.exit_code, found.verdict) == (0, "passed"), result.stdout
        assert {answer.status for answer in found.results if answer.family == "rows"} == {"pass"}
        # What only a drill of one's own can know.
        assert {answer.name for answer in found.results if answer.status == "skip"} <= {
            "target-reached",
            "measured-rpo",
            "instant",
            "timeline",
            "promoted-once",
            "server-log",
            "recovery-leftovers",
            "preload-libraries",
            "heartbeat",
            "application-test",
            "stray-timeline",
        }

    def test_without_a_baseline_what_was_not_compared_is_not_green(
        self, stack: Stack, kept: Report
    ) -> None:
        result = run(stack, "verify", "--as-superuser", "--dsn", dsn(kept))
        assert result.exit_code == 2
        assert result.stdout.startswith("COULD NOT VERIFY")
        assert "give --baseline FILE" in " ".join(result.stdout.split())

    def test_one_family_of_checks_can_be_asked_alone(self, stack: Stack, kept: Report) -> None:
        result = run(
            stack,
            "verify",
            "--as-superuser",
            "--dsn",
            dsn(kept),
            "--baseline",
            baseline(stack, kept),
            "--check",
            "vectors",
            "--json",
        )
        assert result.exit_code == 0
        assert {answer["family"] for answer in pure(result)["results"]} == {"vectors"}

    def test_another_cluster_than_the_baseline_s_fails(
        self, stack: Stack, kept: Report, tmp_path: Path
    ) -> None:
        other = json.loads(Path(baseline(stack, kept)).read_text())
        other["system_identifier"] += 1
        file = tmp_path / "baseline.json"
        file.write_text(json.dumps(other))
        result = run(
            stack,
            "verify",
            "--as-superuser",
            "--dsn",
            dsn(kept),
            "--baseline",
            str(file),
            "--check",
            "recovery",
            "--check",
            "vectors",
        )
        assert result.exit_code == 1
        assert result.stdout.startswith("FAILED")
        assert "system-identifier: another cluster writes into this repository" in " ".join(
            result.stdout.split()
        )

    def test_verifying_changes_nothing(self, stack: Stack, kept: Report) -> None:
        # The server notes by itself what transactions run, its checkpoints, and pruned pages; a
        # message ends the span.
        written = (
            "SELECT * FROM pg_get_wal_records_info(%s, pg_logical_emit_message(false, 'test',"
            " 'end', flush => true)) WHERE resource_manager NOT IN ('Standby', 'XLOG',"
            " 'LogicalMessage') AND record_type NOT LIKE 'PRUNE%%'"
        )
        with stack.connect("postgres") as connection:
            connection.execute("CREATE EXTENSION pg_walinspect")
            before = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
            run(stack, "verify", "--as-superuser", "--dsn", dsn(kept), "--check", "vectors")
            records = connection.execute(written, (before,)).fetchall()
            connection.execute("DROP EXTENSION pg_walinspect")
        assert not records

    def test_the_next_drill_leaves_it_alone(self, stack: Stack, kept: Report) -> None:
        result = run(stack, "drill", "--json")
        assert (result.exit_code, pure(result)["error"]["reason"]) == (2, "busy")
        assert kept.drill_id in result.stderr
        assert "kept for a look" in result.stderr
        assert f"pgdrill destroy agents {kept.drill_id}" in " ".join(result.stderr.split())

    def test_a_drill_told_to_wait_says_for_whom_and_until_when(
        self, stack: Stack, kept: Report
    ) -> None:
        result = run(stack, "drill", "--json", "--wait", "1")
        assert (result.exit_code, pure(result)["error"]["reason"]) == (2, "busy")
        assert (
            f"waiting, for drill of agents is held by {kept.drill_id}, kept for a look, until"
            in result.stderr
        )
        assert "gives up at" in result.stderr


def test_a_terminated_drill_destroys_its_cluster_and_gives_the_lock_back(
    stack: Stack, taken: dict[str, Any]
) -> None:
    before = set(restored_clusters(stack))
    command = [sys.executable, "-c", "from pgdrill.cli import main; main()", "drill", "--json"]
    child = subprocess.Popen(
        command,
        env={**os.environ, **stack.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    new: set[Path] = set()
    while (
        not any((folder / "cluster" / "data" / "PG_VERSION").exists() for folder in new)
        and time.monotonic() < deadline
    ):
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
    assert run(stack, "drill", "--check", "recovery", "--json").exit_code == 2, (
        "not busy: only the vectors are missing"
    )
    assert (
        pure(run(stack, "report", "--json"))["reason"] == "vectors were not asked about, by choice"
    )


def test_a_backup_that_is_mistyped_is_told_before_production_is_read(
    stack: Stack, taken: dict[str, Any]
) -> None:
    baselines = stack.cluster.state_directory / "baselines"
    before = set(baselines.glob("*"))
    result = run(stack, "drill", "--backup", "base_nosuch", "--json")
    assert (result.exit_code, pure(result)["error"]["reason"]) == (2, "unknown-backup")
    assert taken["name"] in pure(result)["error"]["found"]
    assert set(baselines.glob("*")) == before


def test_the_archive_command_comes_in_two_parts_for_two_files(stack: Stack) -> None:
    conf = run(stack, "archive-command", "--conf").stdout
    environment = run(stack, "archive-command", "--environment").stdout
    assert "archive_command = '" in conf
    assert "archive_command" not in environment
    assert run(stack, "archive-command").stdout == conf + environment


def test_the_server_s_archive_command_is_the_one_that_is_shown(stack: Stack) -> None:
    with stack.connect() as connection:
        row = connection.execute("SHOW archive_command").fetchone()
    assert row == (pure(run(stack, "archive-command", "--json"))["archive_command"],)


def test_the_config_of_the_stack_is_valid(stack: Stack) -> None:
    assert run(stack, "config", "check").exit_code == 0


BAD_BASELINES = {
    "broken": lambda text: text[: len(text) // 2],
    "nested too deep": lambda text: "[" * 100_000,
    "no text": lambda text: "\x00\ufffe",
    "of another version": lambda text: json.dumps({**json.loads(text), "version": 99}),
    "of the version before": lambda text: json.dumps({**json.loads(text), "version": 1}),
    "with a key that nobody knows": lambda text: json.dumps({**json.loads(text), "rows": []}),
}


@pytest.fixture(scope="module")
def file(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A baseline, and a role ``reader`` that may read nothing."""
    file = tmp_path_factory.mktemp("verify") / "baseline.json"
    with stack.connect() as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT pg_monitor TO reader")
        assert run(stack, "baseline", "--output", str(file)).exit_code == 0
        yield file
        connection.execute("DROP OWNED BY reader; DROP ROLE reader")


class TestVerifyingWithWhatIsWrong:
    """Production stands for a cluster that somebody restored: a clear answer each time, never a
    pass, never a traceback.
    """

    def verify(self, stack: Stack, file: Path, *words: str, **environment: str) -> tuple[int, Any]:
        dsn = f"host={stack.home} port=5432"
        result = CliRunner().invoke(
            app,
            ["verify", "--dsn", dsn, "--baseline", str(file), "--json", *words],
            env={**stack.environment, **environment},
        )
        assert_no_secret(stack, result.output)
        assert "Traceback" not in result.output
        assert "unexpected error" not in result.output
        return result.exit_code, pure(result)

    def changed(self, file: Path, **more: Any) -> Path:
        other = file.with_name("changed.json")
        other.write_text(json.dumps({**json.loads(file.read_text()), **more}))
        return other

    def test_with_nothing_wrong_it_passes(self, stack: Stack, file: Path) -> None:
        code, found = self.verify(
            stack,
            file,
            "--check",
            "vectors",
            "--check",
            "schema",
            "--check",
            "rows",
            "--as-superuser",
            PGUSER="postgres",
            PGPASSWORD=stack.passwords["postgres"],
        )
        assert (code, found["verdict"]) == (0, "passed"), [
            r for r in found["results"] if r["status"] != "pass"
        ]

    def test_a_superuser_is_refused_unless_meant_and_the_answer_says_who_asked(
        self, stack: Stack, file: Path
    ) -> None:
        superuser = {"PGUSER": "postgres", "PGPASSWORD": stack.passwords["postgres"]}
        code, found = self.verify(stack, file, "--check", "schema", **superuser)
        assert (code, found["error"]["reason"]) == (2, "asked-as-superuser")
        assert "user=pgdrill" in found["error"]["hint"]
        _, found = self.verify(stack, file, "--check", "schema", "--as-superuser", **superuser)
        assert (
            found["asked_as"]
            == "superuser postgres: what users wrote into tables ran with its rights"
        )
        _, found = self.verify(stack, file, "--check", "schema")
        assert found["asked_as"] == "role pgdrill"
        words = [
            "verify",
            "--dsn",
            f"host={stack.home} port=5432",
            "--baseline",
            str(file),
            "--check",
            "schema",
        ]
        shown = CliRunner().invoke(app, words, env=stack.environment)
        assert "asked as role pgdrill" in shown.stdout.partition("Compared with")[0].replace(
            "\n", " "
        )

    def test_a_role_that_may_not_become_the_tenants_is_told_the_grant(
        self, stack: Stack, file: Path
    ) -> None:
        code, found = self.verify(stack, file, "--check", "vectors")
        assert (code, found["verdict"]) == (2, "could not verify")
        (hint,) = {
            r["hint"]
            for r in found["results"]
            if r["name"] == "filtered-search" and r["message"].startswith("cannot")
        }
        assert "GRANT agents_service" in hint

    @pytest.mark.parametrize("kind", BAD_BASELINES)
    def test_a_file_that_is_no_baseline(
        self, stack: Stack, file: Path, tmp_path: Path, kind: str
    ) -> None:
        bad = tmp_path / "bad.json"
        bad.write_text(BAD_BASELINES[kind](file.read_text()))
        code, found = self.verify(stack, bad)
        assert (code, found["error"]["reason"], found["error"]["thing"]) == (
            2,
            "bad-baseline",
            str(bad),
        )
        assert "pgdrill baseline" in found["error"]["hint"]

    def test_another_clusters_baseline(self, stack: Stack, file: Path) -> None:
        code, found = self.verify(stack, self.changed(file, cluster="billing"))
        assert (code, found["error"]["reason"]) == (2, "foreign-baseline")
        assert "billing" in found["error"]["found"]

    def test_a_baseline_of_another_major_version(self, stack: Stack, file: Path) -> None:
        settings = {**json.loads(file.read_text())["settings"], "server_version": "16.9"}
        code, found = self.verify(
            stack, self.changed(file, settings=settings), "--check", "schema", "--check", "rows"
        )
        assert (code, found["verdict"]) == (1, "failed")
        assert "server-version" in found["reason"]

    def test_a_role_that_may_not_read_a_table_is_told_the_grant(
        self, stack: Stack, file: Path
    ) -> None:
        code, found = self.verify(
            stack,
            file,
            "--check",
            "schema",
            "--check",
            "rows",
            PGUSER="reader",
            PGPASSWORD="reader",
        )
        assert (code, found["verdict"]) == (2, "could not verify"), [
            r for r in found["results"] if r["status"] == "fail"
        ]
        told = [
            r["message"]
            for r in found["results"]
            if r["name"] == "table-content" and r["status"] == "skip"
        ]
        assert any("GRANT SELECT ON public.documents TO reader" in message for message in told)
        assert any(
            "pg_authid" in r["thing"]
            for r in found["results"]
            if r["name"] == "catalogs" and r["status"] == "skip"
        )

    def test_a_table_dropped_since_and_a_database_that_is_missing(
        self, stack: Stack, file: Path
    ) -> None:
        data = json.loads(file.read_text())
        state = data["databases"]["agents"]
        state["tables"]["public.dropped"] = state["tables"]["public.re_plans"]
        data["databases"]["billing"] = state
        data["database_forms"]["billing"] = data["database_forms"]["agents"]
        data["database_forms_later"]["billing"] = data["database_forms"]["agents"]
        code, found = self.verify(
            stack, self.changed(file, **data), "--check", "schema", "--check", "rows"
        )
        assert code == 1
        failed = {
            (r["name"], r["thing"]): r["value"] for r in found["results"] if r["status"] == "fail"
        }
        assert failed["table-content", "agents.public.dropped"] == "no such table"
        assert (
            failed["databases", "billing"]
            == failed["table-content", "billing"]
            == "no such database"
        )
