"""What `make up` leaves for the command line."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

import pgdrill_demo.__main__ as demo
from pgdrill_demo.stack import Stack


def test_the_variables_of_the_demo_are_for_its_user_alone_and_a_shell_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PROJECT", tmp_path)
    monkeypatch.setattr(demo, "VARIABLES", tmp_path / "demo.env")
    stack = Stack(tmp_path / "stack")
    stack.passwords["pgdrill"] = "with 'quotes' and $signs"
    (tmp_path / "demo.env").write_text("of the last time")
    (tmp_path / "demo.env").chmod(0o644)
    file = demo._variables(stack)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    done = subprocess.run(
        [
            "sh",
            "-c",
            (
                f'. {file}; echo "$PGDRILL_CONFIG $PGUSER $PGPASSWORD"; echo "$PATH"; env | grep -c'
                ' "^AIRFLOW_CONN"'
            ),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    config, path, connections = done.stdout.splitlines()
    assert config == f"{tmp_path}/stack/dr.toml pgdrill with 'quotes' and $signs"
    assert path == f"{tmp_path}/.local/bin:{tmp_path}/.venv/bin:/usr/bin:/bin"
    assert connections == "0"
