"""The command line without a server: arguments, errors, exit codes, pure JSON, and no secret
anywhere.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner, Result

from pgdrill import version
from pgdrill.access import Access
from pgdrill.checks import CHECKS
from pgdrill.cli import app
from pgdrill.cli.groups import IN_ORDER, STEPS
from pgdrill.config import load
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.host.lock import ClusterLock, lease_for
from pgdrill.reports import store
from pgdrill.reports.model import CheckResult, Report, Verdict
from tests.reports import passed_report

SECRET = "hunter2-very-secret"
CLUSTER = """
[clusters.{name}.server]
data_directory = "{home}/pgdata"
[clusters.{name}.repository]
url = "file://{home}/{name}-backups"
binary = "/bin/true"
[clusters.{name}.drill]
work_directory = "{home}/work"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cluster, ``agents``, in a folder; secrets in the environment."""
    file = tmp_path / "dr.toml"
    file.write_text(CLUSTER.format(name="agents", home=tmp_path))
    monkeypatch.setenv("PGDRILL_CONFIG", str(file))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"id-{SECRET}")
    monkeypatch.setenv("PGPASSWORD", SECRET)
    return file


@pytest.fixture
def two_clusters(config: Path) -> Path:
    config.write_text(
        "".join(CLUSTER.format(name=name, home=config.parent) for name in ("agents", "sales"))
    )
    return config


def run(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert SECRET not in result.output
    assert "Traceback" not in result.output or "--debug" in words
    return result


def pure(result: Result) -> Any:
    return json.loads(result.stdout)


def report(verdict: Verdict = "passed", drill_id: str = "20261127T110000Z-3f9a2c") -> Report:
    made = passed_report(drill_id)
    status = {"passed": "pass", "failed": "fail", "could not verify": "skip"}[verdict]
    made.results = [
        *made.results,
        CheckResult(name="index-recall", family="vectors", status=status),
    ]  # type: ignore[arg-type]
    made.judge()
    assert made.verdict == verdict
    return made


def access(config: Path) -> Access:
    return Access(load(config).cluster("agents"))


# --- Arguments and the configuration ---


def test_the_version_is_the_package_s() -> None:
    assert run("--version").output == f"pgdrill {version()}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pgdrill.cli import main\ntry: main(['--help'])\nexcept SystemExit:"
        " print(sorted({'numpy', 'psycopg', 'pydantic', 'obstore'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert "archive-command" in done.stdout


def test_help_lists_every_command_once_under_its_step_in_the_order_of_use() -> None:
    shown = run("--help").output
    listed = re.findall(
        r"^(?:(\S.*):$|  ([a-z-]+)  )",
        shown.partition("Set up:")[1] + shown.partition("Set up:")[2],
        re.MULTILINE,
    )
    assert [step for step, _ in listed if step] == list(STEPS)
    assert [name for _, name in listed if name] == IN_ORDER
    known = {one.name for one in app.registered_commands} | {
        group.name for group in app.registered_groups
    }
    assert known == set(IN_ORDER), "give the command a place in pgdrill.cli.groups.STEPS"
    assert "..." not in shown.partition("Set up:")[2], "the first sentence is shown whole"


@pytest.mark.parametrize(
    "words", [["nonsense"], ["backup", "--nonsense"], ["verify"], ["config", "nonsense"]]
)
def test_bad_arguments_are_exit_code_2(config: Path, words: list[str]) -> None:
    assert run(*words).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["backup"],
        ["backups"],
        ["drill"],
        ["report"],
        ["archive-command"],
        ["config", "check"],
        ["doctor"],
    ],
)
def test_a_config_error_names_file_key_and_mend_whatever_the_command(
    config: Path, words: list[str]
) -> None:
    config.write_text(config.read_text().replace("binary", "binray") + "rto_second = 1\n")
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    joined = "".join(result.stderr.split())
    assert "".join(str(config).split()) in joined
    assert "[clusters.agents.repository.binray]isnoknownkey;didyoumeanbinary?" in joined
    assert "[clusters.agents.drill.rto_second]isnoknownkey;didyoumeanrto_seconds?" in joined
    assert "hint" in result.stderr


@pytest.fixture
def one_wrong(two_clusters: Path) -> Path:
    """`agents` is good; `sales` is not."""
    two_clusters.write_text(two_clusters.read_text() + "rto_second = 1\n")
    return two_clusters


@pytest.mark.parametrize(
    "words",
    [["archive-command", "agents"], ["report", "agents", "--list"], ["hold", "list", "agents"]],
)
def test_a_cluster_that_is_wrong_costs_no_command_of_another(
    one_wrong: Path, words: list[str]
) -> None:
    result = run(*words)
    assert (result.exit_code, "rto_second" in result.output) == (0, False)


@pytest.mark.parametrize(
    "words", [["archive-command", "sales"], ["backup", "sales"], ["drill", "sales"]]
)
def test_its_own_commands_say_what_is_wrong(one_wrong: Path, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "[clusters.sales.drill.rto_second]isnoknownkey" in "".join(result.stderr.split())


def test_a_cluster_has_to_be_named_though_only_one_is_right(one_wrong: Path) -> None:
    result = run("archive-command")
    assert result.exit_code == 2
    assert "agents, sales" in result.stderr


def test_commands_about_every_cluster_do_what_they_can_and_name_the_one_that_is_wrong(
    one_wrong: Path,
) -> None:
    for words in (["sweep"], ["config", "check"]):
        result = run(*words)
        assert result.exit_code == 2, words
        assert "[clusters.sales.drill.rto_second]isnoknownkey" in "".join(result.stderr.split())
    shown = run("config", "check").stdout
    assert "is not valid: wrong sales; can be used: agents" in shown.replace("\n", " ")
    assert "cluster agents" in shown
    found = run("config", "check", "--json")
    assert found.exit_code == 2
    assert list(pure(found)["wrong"]) == ["sales"]


def test_a_config_error_is_json_for_programs(config: Path) -> None:
    config.write_text("nonsense")
    result = run("config", "check", "--json")
    assert result.exit_code == 2
    assert pure(result)["error"]["reason"] == "config-syntax"
    assert pure(result)["error"]["thing"] == str(config)


def test_a_missing_config_says_how_to_name_one(tmp_path: Path) -> None:
    result = run("--config", str(tmp_path / "none.toml"), "backups")
    assert result.exit_code == 2
    assert "PGDRILL_CONFIG" in result.stderr


def test_an_unknown_cluster_is_answered_with_the_known_ones(two_clusters: Path) -> None:
    result = run("report", "nosuch")
    assert result.exit_code == 2
    assert "only agents, sales" in result.stderr


def test_the_cluster_has_to_be_named_where_there_are_several(two_clusters: Path) -> None:
    result = run("drill")
    assert result.exit_code == 2
    assert "one of agents, sales" in result.stderr


def test_config_check_lists_what_it_found(two_clusters: Path) -> None:
    result = run("config", "check", "--config", str(two_clusters))
    assert result.exit_code == 0
    assert "is valid: 2 clusters" in result.stdout.replace("\n", "")
    for words in (
        "cluster agents",
        "cluster sales",
        "wal-g",
        "sales-backups",
        "0 11 * * 5",
        "RTO 1 h, RPO 60 s",
    ):
        assert words in "".join(result.stdout.split("\n"))


def test_config_check_gives_programs_every_value_with_its_default(config: Path) -> None:
    found = pure(run("config", "check", "--json"))
    assert found["file"] == str(config)
    assert found["clusters"]["agents"]["drill"]["rto_seconds"] == 3600


def test_config_check_reports_a_broken_sql_check_beforehand(config: Path) -> None:
    folder = config.parent / "checks"
    folder.mkdir()
    (folder / "good.sql").write_text("-- name: good\n-- expect: rows\nSELECT 1")
    result = run("config", "check")
    assert (result.exit_code, "good(" in "".join(result.stdout.split())) == (0, True)
    (folder / "bad.sql").write_text("-- name: bad\n-- expcet: rows\nSELECT 1")
    result = run("config", "check")
    assert result.exit_code == 2
    assert "bad.sql,line2" in "".join(result.stderr.split())
    assert "did you mean expect?" in " ".join(result.stderr.split())
    assert (
        pure(run("config", "check", "--json"))["broken_own_checks"][0]["reason"] == "bad-sql-check"
    )


# --- The commands that only show ---


def test_checks_lists_every_registered_check_with_its_hint() -> None:
    result = run("checks")
    assert result.exit_code == 0
    for check in CHECKS.values():
        assert f"{check.name} ({check.family}" in result.stdout
        assert check.passing in result.stdout
        assert check.hint in result.stdout
        assert check.example in result.stdout
    assert {check["name"] for check in pure(run("checks", "--json"))} == set(CHECKS)


def test_archive_command_shows_the_line_and_names_secrets_without_their_values(
    tmp_path: Path, config: Path
) -> None:
    config.write_text(
        config.read_text().replace(f"file://{tmp_path}/agents-backups", "s3://bucket/agents")
    )
    result = run("archive-command")
    assert result.exit_code == 0
    assert "archive_command = 'sh " in result.stdout
    assert "archive_timeout = 45 " in result.stdout, "a push takes time, too, and the promise is 60"
    assert 'wal.sh push 16777216 "%f" "%p" /bin/true wal-push "%p"' in result.stdout
    assert "WALG_S3_PREFIX=s3://bucket/agents\n" in result.stdout
    assert "# AWS_SECRET_ACCESS_KEY=" in result.stdout
    assert "16 MiB" in result.stderr
    found = pure(run("archive-command", "--json"))
    assert found["secret_variables"] == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    assert found["archive_command"].startswith("sh ")


def test_backups_of_an_empty_repository_say_what_to_do(config: Path) -> None:
    result = run("backups")
    assert (result.exit_code, "take one with `pgdrill backup`" in result.stdout) == (0, True)
    assert pure(run("backups", "--json")) == []


def test_without_a_report_there_is_nothing_to_judge(config: Path) -> None:
    assert run("report").exit_code == 2
    listed = run("report", "--list")
    assert (listed.exit_code, "pgdrill drill" in listed.stdout) == (0, True)


def test_the_newest_report_is_shown_unless_one_is_named(config: Path) -> None:
    store.save_report(access(config), report("failed", "20261120T110000Z-aaaaaa"))
    store.save_report(access(config), report("passed", "20261127T110000Z-bbbbbb"))
    assert run("report").stdout.startswith("PASSED")
    assert pure(run("report", "agents", "--json"))["drill_id"] == "20261127T110000Z-bbbbbb"
    for words in (["agents", "20261120T110000Z-aaaaaa"], ["20261120T110000Z-aaaaaa"]):
        assert run("report", *words).stdout.startswith("FAILED")


@pytest.mark.parametrize(
    ("verdict", "code"), [("passed", 0), ("failed", 1), ("could not verify", 2)]
)
def test_the_exit_code_of_a_report_is_its_verdict_s(
    config: Path, verdict: Verdict, code: int
) -> None:
    store.save_report(access(config), report(verdict))
    assert run("report").exit_code == code
    assert run("report", "--list").exit_code == 0


def test_a_report_that_cannot_be_read_does_not_hide_the_others(config: Path) -> None:
    store.save_report(access(config), report())
    store.report_file(access(config), "20261101T110000Z-cccccc").write_text("{}")
    found = pure(run("report", "--list", "--json"))
    assert [line["verdict"] for line in found] == ["unreadable", "passed"]


# --- The commands that do something ---


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The library's drill, played: gives ``result`` and keeps what it was called with."""
    kept: dict[str, Any] = {"result": report()}

    def played(cluster: Access, **options: Any) -> Report:
        logging.getLogger("pgdrill.drill").info("a line of the log")
        result = kept["result"]
        kept.update(options)
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]

    monkeypatch.setattr("pgdrill.drill.drill", played)
    return kept


@pytest.mark.parametrize(
    ("verdict", "code"), [("passed", 0), ("failed", 1), ("could not verify", 2)]
)
def test_the_exit_code_of_a_drill_is_its_verdict_s(
    config: Path, asked: dict[str, Any], verdict: Verdict, code: int
) -> None:
    asked["result"] = report(verdict)
    result = run("drill")
    assert result.exit_code == code
    assert result.stdout.startswith(verdict.upper())


def test_a_drill_s_json_is_pure_and_its_log_is_on_stderr(
    config: Path, asked: dict[str, Any]
) -> None:
    result = run("drill", "--json")
    assert Report.model_validate(pure(result)).verdict == "passed"
    assert "a line of the log" in result.stderr


def test_a_drill_is_asked_for_what_was_typed(config: Path, asked: dict[str, Any]) -> None:
    run(
        "drill",
        "agents",
        "--target",
        "lsn:0/3000028",
        "--backup",
        "base_x",
        "--check",
        "vectors",
        "--check",
        "rows",
    )
    assert (asked["target"], asked["backup"], asked["families"]) == (
        "lsn:0/3000028",
        "base_x",
        ("vectors", "rows"),
    )
    assert asked["keep"] is False
    run("drill", "--keep")
    assert asked["keep"] is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "yesterday"], "time:2026-11-20T11:00:00Z"),
        (["--check", "colours"], "recovery, vectors"),
    ],
    ids=["target", "family"],
)
def test_a_wrong_wish_is_refused_before_anything_starts(
    config: Path, asked: dict[str, Any], words: list[str], said: str
) -> None:
    result = run("drill", *words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert "target" not in asked
    assert not (config.parent / "work").exists()


@pytest.mark.parametrize(("kind", "code"), [(BackupFault, 1), (CouldNotVerify, 2)])
def test_whose_fault_an_error_is_decides_the_exit_code(
    config: Path, asked: dict[str, Any], kind: type[BackupFault], code: int
) -> None:
    asked["result"] = kind("a-reason", "the thing", found="this", expected="that", hint="do it")
    result = run("drill", "--json")
    assert result.exit_code == code
    assert pure(result)["error"] == {
        "reason": "a-reason",
        "thing": "the thing",
        "found": "this",
        "expected": "that",
        "hint": "do it",
    }
    for words in ("a-reason", "the thing", "this", "that", "do it"):
        assert words in result.stderr


def test_an_unexpected_error_is_one_line_that_names_debug(
    config: Path, asked: dict[str, Any]
) -> None:
    asked["result"] = RuntimeError(f"two\nlines with {SECRET}")
    result = run("drill")
    assert result.exit_code == 2
    assert (
        result.stderr.splitlines()[-1]
        == "pgdrill: unexpected error: RuntimeError: two lines with *** (run with --debug for the"
        " traceback)"
    )
    assert "Traceback" in run("--debug", "drill").stderr


def test_a_cluster_that_is_being_drilled_is_left_alone(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "work" / "agents"
    with ClusterLock(other / "drill.lock").hold(lease_for("another-drill", other, 600)):
        pass  # its stage has ended, its lease has not
    result = run("drill", "--json")
    assert result.exit_code == 2
    assert pure(result)["error"]["reason"] == "busy"
    assert "another-drill" in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_drill_ends_its_tool_destroys_its_cluster_and_says_so(
    config: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    seen: list[object] = []

    def drill(cluster: Access, **options: Any) -> NoReturn:
        seen.append(options["runner"])
        os.kill(os.getpid(), number)
        time.sleep(10)
        raise AssertionError("the signal did not stop it")

    def destroy(cluster: Access, drill_id: str) -> None:
        os.kill(os.getpid(), number)  # a second Ctrl-C must not stop the clean-up
        seen.append(drill_id)

    monkeypatch.setattr("pgdrill.drill.drill", drill)
    monkeypatch.setattr("pgdrill.drill.destroy_stage", destroy)
    before = signal.getsignal(number)
    result = run("drill", "--json")
    assert result.exit_code == code
    assert pure(result)["error"]["reason"] == "stopped"
    assert seen[0].stopped  # type: ignore[attr-defined]
    assert len(seen) == 2
    assert signal.getsignal(number) == before


def test_a_backup_away_from_the_data_directory_says_where_to_run_it(config: Path) -> None:
    result = run("backup", "--json")
    assert result.exit_code == 2
    assert pure(result)["error"]["reason"] == "no-data-directory"


@pytest.mark.parametrize(
    "words", [[], ["agents"], ["../../etc"], ["agents", "../x"], ["agents", "a/b"]]
)
def test_destroy_wants_an_id_that_cannot_leave_the_folder(config: Path, words: list[str]) -> None:
    result = run("destroy", *words)
    assert result.exit_code == 2


def test_destroying_what_is_gone_is_fine(config: Path) -> None:
    store.save_report(access(config), report())
    result = run("destroy", "20261127T110000Z-3f9a2c", "--json")
    assert result.exit_code == 0
    assert pure(result)["cleanup"]["status"] == "ok"
    assert run("destroy", "agents", "20261127T110000Z-ffffff").exit_code == 0


@pytest.mark.parametrize(
    "dsn",
    [f"host=x password={SECRET}", f"postgresql://u:{SECRET}@h/db", f"postgresql://u:{SECRET}%zz@h"],
)
def test_a_password_in_the_arguments_is_refused_and_not_repeated(config: Path, dsn: str) -> None:
    result = run("verify", "--dsn", dsn, "--json")
    assert result.exit_code == 2
    assert pure(result)["error"]["thing"] == "--dsn"


def test_a_server_that_does_not_answer_could_not_be_verified(config: Path, tmp_path: Path) -> None:
    result = run("verify", "--dsn", f"host={tmp_path} user=somebody", "--json")
    assert result.exit_code == 2
    assert pure(result)["error"]["reason"] == "server-unreachable"


@pytest.mark.parametrize("content", [None, "no json", "[1]", '{"some": "thing"}'])
def test_what_is_no_baseline_is_named(config: Path, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "baseline.json"
    if content is not None:
        file.write_text(content)
    result = run("verify", "--dsn", "host=x", "--baseline", str(file), "--json")
    assert result.exit_code == 2
    assert pure(result)["error"]["reason"] == "bad-baseline"
    assert pure(result)["error"]["thing"] == str(file)
