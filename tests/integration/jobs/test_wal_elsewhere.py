"""pg_wal on another disk than the rest of PGDATA: behind a link, as ``initdb --waldir`` makes it,
or a mount of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgdrill.backup import take_backup
from pgdrill.drill import destroy_stage, drill
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill.verify import verify
from tests.conftest import TOOLS, need
from tests.integration.worlds import SCHEMA, World, healthy

ROOT = Path(__file__).parents[3]


@contextmanager
def production(tool: str, move: Callable[[Path, Path], None]) -> Iterator[World]:
    """A running one whose pg_wal was moved by ``move(pg_wal, its copy)`` before."""
    stack = World(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=tool)
    try:
        stack.create(sample=False)
        wal, copy = stack.home / "primary" / "pg_wal", stack.home / "wal"
        shutil.copytree(wal, copy)
        copy.chmod(0o700)
        move(wal, copy)
        stack.start()
        with stack.connect() as connection:
            connection.execute(SCHEMA)
        yield stack
    finally:
        stack.remove()


def proved(stack: World) -> None:
    """Backed up, drilled, and the copy verified as somebody else's server."""
    take_backup(stack.access)
    report = drill(stack.access, keep=True)
    try:
        healthy(report)
        workspace = Workspace.of(stack.access, report.drill_id)
        assert not (workspace.data_directory / "pg_wal").is_symlink(), (
            "a copy has its WAL to itself"
        )
        known = store.load_baseline(stack.access, report.drill_id)
        found = verify(
            stack.access,
            workspace.server(stack.access).conninfo("agents"),
            baseline=known,
            as_superuser=True,
        )
        assert found.verdict == "passed", found.reason
    finally:
        destroy_stage(stack.access, report.drill_id)


def linked(wal: Path, copy: Path) -> None:
    shutil.rmtree(wal)
    wal.symlink_to(copy)


def mounted(wal: Path, copy: Path) -> None:
    """With what a new file system has at its top: a folder that only root may look into."""
    subprocess.run(["mount", "-t", "tmpfs", "pg_wal", str(wal)], check=True, capture_output=True)
    wal.chmod(0o700)
    shutil.copytree(copy, wal, dirs_exist_ok=True)
    (wal / "lost+found").mkdir(mode=0o700)


@pytest.mark.parametrize("tool", TOOLS)
def test_pg_wal_behind_a_link(tool: str) -> None:
    with production(need(tool), linked) as stack:
        proved(stack)


@pytest.mark.parametrize("tool", TOOLS)
def test_pg_wal_on_a_mount_of_its_own(tool: str) -> None:
    need(tool)
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["unshare", "--mount", "true"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs root, and the right to mount")
    words = [
        "unshare",
        "--mount",
        sys.executable,
        "-c",
        (
            "from tests.integration.jobs.test_wal_elsewhere import in_a_namespace;"
            f" in_a_namespace({tool!r})"
        ),
    ]
    done = subprocess.run(
        words,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'include'}:{ROOT}"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def in_a_namespace(tool: str) -> None:
    """Nobody else sees the mount, which goes with the last process in it."""
    with production(tool, mounted) as stack:
        proved(stack)
