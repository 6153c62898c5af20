"""A stack for each tool, and an Airflow home beside it in which DAGs run by ``dag.test()``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pgdrill_demo.stack import Stack
from tests.conftest import TOOLS, need

PROJECT = Path(__file__).parents[2]
RUN_SECONDS = 280


@dataclass(frozen=True)
class DagRun:
    """How a run ended, and everything that its process said."""

    run_id: str
    state: str
    tasks: dict[str, str | None]
    tries: dict[str, int]
    xcom: dict[str, Any]
    rendered: dict[str, Any]
    assets: dict[str, Any]
    log: str = field(repr=False)


@dataclass(frozen=True)
class AirflowHome:
    """An Airflow that is a folder and a database; each run is a process of its own."""

    folder: Path
    stack: Stack

    @property
    def environment(self) -> dict[str, str]:
        """For every process of it. The secrets come by Connections alone, as in production."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PG", "AWS_"))}
        connections = {
            k: v
            for k, v in self.stack.environment.items()
            if k.startswith(("AIRFLOW_CONN_", "PGDRILL_"))
        }
        return {
            **plain,
            **connections,
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.folder}/airflow.db",
            "PYTHONPATH": os.pathsep.join(
                [str(PROJECT / "include"), os.environ.get("PYTHONPATH", "")]
            ),
        }

    def migrate(self) -> None:
        """Make its database."""
        subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=self.environment,
            check=True,
            capture_output=True,
            timeout=RUN_SECONDS,
        )

    def run(self, dag_id: str, **conf: Any) -> DagRun:
        """One run, to its end."""
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("dag_run.py")), dag_id, json.dumps(conf)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        log = done.stdout + done.stderr
        assert done.returncode == 0, log[-6000:]
        return DagRun(**json.loads(done.stdout.splitlines()[-1]), log=log)


@pytest.fixture(scope="module", params=TOOLS)
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A running stack for each tool that is installed."""
    made = Stack(tool=need(request.param), home=Path(tempfile.mkdtemp(prefix="pgdrill-")))
    try:
        made.create(scale=0.1)
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def airflow_home(stack: Stack) -> Iterator[AirflowHome]:
    """An Airflow for the stack."""
    home = AirflowHome(Path(tempfile.mkdtemp(prefix="pgdrill-airflow-")), stack)
    try:
        home.migrate()
        yield home
    finally:
        shutil.rmtree(home.folder, ignore_errors=True)
