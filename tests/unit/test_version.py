"""One version for all: pyproject.toml's, told by the command, Airflow's provider list and the
reports.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pgdrill
from pgdrill.airflow.provider import get_provider_info

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_program_and_provider_tell_the_projects_version() -> None:
    assert pgdrill.version() == PROJECT["version"], "run: make setup"
    assert get_provider_info()["versions"] == [PROJECT["version"]]


def test_sources_that_only_lie_on_the_path_tell_it_too() -> None:
    """Without site-packages, and so without the installed package's metadata."""
    asked = "import pgdrill; print(pgdrill.version())"
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT / 'include')!r}); {asked}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == PROJECT["version"]


def test_the_licence_is_told_once_by_its_spdx_name() -> None:
    """A classifier of a licence beside it would be refused by the build."""
    assert PROJECT["license"] == "Apache-2.0"
    assert not [line for line in PROJECT["classifiers"] if line.startswith("License")]


def test_classifiers_name_the_pythons_from_the_oldest_on() -> None:
    named = re.findall(r":: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert named == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={named[0]}"
