"""Whoever owns a table on production gets no superuser's rights in a drill, whatever the table is
made of.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import destroy_stage, drill
from pgdrill.postgres import roles, sandbox_settings
from pgdrill.postgres.roles import make_roles
from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import Report
from pgdrill_demo.stack import DATABASE, Stack, preferred_tool
from tests.integration.jobs.strangers import SUPERUSERS_TRAP, TRAPS, Trap, attack, sprung

# A superuser's way in that leaves the cluster's own event triggers on.
LET_IN = (
    "-c session_preload_libraries= -c local_preload_libraries= -c role=none -c statement_timeout=0"
)
OWN_CHECK = """-- name: mallorys-rows
-- expect: = 40
SELECT count(*) FROM mallory.t3 WHERE mallory.evil('own check', id) > 0
"""
APPLICATION = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    assert connection.execute("SELECT count(*) FROM mallory.t3 WHERE id > 0").fetchone() == (40,)
    for table in ("t8", "t11", "t14", "t15"):
        connection.execute(f"INSERT INTO mallory.{table} (id) VALUES (41)")
    assert connection.execute("SELECT count(*) FROM precious WHERE id > 0").fetchone() == (40,)
    connection.execute(
        "INSERT INTO keepsake VALUES (7)"
    )  # the key is looked up as the owner of the other table
"""


@dataclass
class Attacked:
    """A production that an attacker prepared, and the drill of it, whose server is left running."""

    stack: Stack
    access: Access
    report: Report
    canaries: list[str]  # files that were there after the drill
    log: str  # of the restored server, as the drill left it

    @property
    def workspace(self) -> Workspace:
        return Workspace.of(self.access, self.report.drill_id)

    @property
    def server(self) -> LocalServer:
        return self.workspace.server(self.access)


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attacked]:
    stack = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
    canaries = stack.home / "canaries"
    drill_id = ""
    try:
        stack.create(scale=0.05)
        stack.start()
        canaries.mkdir(mode=0o777)
        with stack.connect() as superuser:
            superuser.execute(
                "CREATE ROLE mallory LOGIN PASSWORD 'm'; GRANT CREATE ON DATABASE agents TO"
                " mallory; GRANT CREATE ON SCHEMA public TO mallory"
            )
            with psycopg.connect(
                host=str(stack.home), user="mallory", password="m", dbname=DATABASE, autocommit=True
            ) as mallory:
                attack(superuser, mallory, canaries)
            superuser.execute("SET role = none; ALTER ROLE mallory NOSUPERUSER")
        assert list(canaries.iterdir()), "the attack does not work at all"
        for file in canaries.iterdir():
            file.unlink()
        access = with_own_checks(stack)
        take_backup(access)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(roles, "UNHEARD", "ALTER ROLE {} SET log_min_messages = 'info'")
            patch.setattr(
                sandbox_settings, "settings", logging_every_statement(sandbox_settings.settings)
            )
            report = drill(access, keep=True)
        drill_id = report.drill_id
        log = Workspace.of(access, drill_id).log_file.read_text(errors="replace")
        yield Attacked(stack, access, report, sorted(file.name for file in canaries.iterdir()), log)
    finally:
        if drill_id:
            destroy_stage(stack.access, drill_id)
        stack.remove()


def logging_every_statement(
    settings: Callable[..., dict[str, str]],
) -> Callable[..., dict[str, str]]:
    def with_log(**given: Any) -> dict[str, str]:
        return settings(**given) | {"log_statement": "all", "log_line_prefix": "%m [%p] %q<%u> "}

    return with_log


def with_own_checks(stack: Stack) -> Access:
    """With own checks and an application's test that touch the attacker's tables."""
    checks = stack.home / "checks"
    checks.mkdir()
    (checks / "mallorys-rows.sql").write_text(OWN_CHECK)
    access = stack.access
    test = access.cluster.application_test.model_copy(
        update={"command": (sys.executable, "-c", APPLICATION)}
    )
    return Access(
        access.cluster.model_copy(update={"checks_directory": checks, "application_test": test}),
        access.credentials,
    )


def test_no_code_of_a_stranger_ran_as_a_superuser_in_a_whole_drill(attacked: Attacked) -> None:
    assert attacked.canaries == []
    assert sprung(attacked.log) == set()


def test_the_drill_passed_or_said_in_words_what_it_did_not_ask(attacked: Attacked) -> None:
    bad = [
        (r.name, r.thing, r.status, r.value, r.message)
        for r in attacked.report.results
        if r.status == "fail" or (r.status == "skip" and r.required)
    ]
    assert bad == []
    assert attacked.report.verdict == "passed", attacked.report.reason
    asked = {r.name: r.status for r in attacked.report.results if r.family == "own"}
    assert asked == {"own-sql": "pass", "application-test": "pass"}


RELATIONS = """
SELECT c.relname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_temp'
"""
STATEMENT = re.compile(
    r"\[\d+\] <([^>]*)> LOG:  (?:statement|execute [^:]*): ((?:.*\n)(?:\t.*\n)*)"
)
LITERAL = re.compile(r"'(?:[^']|'')*'")


def test_no_statement_of_the_superuser_names_a_relation_of_a_users(attacked: Attacked) -> None:
    with attacked.server.system(DATABASE) as connection:
        # the attacker's, too, has one
        names = {name for name, _ in connection.execute(RELATIONS).fetchall()} - {"pg_class"}
    named: dict[str, set[str]] = {}
    for user, statement in STATEMENT.findall(attacked.log):
        words = set(re.findall(r"[\w$]+", LITERAL.sub("''", statement)))
        named.setdefault(user, set()).update(words & names)
    assert named["postgres"] == set()
    asked = set().union(
        *(found for user, found in named.items() if user.startswith("pgdrill_asks_"))
    )
    assert {"precious", "precious_hnsw", "embeddings", "t1", "t20"} & asked >= {
        "precious",
        "embeddings",
        "t1",
    }, "the log is read rightly"


@pytest.mark.parametrize(
    "trap", [trap for trap in (*TRAPS, SUPERUSERS_TRAP) if trap.asked], ids=lambda trap: trap.name
)
def test_asked_as_a_superuser_each_trap_would_have_sprung(attacked: Attacked, trap: Trap) -> None:
    with psycopg.connect(
        attacked.server.conninfo(DATABASE, options=LET_IN), autocommit=True
    ) as superuser:
        superuser.execute(
            "SET search_path = public, pg_catalog; SET session_replication_role = origin"
        )
        for statement in trap.asked.split("; "):
            # where a fence refuses the program, the statement that met it may end as well
            with contextlib.suppress(psycopg.Error):
                superuser.execute(statement)
    assert trap.name in sprung(attacked.server.log_file.read_text(errors="replace"))


def test_a_superusers_session_that_goes_by_the_clusters_settings_runs_the_attackers_code(
    attacked: Attacked,
) -> None:
    with pytest.raises(psycopg.OperationalError, match="no_such_library"):
        psycopg.connect(attacked.server.conninfo(DATABASE))
    psycopg.connect(attacked.server.conninfo(DATABASE, options=LET_IN)).close()
    assert "login" in sprung(attacked.server.log_file.read_text(errors="replace"))


def test_whoever_asks_leads_nowhere(attacked: Attacked, tmp_path: Path) -> None:
    roles = make_roles(attacked.server, tmp_path / "roles", [DATABASE])
    for name in roles.names:
        with attacked.server.connect(DATABASE, user=name) as connection:
            connection.execute("RESET ROLE; RESET SESSION AUTHORIZATION")
            assert connection.execute(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone() == (False,)
            for attempt in (
                "SET ROLE postgres",
                "SET SESSION AUTHORIZATION postgres",
                "COPY (SELECT 1) TO PROGRAM 'true'",
                "SELECT lo_export(1, '/tmp/x')",
                "SET event_triggers = on",
                "CREATE ROLE more",
                "LOAD '/tmp/x'",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(attempt)
    roles.remove([DATABASE])


def test_nothing_lent_is_left_in_the_copy(attacked: Attacked) -> None:
    with attacked.server.system(DATABASE) as connection:
        for query in (
            "SELECT rolname FROM pg_roles WHERE rolname ~ '^pgdrill_'",
            "SELECT proname FROM pg_proc WHERE proname ~ '^pgdrill_'",
            "SELECT extname FROM pg_extension WHERE extname IN ('amcheck', 'pg_prewarm')",
            "SELECT indexrelid FROM pg_index WHERE NOT indisvalid",
        ):
            assert connection.execute(query).fetchall() == [], query
