"""The wheel, installed elsewhere, runs from there: nothing of the project's folder is needed or
read.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

import pgdrill

PROJECT = Path(__file__).parents[2]
PACKAGES = Path(typer.__file__).parents[1]  # what pgdrill needs, wherever this Python has it from
SECONDS = 120
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
CONFIG = """
[clusters.agents.server]
dsn = "host=localhost dbname=agents"
data_directory = "/nowhere/data"

[clusters.agents.repository]
url = "s3://bucket/agents"
"""
# What the whole program imports, and from where: each module, each entry point, and what the
# package says of itself.
LOOK = """
import importlib, importlib.metadata, json, pkgutil, sys
import pgdrill, pgdrill_demo
broken = {}
for package in (pgdrill, pgdrill_demo):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except Exception as error:
            broken[found.name] = f"{type(error).__name__}: {error}"
entries = importlib.metadata.distribution("pgdrill").entry_points
provider, script = entries["provider_info"], entries["pgdrill"]
print(json.dumps({
    "files": sorted({
        module.__file__
        for module in list(sys.modules.values())
        if getattr(module, "__file__", None)
    }),
    "broken": broken,
    "provider": provider.load()(),
    "script": script.load().__module__,
    "license": importlib.metadata.metadata("pgdrill")["License-Expression"],
}))
"""


@dataclass(frozen=True)
class Installed:
    """The installed wheel, and an empty folder to run it from."""

    place: Path
    empty: Path

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run this Python with the installed wheel, as a login that knows nothing of the
        project."""
        environment = {
            "PATH": os.defpath,
            "HOME": str(self.empty),
            "LANG": "C.UTF-8",
            "PYTHONPATH": f"{self.place}:{PACKAGES}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AIRFLOW_HOME": str(self.empty),  # the demo imports Airflow, which makes its home
        }
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.empty,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def good(self, *words: str) -> str:
        """Give the output of ``python -m pgdrill`` with these words, which has to end well."""
        done = self.python("-m", "pgdrill", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel from a copy of the sources, so that no earlier build lends it a file, and
    install it elsewhere.
    """
    home = tmp_path_factory.mktemp("wheel")
    source, place, empty = home / "source", home / "place", home / "empty"
    shutil.copytree(
        PROJECT / "include",
        source / "include",
        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    empty.mkdir()
    run([sys.executable, "-c", BUILD, str(home)], source)
    (wheel,) = home.glob("*.whl")
    install = ["--quiet", "--no-deps", "--no-index", "--no-cache-dir", "--target", str(place)]
    run([sys.executable, "-m", "pip", "install", *install, str(wheel)], home)
    shutil.rmtree(source)
    return Installed(place, empty)


def run(words: Sequence[str], folder: Path) -> None:
    """Run a command that has to end well."""
    environment = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_tells_its_version_and_its_commands(installed: Installed) -> None:
    assert installed.good("--version") == f"pgdrill {pgdrill.version()}\n"
    assert "doctor" in installed.good("--help")


def test_it_knows_its_checks(installed: Installed) -> None:
    assert {"table-content", "canary"} <= {
        one["name"] for one in json.loads(installed.good("checks", "--json"))
    }


def test_it_reads_a_configuration_that_lies_anywhere(installed: Installed, tmp_path: Path) -> None:
    file = tmp_path / "dr.toml"
    file.write_text(CONFIG)
    read = json.loads(
        installed.python("-m", "pgdrill", "config", "check", "--config", str(file), "--json").stdout
    )
    assert read["file"] == str(file)
    assert list(read["clusters"]) == ["agents"]


def test_without_a_configuration_it_says_how_to_come_by_one(installed: Installed) -> None:
    done = installed.python("-m", "pgdrill", "backups")
    assert done.returncode == 2
    assert "PGDRILL_CONFIG" in done.stderr


def test_every_file_that_is_no_python_came_along(installed: Installed) -> None:
    lacking = [
        str(file.relative_to(PROJECT / "include"))
        for package in ("pgdrill", "pgdrill_demo")
        for file in (PROJECT / "include" / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
        if not (installed.place / file.relative_to(PROJECT / "include")).is_file()
    ]
    assert not lacking, "name them in pyproject.toml, tool.setuptools.package-data"


def test_every_module_is_imported_from_where_it_was_installed(installed: Installed) -> None:
    done = installed.python("-c", LOOK)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["broken"] == {}
    assert [file for file in found["files"] if file.startswith(f"{PROJECT / 'include'}/")] == []
    assert [file for file in found["files"] if file.startswith(f"{installed.place}/pgdrill/")]
    assert found["provider"]["versions"] == [pgdrill.version()]
    assert found["script"] == "pgdrill.cli"
    assert found["license"] == "Apache-2.0"
