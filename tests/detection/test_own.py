"""Your own SQL files and your application's test: right on a healthy copy, red on what they are
there to find.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pgdrill.checks import Context, run_checks
from pgdrill.checks.runner import checking
from pgdrill.config import ApplicationTest, Cluster
from pgdrill.reports.model import CheckResult
from tests.detection.conftest import DATABASE, STATEMENT_SECONDS, Copy

FAMILIES = ("own",)
QUIET = "SET session_replication_role = replica"


def answers(copy: Copy, *, ours: bool = True, **changes: object) -> list[CheckResult]:
    """As a drill asks, with other settings than the stack's."""
    cluster = copy.mould.stack.cluster
    cluster = Cluster.model_validate(
        {**cluster.model_dump(), "name": cluster.name, "home": cluster.home, **changes}
    )
    connect = checking(lambda name: copy.server.connect(name, autocommit=False), STATEMENT_SECONDS)
    prepare = copy.server.connect if ours else None
    return list(run_checks(Context(cluster, connect, (DATABASE,), prepare=prepare), FAMILIES))


def asked(copy: Copy, folder: Path, *texts: str) -> list[CheckResult]:
    """What statements give, each in a file that expects no rows unless it says more."""
    for number, text in enumerate(texts):
        header = f"-- name: mine-{number}\n" + (
            "" if "-- expect" in text else "-- expect: no rows\n"
        )
        (folder / f"{number}.sql").write_text(header + text)
    return [r for r in answers(copy, checks_directory=str(folder)) if r.name == "own-sql"]


DAMAGES = {
    "vectors moved to another tenant": (
        (
            "UPDATE embeddings e SET tenant_id = (SELECT id FROM tenants t WHERE t.id <>"
            " e.tenant_id LIMIT 1) WHERE id = (SELECT min(id) FROM embeddings WHERE document_id IS"
            " NOT NULL)"
        ),
        "vectors-of-their-tenant 1",
    ),
    "the agents of all tenants but one lost": (
        "DELETE FROM agents WHERE tenant_id <> (SELECT min(tenant_id::text)::uuid FROM agents)",
        "tenants-have-agents 1",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_only_the_application_knows_to_be_wrong_is_named_by_its_file(
    copy: Copy, kind: str
) -> None:
    statement, words = DAMAGES[kind]
    copy.sql(QUIET, statement)
    red = copy.red(*FAMILIES)
    assert [line for line in red.get("own-sql", []) if words in line], red


def test_a_healthy_copy_passes_the_examples_and_the_demo_s_test(copy: Copy) -> None:
    assert {r.status for r in answers(copy)} == {"pass"}


def test_no_command_is_no_question(copy: Copy) -> None:
    found = {(r.name, r.thing): r for r in answers(copy, application_test={})}
    assert {name for name, r in found.items() if r.status == "pass"} == {
        ("own-sql", name)
        for name in ("tenants-have-agents", "text-search-answers", "vectors-of-their-tenant")
    }
    rest = [r for r in found.values() if r.status != "pass"]
    assert [(r.name, r.status, r.required) for r in rest] == [("application-test", "skip", False)]


def test_each_expectation_is_compared_and_a_warning_only_warns(copy: Copy, tmp_path: Path) -> None:
    results = asked(
        copy,
        tmp_path,
        "SELECT 1 WHERE false",
        "SELECT generate_series(1, 7)",
        "-- expect: rows\nSELECT 1 WHERE false",
        "-- expect: = 42\nSELECT 42::numeric",
        "-- expect: between 1 and 5\nSELECT 5.5::float8",
        "-- expect: >= 1\n-- severity: warn\n-- hint: ask Ann\nSELECT 0",
        "-- expect: < 1\nSELECT max(id) FROM agents WHERE false",
        "SELECT generate_series(1, 20000)",
    )
    assert [(r.status, r.value) for r in results] == [
        ("pass", 0),
        ("fail", 7),
        ("fail", 0),
        ("pass", 42),
        ("fail", 5.5),
        ("warn", 0),
        ("fail", "NULL"),
        ("fail", 10000),
    ]
    assert results[5].hint == "ask Ann"
    assert results[1].hint


UNASKABLE = {
    "INSERT INTO tools (name, description) VALUES ('x', 'y')": (
        "the statement writes, and was refused"
    ),
    "SELECT nextval('invoice_number_seq')": "the statement writes, and was refused",
    "WITH gone AS (DELETE FROM agents RETURNING 1) SELECT * FROM gone": (
        "the statement writes, and was refused"
    ),
    "SELECT set_config('transaction_read_only', 'off', true)": (
        "the statement writes, and was refused"
    ),
    "SELECT 1; DROP TABLE agents": "multiple commands",
    "COMMIT": "",
    "SET transaction_read_only = off": "",
    "SELECT * FROM no_such_table": "no_such_table",
    "SELEC 1": "syntax error",
    "-- expect: = 1\nSELECT 1, 2": "no single number",
    "-- expect: = 1\nSELECT generate_series(1, 2)": "no single number",
    "-- expect: = 1\nSELECT 1 WHERE false": "no single number",
    "-- expect: = 1\nSELECT 'one'": "gave no number",
    "-- expect: = 1\nSELECT true": "gave no number",
    "-- timeout: 100 ms\nSELECT pg_sleep(30)": "took longer than 0.1 s",
    "-- database: other\nSELECT 1": "database other is not checked",
    "-- expcet: rows\nSELECT 1": "unknown key 'expcet'; did you mean expect?",
}


def test_what_cannot_be_asked_is_a_required_skip_that_says_why_and_changes_nothing(
    copy: Copy, tmp_path: Path
) -> None:
    before = copy.one(
        "SELECT (SELECT count(*) FROM agents) || '/' || (SELECT count(*) FROM tools) || '/' ||"
        " last_value FROM invoice_number_seq"
    )
    results = asked(copy, tmp_path, *UNASKABLE)
    assert [(r.status, r.required) for r in results] == [("skip", True)] * len(UNASKABLE), results
    messages = " ".join(r.message for r in results)
    assert [words for words in UNASKABLE.values() if words not in messages] == []
    assert [r.thing for r in results if not r.message] == []
    after = copy.one(
        "SELECT (SELECT count(*) FROM agents) || '/' || (SELECT count(*) FROM tools) || '/' ||"
        " last_value FROM invoice_number_seq"
    )
    assert before == after


def test_neither_a_rows_content_nor_an_error_that_repeats_it_is_in_the_answers(
    copy: Copy, tmp_path: Path
) -> None:
    name = str(copy.one("SELECT min(last_name) FROM hc_patients"))
    results = asked(
        copy,
        tmp_path,
        "SELECT last_name FROM hc_patients",
        "-- expect: = 1\nSELECT min(last_name) FROM hc_patients",
        "SELECT min(last_name)::int FROM hc_patients",
        "SELECT format('SELECT %L', last_name)::regclass FROM hc_patients ORDER BY last_name",
    )
    assert [r.status for r in results] == ["fail", "skip", "skip", "skip"]
    assert name not in "".join(r.model_dump_json() for r in results)


def test_a_damaged_page_that_a_statement_meets_fails_whatever_its_severity(
    copy: Copy, tmp_path: Path
) -> None:
    path = str(copy.one("SELECT pg_relation_filepath('hc_patients')"))

    def zero(data: Path) -> None:
        with (data / path).open("r+b") as file:
            file.seek(100)
            file.write(b"x" * 4000)

    copy.stopped(zero)
    results = asked(
        copy, tmp_path, "-- severity: warn\n-- expect: >= 0\nSELECT count(*) FROM hc_patients"
    )
    assert [r.status for r in results] == ["fail"], results


def ran(copy: Copy, *command: str, ours: bool = True, **settings: object) -> CheckResult:
    settings = {"command": command, **settings}
    return next(
        r
        for r in answers(copy, ours=ours, application_test=settings)
        if r.name == "application-test"
    )


QUESTION = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as url, psycopg.connect("") as words:
    for connection in (url, words):
        agents = connection.execute("SELECT count(*) FROM agents").fetchone()[0]
        assert agents > 0, f"{agents} agents"
"""


def test_an_application_without_its_data_fails_with_its_last_lines(copy: Copy) -> None:
    assert ran(copy, sys.executable, "-c", QUESTION).status == "pass"
    copy.sql(QUIET, "TRUNCATE agents CASCADE")
    assert (
        next(r for r in answers(copy) if r.name == "application-test").message
        == "no conversation to write a message to"
    )
    failed = ran(copy, sys.executable, "-c", QUESTION)
    assert (failed.status, failed.value) == ("fail", 1)
    assert "AssertionError: 0 agents" in failed.message


def test_the_application_is_pointed_at_the_copy_and_sees_no_secret(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AIRFLOW_CONN_X"):
        monkeypatch.setenv(name, "canary-of-production")
    monkeypatch.setenv("API_TOKEN", "token-that-is-passed")
    show = (
        "import os, pathlib; print(*sorted(os.environ.items()), pathlib.Path.cwd(), sep='\\n');"
        " raise SystemExit(3)"
    )
    found = ran(copy, sys.executable, "-c", show, working_directory=str(tmp_path))
    assert found.value == 3
    assert str(tmp_path) in found.message
    show = (
        "import os; print(' '.join(os.environ)); print(os.environ['API_TOKEN']); raise"
        " SystemExit(3)"
    )
    found = ran(copy, sys.executable, "-c", show, pass_environment=["API_TOKEN"], user="pgdrill")
    names = set(found.message.partition(" | ")[0].split())
    assert names - {"LC_CTYPE", "LANG"} == {
        "PATH",
        "HOME",
        "PGHOST",
        "PGPORT",
        "PGUSER",
        "PGDATABASE",
        "DATABASE_URL",
        "PGPASSFILE",
        "PGDRILL_DRILL_ID",
        "API_TOKEN",
    }
    assert "***" in found.message
    assert "token-that-is-passed" not in found.message
    role = (
        "import os, psycopg; assert psycopg.connect('').execute('SELECT current_user').fetchone()"
        " == ('pgdrill',)"
    )
    assert ran(copy, sys.executable, "-c", role, user="pgdrill").status == "pass"


@pytest.mark.parametrize("required", [True, False])
def test_a_command_that_cannot_be_started_or_hangs_is_unanswered(
    copy: Copy, tmp_path: Path, required: bool
) -> None:
    script = tmp_path / "without-interpreter"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    folder = {"working_directory": str(tmp_path / "gone")}
    for command, words, more in [
        (("no-such-program",), "no executable", {}),
        ((sys.executable,), "is no folder", folder),
        ((str(script),), "could not be started", {}),
        (
            ("sh", "-c", "echo waiting >&2; sleep 60 & wait"),
            "took longer than 1 s and was ended: waiting",
            {"timeout_seconds": 1},
        ),
    ]:
        found = ran(copy, *command, required=required, **more)
        assert (found.status, found.required) == ("skip", required), found
        assert words in found.message


def test_a_cluster_that_is_not_ours_is_not_written_to(copy: Copy) -> None:
    found = ran(copy, sys.executable, "-c", "raise SystemExit(1)", ours=False)
    assert (found.status, found.required) == ("skip", False)
    assert ApplicationTest().command == ()
