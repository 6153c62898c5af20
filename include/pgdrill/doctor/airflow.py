"""Examinations of Airflow, where it is set up on this host.

They are of DAG files, Connections, and the workers' queue.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, not_asked, red, unknown, warn
from pgdrill.doctor.subject import Subject

PART = "airflow"
MADE_BY = {
    "base_backup": "base_backup_dag",
    "restore_drill": "restore_drill_dag",
    "logical_dump": "logical_dump_dag",
    "retention": "retention_dag",
    "backup_health": "backup_health_dag",
}
KINDS = {
    "server.conn_id": "postgres",
    "server.standby_conn_id": "postgres",
    "dump.conn_id": "postgres",
    "repository.conn_id": "aws",
    "airflow.conn_id": "http",
}
ALONE = ("LocalExecutor", "SequentialExecutor")


@examination(
    "airflow",
    PART,
    green="Airflow is set up here, and answers",
    hint="run the command as the user that runs Airflow, with its AIRFLOW_HOME",
    example=(
        "airflow: airflow.exceptions.AirflowConfigException: error: Unable to read the config file"
    ),
)
def site(subject: Subject) -> Iterator[Finding]:
    """Ask whether Airflow answers. Nothing of it is started, and no file of its is made."""
    if why := _not_here():
        yield not_asked("Airflow", why)
        return
    said = _said(subject)
    yield green("Airflow", f"{said['executor']}, home {_home()}")


@examination(
    "dags",
    PART,
    green="the DAG files of pgdrill are in Airflow's folder",
    needs=("airflow",),
    hint="copy dags/*.py of the project into that folder",
    example="/opt/airflow/dags: no DAG file of restore_drill",
)
def dags(subject: Subject) -> Iterator[Finding]:
    """Look for the DAG files by what they call, whatever their names."""
    if why := _not_here():
        yield not_asked("DAG files", why)
        return
    folders = [Path(one) for one in _said(subject)["folders"]]
    if not folders:
        yield not_asked("DAG files", "they come by a bundle that is not on this host")
        return
    texts = [
        file.read_text(errors="replace") for folder in folders for file in folder.rglob("*.py")
    ]
    lacking = [name for name, call in MADE_BY.items() if not any(call in text for text in texts)]
    shown = ", ".join(map(str, folders))
    project = Path(__file__).parents[3] / "dags"
    if lacking:
        copy = (
            f"`cp {project}/*.py {folders[0]}/`"
            if project.is_dir()
            else "copy dags/*.py of the project into it"
        )
        yield red(shown, f"no DAG file of {', '.join(lacking)}", ", ".join(MADE_BY), copy)
    else:
        yield green(shown, f"DAG files of {', '.join(MADE_BY)}")


@examination(
    "connections",
    PART,
    green="every Connection that dr.toml names is there, of the right type",
    needs=("airflow",),
    hint="add it: Admin > Connections, or `airflow connections add`",
    example="server.conn_id: no Connection agents_postgres",
)
def connections(subject: Subject) -> Iterator[Finding]:
    """Look whether each Connection is there. Only its type is looked at."""
    if why := _not_here():
        yield not_asked("Connections", why)
        return
    said: dict[str, dict[str, str]] = _said(subject)["connections"]
    keys = _keys(subject)
    for key, conn_id in keys.items():
        found, kind = said[conn_id], KINDS[key]
        thing = f"{key} {conn_id}"
        if "type" in found and found["type"] == kind:
            yield green(thing, f"of type {kind}")
        elif "type" in found:
            yield red(
                thing,
                f"of type {found['type']}",
                f"of type {kind}",
                "name another Connection in dr.toml, or make it anew: `airflow connections delete"
                f" {conn_id}`, {_add(conn_id, kind)}",
            )
        elif found["trouble"]:
            yield unknown(
                thing,
                f"not asked everywhere: {found['trouble']}",
                f"a Connection of type {kind}",
                "ask on the host of Airflow's API server",
            )
        else:
            yield red(
                thing,
                "no such Connection",
                f"one of type {kind}",
                f"{_add(conn_id, kind)}, or Admin > Connections",
            )
    if not keys:
        yield not_asked(
            "Connections", "dr.toml names none: secrets come from the worker's environment"
        )


@examination(
    "queue",
    PART,
    green="tasks go to a worker beside the data directory",
    needs=("airflow",),
    hint="start a worker there: `airflow celery worker --queues QUEUE`",
    example="server.queue db1: LocalExecutor knows no queues",
)
def queue(subject: Subject) -> Iterator[Finding]:
    """Look whether the executor knows the queue.

    Who listens on a queue is the broker's to know, and is not asked.
    """
    if why := _not_here():
        yield not_asked("server.queue", why)
        return
    said, wanted = _said(subject), subject.access.cluster.server.queue
    executor = str(said["executor"]).rpartition(".")[2]
    if executor in ALONE and wanted:
        yield warn(
            f"server.queue {wanted}",
            f"{executor} knows no queues: tasks run on the scheduler's host",
            "an executor with workers, or no queue",
            "empty server.queue in dr.toml, or run Airflow with workers (CeleryExecutor)",
        )
    elif executor in ALONE:
        yield green("queue", f"none: {executor} runs tasks on the scheduler's host")
    else:
        yield green(
            f"queue {wanted or said['default_queue']}",
            f"of {executor}; on the worker: `airflow celery worker --queues"
            f" {wanted or said['default_queue']}`",
        )


def _add(conn_id: str, kind: str) -> str:
    login, password = (
        ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY") if kind == "aws" else ("USER", "PASSWORD")
    )
    return (
        f"`airflow connections add {conn_id} --conn-type {kind} --conn-login {login}"
        f" --conn-password {password}`"
    )


def _keys(subject: Subject) -> dict[str, str]:
    cluster = subject.access.cluster
    named = {
        "server.conn_id": cluster.server.conn_id,
        "server.standby_conn_id": cluster.server.standby_conn_id,
        "dump.conn_id": cluster.dump.conn_id,
        "repository.conn_id": cluster.repository.conn_id,
        "airflow.conn_id": cluster.airflow.conn_id,
    }
    return {key: conn_id for key, conn_id in named.items() if conn_id}


def _home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()


def _not_here() -> str:
    """Return why Airflow is not asked, or an empty string.

    A home that nobody named, and that has neither DAGs nor a database, is what an import leaves.
    """
    if importlib.util.find_spec("airflow") is None:
        return "Airflow is not installed in this environment"
    home = _home()
    meant = (
        "AIRFLOW_HOME" in os.environ or (home / "dags").is_dir() or (home / "airflow.db").is_file()
    )
    return (
        ""
        if meant and home.is_dir()
        else (
            f"Airflow is not set up here: {home} has no DAGs and no database (AIRFLOW_HOME names"
            " another)"
        )
    )


def _said(subject: Subject) -> dict[str, Any]:
    """Return what Airflow says of itself.

    The examination ``airflow``, which the others need, asks once for a subject.
    """
    if not subject.airflow:
        config = os.environ.get("AIRFLOW_CONFIG") or f"{_home() / 'airflow.cfg'}"
        # it would write one
        environment = {
            **os.environ,
            "AIRFLOW_CONFIG": config if Path(config).exists() else os.devnull,
        }
        words = [
            sys.executable,
            "-m",
            "pgdrill.doctor.airflow_site",
            *sorted(set(_keys(subject).values())),
        ]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=subject.seconds,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise OSError(" ".join(done.stderr.split())[-300:])
        subject.airflow = json.loads(done.stdout.splitlines()[-1])
    return subject.airflow
