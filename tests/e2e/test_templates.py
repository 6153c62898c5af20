"""What the operators' templates give in DAGs of others, run by a real Airflow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
SECONDS = 240
NUMBERS = ["123", "1e5", "0/1234", "007", "None", "True", "[1]"]
DAGS = '''
from airflow.sdk import DAG
from pgdrill.airflow.operators import (
    CheckRestoreOperator,
    DestroyRestoredClusterOperator,
    LogicalDumpOperator,
    RestoreClusterOperator,
)


def shows(operator):
    """The operator, which hands on its fields instead of working."""

    def execute(self, context):
        return {name: getattr(self, name) for name in self.template_fields}

    return type(f"Shows{operator.__name__}", (operator,), {"execute": execute})


for native in (False, True):
    with DAG(
        f"native_{native}".lower(),
        schedule=None,
        params={"texts": [], "keep": False},
        render_template_as_native_obj=native,
    ) as dag:
        for number in range(NUMBERS):
            shows(RestoreClusterOperator)(
                task_id=f"restore_{number}",
                cluster="agents",
                drill_id="{{ params.texts[%d] }}" % number,
                backup="{{ params.texts[%d] }}" % number,
                target="name:{{ params.texts[%d] }}" % number,
            )
        shows(CheckRestoreOperator)(
            task_id="check", cluster="agents", families="{{ params.texts }}"
        )
        shows(LogicalDumpOperator)(task_id="dump", cluster="agents", databases=["123", "1e5"])
        shows(DestroyRestoredClusterOperator)(
            task_id="destroy", cluster="agents", drill_id="x", keep="{{ params.keep }}"
        )
        shows(CheckRestoreOperator).partial(
            task_id="mapped", cluster="agents", families="{{ params.texts }}"
        ).expand(drill_id=["123", "1e5"])
    globals()[dag.dag_id] = dag
'''


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Of an Airflow with those DAGs."""
    home = Path(tempfile.mkdtemp(prefix="pgdrill-airflow-"))
    (home / "dags").mkdir()
    (home / "dags" / "theirs.py").write_text(
        DAGS.replace("range(NUMBERS)", f"range({len(NUMBERS)})")
    )
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PG", "AWS_"))}
    made = {
        **plain,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "include"), os.environ.get("PYTHONPATH", "")]),
    }
    try:
        airflow = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(airflow, env=made, check=True, capture_output=True, timeout=SECONDS)
        yield made
    finally:
        shutil.rmtree(home, ignore_errors=True)


def shown(environment: dict[str, str], dag_id: str, **conf: Any) -> dict[str, Any]:
    """What the tasks' fields were, by task."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("dag_run.py")), dag_id, json.dumps(conf)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    run = json.loads(done.stdout.splitlines()[-1])
    assert run["state"] == "success", (done.stdout + done.stderr)[-6000:]
    return dict(run["xcom"])


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("dag_id", ["native_false", "native_true"])
def test_names_stay_text_and_lists_and_ticks_come_as_themselves(
    environment: dict[str, str], dag_id: str
) -> None:
    for keep in (True, False):
        told = shown(environment, dag_id, texts=NUMBERS, keep=keep)
        for number, text in enumerate(NUMBERS):
            fields = told[f"restore_{number}"]
            assert (fields["drill_id"], fields["backup"], fields["target"]) == (
                text,
                text,
                f"name:{text}",
            )
        assert told["check"]["families"] == NUMBERS
        assert told["mapped"]["families"] == NUMBERS
        assert told["mapped"]["drill_id"] in ("123", "1e5")
        assert told["dump"]["databases"] == ["123", "1e5"]
        assert told["destroy"]["keep"] is keep
