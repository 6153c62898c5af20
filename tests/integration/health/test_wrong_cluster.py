"""A cluster that dr.toml describes wrongly costs itself only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pgdrill.cli import app
from tests.integration.worlds import empty_server

WRONG = """
[clusters.broken.server]
data_directory = "/pgdata"
[clusters.broken.repository]
url = "ftp://user:sekret@host/place"
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "dr.toml"
    file.write_text(f"""
[clusters.agents.server]
dsn = "host={tmp_path} port=5432 user=postgres dbname=postgres"
data_directory = "{tmp_path}/data"
[clusters.agents.repository]
url = "file://{tmp_path}/store"
[clusters.agents.drill]
work_directory = "{tmp_path}/work"
{WRONG}""")
    return file


def test_the_others_are_looked_at_and_the_wrong_one_is_unknown(config_file: Path) -> None:
    run = CliRunner().invoke(app, ["--config", str(config_file), "health", "--json"])
    told = {one["cluster"]: one["findings"] for one in json.loads(run.stdout)}
    assert told.keys() == {"agents", "broken"}
    assert len(told["agents"]) > 10
    (found,) = told["broken"]
    assert (found["check"], found["status"]) == ("configuration", "unknown")
    assert (found["reason"], "repository.url" in found["found"]) == ("config-invalid", True)
    assert "sekret" not in run.stdout
    assert run.exit_code == 1  # the server of agents is gone

    run = CliRunner().invoke(app, ["--config", str(config_file), "health", "--nagios"])
    assert run.exit_code == 2
    assert "and " in run.stdout
    run = CliRunner().invoke(app, ["--config", str(config_file), "health", "broken"])
    assert (run.exit_code, "repository.url" in run.stderr) == (2, True)


def test_where_every_other_is_well_the_wrong_one_alone_decides(
    config_file: Path, tmp_path: Path
) -> None:
    with empty_server() as server:
        text = config_file.read_text().replace(
            f"host={tmp_path} ", f"host={server.socket_directory} "
        )
        config_file.write_text(text)
        run = CliRunner().invoke(app, ["--config", str(config_file), "health", "--json"])
    told = {one["cluster"]: one["findings"] for one in json.loads(run.stdout)}
    status = {one["check"]: one["status"] for one in told["agents"]}
    assert status["server"] == "ok"
    assert status["clock"] == "ok"
    assert told["broken"][0]["status"] == "unknown"
