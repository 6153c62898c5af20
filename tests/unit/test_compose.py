"""docker-compose.yaml and Dockerfile, looked at as text: no container engine is needed, and none is
used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (PROJECT / "Dockerfile").read_text()

AIRFLOW = {
    name for name, service in SERVICES.items() if service["image"].startswith("pgdrill-airflow")
}
ENDS_BY_ITSELF = {
    waited_for
    for service in SERVICES.values()
    for waited_for, how in service.get("depends_on", {}).items()
    if how["condition"] == "service_completed_successfully"
}
SECRET_NAME = re.compile(r"PASSWORD|SECRET|_KEY$|TOKEN|CONN", re.IGNORECASE)
REQUIRED_VARIABLE = re.compile(r"\$\{[A-Z_]+:\?[^}]+\}")


def test_the_services_are_airflows_own_layout() -> None:
    assert {
        f"airflow-{it}" for it in ("init", "apiserver", "scheduler", "dag-processor", "triggerer")
    } == AIRFLOW
    assert set(SERVICES) - AIRFLOW == {"postgres"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_everything_a_service_waits_for_exists_and_can_be_waited_for(name: str) -> None:
    for waited_for, how in SERVICES[name].get("depends_on", {}).items():
        assert waited_for in SERVICES
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[waited_for]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ENDS_BY_ITSELF))
def test_a_service_that_stays_has_a_healthcheck(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "retries", "start_period"} <= check.keys()


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_secret_stands_in_the_file(name: str) -> None:
    environment: dict[str, str] = SERVICES[name]["environment"]
    secrets = {key: value for key, value in environment.items() if SECRET_NAME.search(key)}
    assert secrets, "every service needs at least one"
    for key, value in secrets.items():
        assert REQUIRED_VARIABLE.search(value), f"{key} must come from .env and be required"
        assert not re.search(r":[^/$@{}]+@", value), f"{key} holds a literal password"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_named_volumes_are_declared(name: str) -> None:
    sources = [
        volume.partition(":")[0]
        for volume in SERVICES[name].get("volumes", [])
        if volume[0] not in "$./"
    ]
    assert set(sources) <= set(COMPOSE["volumes"])


def test_only_the_scheduler_sees_the_data_directory_and_it_cannot_write_there() -> None:
    mounts = {
        name: volume
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if "PGDRILL_PGDATA" in volume
    }
    assert mounts.keys() == {"airflow-scheduler"}
    assert mounts["airflow-scheduler"].endswith(":ro")


def test_a_stop_leaves_a_backup_the_time_to_end() -> None:
    scheduler = SERVICES["airflow-scheduler"]
    default = re.fullmatch(r"\$\{PGDRILL_STOP_GRACE:-(\d+)h\}", scheduler["stop_grace_period"])
    assert default is not None
    assert int(default[1]) >= 6
    assert scheduler["environment"]["DUMB_INIT_SETSID"] == "0"


def test_settings_shared_by_all_reach_services_with_settings_of_their_own() -> None:
    for name in AIRFLOW:
        assert SERVICES[name]["environment"]["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
        assert "/opt/airflow/include/dr.toml:ro" in str(SERVICES[name]["volumes"])
        # Who draws the DAGs reads there what the tasks have begun with.
        assert "airflow-begun:/opt/airflow/pgdrill" in SERVICES[name]["volumes"]


def test_the_image_is_the_airflow_that_the_tests_run_against() -> None:
    pinned = re.search(
        r"^apache-airflow==(\S+)$", (PROJECT / "requirements.txt").read_text(), re.MULTILINE
    )
    built_on = re.search(r"^ARG AIRFLOW_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert pinned is not None
    assert built_on is not None
    assert pinned[1] == built_on[1]


def test_the_image_copies_only_what_the_build_context_holds() -> None:
    allowed = [
        line[1:].rstrip("/")
        for line in (PROJECT / ".dockerignore").read_text().split()
        if line[0] == "!"
    ]
    copied = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = [source.rstrip("/") for line in copied for source in line.split()]
    assert sources
    assert [it for it in sources if it.split("/")[0] not in allowed] == []
    assert ".env" not in sources


@pytest.mark.parametrize(
    "name", ["Dockerfile", "docker-compose.yaml", "requirements.txt", "constraints.txt"]
)
def test_no_package_index_is_named(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert not re.search(r"index-url|find-links|^-[fi] |://\S*simple", text, re.MULTILINE)
