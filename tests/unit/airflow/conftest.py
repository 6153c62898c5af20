"""Airflow without a server: a home of its own, set before anything imports Airflow, and a
configuration to draw DAGs from.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_HOME = tempfile.mkdtemp(prefix="pgdrill-airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ["AIRFLOW_HOME"] = _HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

PROJECT = Path(__file__).parents[3]
CONFIG = """
[clusters.{name}]
owner = "the-owners"

[clusters.{name}.server]
dsn = "host=db.example.org dbname=app"
conn_id = "{name}_postgres"
data_directory = "/srv/{name}"

[clusters.{name}.repository]
url = "s3://bucket/{name}"
conn_id = "{name}_s3"

[clusters.{name}.drill]
work_directory = "{work}"
timeout_seconds = 1800
{more}
"""


@pytest.fixture(autouse=True)
def _no_job_has_begun() -> Iterator[None]:
    """What one test's job began with is not found by another's of the same name."""
    yield
    shutil.rmtree(Path(_HOME) / "pgdrill", ignore_errors=True)


@pytest.fixture
def write_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a configuration: ``write_config("agents", "billing", more='…')``; the last drill
    section gets ``more``.
    """
    file = tmp_path / "dr.toml"
    monkeypatch.setenv("PGDRILL_CONFIG", str(file))

    def write(*names: str, more: str = "") -> Path:
        texts = [
            CONFIG.format(name=name, work=tmp_path / "work", more=more)
            for name in names or ("agents",)
        ]
        file.write_text("".join(texts))
        return file

    write()
    return write
