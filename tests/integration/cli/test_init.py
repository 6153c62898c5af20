"""``pgdrill init`` on a real server: what it finds out is right, what it cannot know it asks for,
and no secret is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.cli import app
from pgdrill.config import Cluster, load
from pgdrill_demo.stack import preferred_tool
from tests.conftest import need
from tests.damage.small import SmallStack
from tests.integration.worlds import production


@pytest.fixture(scope="module")
def stack() -> Iterator[SmallStack]:
    with production(need(preferred_tool())) as made:
        with made.connect() as connection:
            connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
        yield made


@pytest.fixture(autouse=True)
def _nothing_of_this_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "WALG_", "PG", "AIRFLOW")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGDRILL_CONFIG", str(tmp_path / "dr.toml"))


@pytest.fixture
def keys(stack: SmallStack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.s3.environment.items():
        monkeypatch.setenv(name, value)


def init(stack: SmallStack, *words: str, answers: str | None = None, url: str = "") -> Result:
    store = stack.cluster.repository
    given = ["--repository", url or store.url, "--endpoint-url", store.endpoint_url]
    return CliRunner().invoke(app, ["init", *given, *words], input=answers)


def dsn(stack: SmallStack, *, user: str = "pgdrill", password: str = "") -> str:
    return f"postgresql://{user}:{password or stack.passwords['pgdrill']}@/agents?host={stack.home}"


def written(name: str = "agents") -> Cluster:
    return load(Path(os.environ["PGDRILL_CONFIG"])).cluster(name)


@pytest.mark.usefixtures("keys")
def test_what_it_writes_is_what_a_backup_needs_and_holds_no_password(
    stack: SmallStack, tmp_path: Path
) -> None:
    place = tmp_path / "work"
    done = init(stack, "--yes", "--dsn", dsn(stack), "--work-directory", str(place))
    assert done.exit_code == 0, done.output
    password = stack.passwords["pgdrill"]
    assert password not in done.output + Path(os.environ["PGDRILL_CONFIG"]).read_text()
    assert re.search(r"PGPASSWORD.*\n?.*~/.pgpass", done.output)
    found, known = written(), stack.cluster
    assert (found.server.data_directory, found.server.bin_dir) == (
        known.server.data_directory,
        known.server.bin_dir,
    )
    assert found.repository.tool == preferred_tool()
    with stack.connect() as connection:
        row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    assert row == (found.server.system_identifier,)
    assert "login: " in done.output, "it ends with doctor's lines"
    assert not re.search(r"^  (red|unknown) ", done.output, re.MULTILINE), done.output
    take_backup(Access(found, Credentials({"password": password})))


@pytest.mark.usefixtures("keys")
def test_run_twice_it_changes_nothing_and_another_name_is_added(
    stack: SmallStack, tmp_path: Path
) -> None:
    words = ("--yes", "--dsn", dsn(stack), "--work-directory", str(tmp_path / "work"))
    assert init(stack, *words).exit_code == 0
    before = Path(os.environ["PGDRILL_CONFIG"]).read_text()
    again = init(stack, *words)
    assert (again.exit_code, "cluster-is-there" in again.stderr) == (2, True)
    assert Path(os.environ["PGDRILL_CONFIG"]).read_text() == before
    other = init(stack, *words, "other", "--database", "agents", url="s3://backups/other")
    assert other.exit_code == 0, other.output
    assert written("other").server.databases == ("agents",)
    assert written("agents").server.databases == ()


def test_a_server_that_is_not_there_is_told_with_a_hint_and_what_was_given_is_written(
    stack: SmallStack, tmp_path: Path
) -> None:
    nobody = f"host={tmp_path} dbname=agents user=pgdrill"
    words = ("--yes", "--dsn", nobody, "--tool", preferred_tool())
    refused = init(stack, *words)
    assert (refused.exit_code, "--data-directory" in refused.output) == (2, True)
    assert "server-unreachable" in refused.stderr
    assert "check that it runs" in " ".join(refused.stderr.split())
    assert not Path(os.environ["PGDRILL_CONFIG"]).exists()
    data = stack.cluster.server.data_directory
    done = init(
        stack, *words, "--data-directory", str(data), "--bin-dir", str(stack.programs.folder)
    )
    assert done.exit_code == 0, done.output
    assert written().server.data_directory == data
    assert re.search(r"^  red +login: ", done.output, re.MULTILINE)


def test_a_role_that_may_not_see_the_data_directory_is_asked_for_it(
    stack: SmallStack, tmp_path: Path
) -> None:
    words = (
        "--dsn",
        dsn(stack, user="stranger", password="stranger"),
        "--work-directory",
        str(tmp_path / "work"),
    )
    data = stack.cluster.server.data_directory
    done = init(stack, *words, "mine", "--tool", preferred_tool(), answers=f"{data}\ny\n")
    assert done.exit_code == 0, done.output
    assert written("mine").server.data_directory == data
    assert written("mine").server.bin_dir == stack.programs.folder


@pytest.mark.usefixtures("keys")
def test_it_asks_for_the_rest_and_writes_nothing_without_a_yes(
    stack: SmallStack, tmp_path: Path
) -> None:
    questions = f"{dsn(stack)}\nhouse\n{preferred_tool()}\n"  # server, name, tool
    done = init(stack, "--work-directory", str(tmp_path / "work"), answers=questions + "n\n")
    assert (done.exit_code, Path(os.environ["PGDRILL_CONFIG"]).exists()) == (1, False), done.output
    done = init(stack, "--work-directory", str(tmp_path / "work"), answers=questions + "y\n")
    assert done.exit_code == 0, done.output
    assert written("house").server.dsn.endswith("dbname=agents")
