"""What `pgdrill doctor` says of a real Airflow on this host, each time red or warning first, and
green once its hint is followed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.config import parse
from pgdrill.doctor import Line, diagnose
from tests.integration.doctor.test_doctor import commands

PATIENCE_SECONDS = 240.0  # Airflow's imports alone take seconds
pytest.importorskip("airflow")
pytestmark = pytest.mark.timeout(1200)  # each look starts Airflow


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An Airflow of its own, as yet without a database."""
    for name in list(os.environ):
        if name.startswith("AIRFLOW"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    (tmp_path / "airflow" / "dags").mkdir(parents=True)
    yield tmp_path / "airflow"


def asked(tmp_path: Path, **sections: dict[str, object]) -> dict[str, list[Line]]:
    """Lines of the Airflow part by examination."""
    cluster: dict[str, dict[str, object]] = {
        "server": {"data_directory": f"{tmp_path}/pgdata"},
        "repository": {"url": f"file://{tmp_path}/backups"},
    }
    for name, values in sections.items():
        cluster.setdefault(name, {}).update(values)
    access = Access(
        parse({"clusters": {"agents": cluster}}, tmp_path / "dr.toml").cluster("agents")
    )
    lines: dict[str, list[Line]] = {}
    for line in diagnose(access, parts=("airflow",), seconds=PATIENCE_SECONDS).lines:
        lines.setdefault(line.name, []).append(line)
    return lines


def airflow(*words: str) -> None:
    subprocess.run(["airflow", *words], check=True, capture_output=True, timeout=PATIENCE_SECONDS)


def test_connections_that_are_not_there_are_red_and_green_by_the_command_of_the_hint(
    tmp_path: Path,
) -> None:
    names = {"server": {"conn_id": "agents_db"}, "repository": {"conn_id": "agents_s3"}}
    airflow("db", "migrate")
    lacking = asked(tmp_path, **names)["connections"]
    assert [(one.status, one.found) for one in lacking] == [("red", "no such Connection")] * 2
    for one in lacking:
        airflow(*commands(one)[0].split()[1:])
    names["dump"] = {"conn_id": "agents_s3"}
    found = {
        one.thing: (one.status, one.found, one.expected)
        for one in asked(tmp_path, **names)["connections"]
    }
    assert found == {
        "server.conn_id agents_db": ("green", "of type postgres", ""),
        "repository.conn_id agents_s3": ("green", "of type aws", ""),
        "dump.conn_id agents_s3": ("red", "of type aws", "of type postgres"),
    }


def test_before_airflow_has_a_database_nobody_knows_its_connections(tmp_path: Path) -> None:
    (unread,) = asked(tmp_path, server={"conn_id": "agents_db"})["connections"]
    assert (unread.status, "no database" in unread.found, bool(unread.hint)) == (
        "unknown",
        True,
        True,
    )


def test_a_queue_that_the_executor_does_not_know_is_a_warning_until_dr_toml_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (warned,) = asked(tmp_path, server={"queue": "db1"})["queue"]
    assert (warned.status, "LocalExecutor knows no queues" in warned.found) == ("warn", True)
    assert asked(tmp_path)["queue"][0].status == "green"  # as the hint says: empty server.queue
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    assert asked(tmp_path, server={"queue": "db1"})["queue"][0].status == "green"


def test_a_configuration_that_airflow_cannot_read_is_told_in_airflow_s_words_and_the_rest_waits_for_it(  # noqa: E501
    tmp_path: Path, home: Path
) -> None:
    (home / "airflow.cfg").write_text("[core\nexecutor = LocalExecutor\n")
    found = asked(tmp_path, server={"conn_id": "agents_db"})
    (told,) = found["airflow"]
    assert (told.status, "airflow.cfg" in told.found, told.expected) == (
        "unknown",
        True,
        "Airflow is set up here, and answers",
    )
    assert told.hint
    assert {one.hint for name in ("dags", "connections", "queue") for one in found[name]} == {
        "mend airflow first"
    }
    (home / "airflow.cfg").write_text("[core]\nexecutor = LocalExecutor\n")
    assert asked(tmp_path, server={"conn_id": "agents_db"})["airflow"][0].status == "green"


def test_dag_files_that_are_not_there_are_red_until_they_are_copied(tmp_path: Path) -> None:
    (missing,) = asked(tmp_path)["dags"]
    assert (missing.status, missing.expected) == (
        "red",
        "base_backup, restore_drill, logical_dump, retention, backup_health",
    )
    subprocess.run(commands(missing)[0], shell=True, check=True)  # noqa: S602 - the hint as a person would follow it
    assert asked(tmp_path)["dags"][0].status == "green"
