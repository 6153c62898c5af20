"""What goes in a sweep, and what stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pgdrill.host.owner import FolderLease, Owner
from pgdrill.host.process import mark_process
from pgdrill.recovery.sweep import Swept, sweep
from pgdrill.recovery.workspace import Workspace, locked

OLD = 0.0  # seconds that a folder may be there without a lease


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


def folder(
    work: Path, name: str = "d1", cluster: str = "agents", place: str = "drills"
) -> Workspace:
    made = work / cluster / place / name
    (made / "cluster" / "data").mkdir(parents=True)
    return Workspace(made)


def dead() -> Owner:
    with subprocess.Popen(["true"]) as process:
        return Owner.of(process.pid)


def names(swept: Swept) -> tuple[list[str], list[str], list[str]]:
    return tuple(
        sorted(one.folder.name for one in kind)
        for kind in (swept.removed, swept.held, swept.failed)
    )  # type: ignore[return-value]


def test_what_nobody_has_a_right_to_goes_whatever_cluster_it_is_of(work: Path) -> None:
    for place in ("drills", "dumping", "tables"):
        folder(work, f"dead-{place}", "agents", place).claim(
            "restore", time.time() + 60, owner=dead()
        )
        folder(work, f"late-{place}", "others", place).claim("handover", time.time() - 1)
        folder(work, f"live-{place}", "agents", place).claim(
            "restore", time.time() + 60, owner=Owner.of(os.getpid())
        )
        folder(work, f"kept-{place}", "others", place).claim("kept", time.time() + 60)
    removed, held, failed = names(sweep([work]))
    assert [name.partition("-")[0] for name in removed] == ["dead"] * 3 + ["late"] * 3
    assert [name.partition("-")[0] for name in held] == ["kept"] * 3 + ["live"] * 3
    assert not failed
    assert sorted(found.name for found in work.glob("*/*/*")) == held


def test_a_running_job_keeps_its_folder_though_its_time_is_over(work: Path) -> None:
    folder(work).claim("dump", time.time() - 1, owner=Owner.of(os.getpid()))
    assert names(sweep([work])) == ([], ["d1"], [])


def test_a_folder_without_a_lease_is_left_for_a_minute(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(work)
    assert names(sweep([work])) == ([], ["d1"], [])
    monkeypatch.setattr("pgdrill.recovery.sweep.UNCLAIMED_SECONDS", OLD)
    assert names(sweep([work])) == (["d1"], [], [])


def test_what_an_interrupted_sweep_left_always_goes(work: Path) -> None:
    half = folder(work, "d1.gone-0a0b0c0d")
    FolderLease("d1", Owner.of(os.getpid()), time.time() + 60, "restore").write(
        str(half.lease_file)
    )
    assert names(sweep([work])) == (["d1.gone-0a0b0c0d"], [], [])
    assert not half.directory.exists()


def test_a_link_in_a_folders_place_is_not_looked_behind(work: Path, tmp_path: Path) -> None:
    outside = tmp_path / "production"
    (outside / "base").mkdir(parents=True)
    (work / "agents" / "drills").mkdir(parents=True)
    (work / "agents" / "drills" / "d1").symlink_to(outside)
    (work / "agents" / "drills" / "d2.gone-0a0b0c0d").symlink_to(outside)
    assert names(sweep([work])) == ([], [], [])
    assert (outside / "base").exists()


def test_two_sweeps_do_not_meet(work: Path) -> None:
    workspace = folder(work)
    workspace.claim("handover", time.time() - 1)
    with locked(workspace.directory):
        assert names(sweep([work])) == ([], ["d1"], [])
    assert names(sweep([work])) == (["d1"], [], [])


def test_a_drill_that_takes_over_is_safe_from_a_sweep_that_has_seen_it_before(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = folder(work)
    workspace.claim("handover", time.time() - 1)
    lock = "pgdrill.recovery.sweep.locked"

    def taken_over_just_now(path: Path, *, wait: bool) -> object:
        workspace.claim("check", time.time() + 60, owner=Owner.of(os.getpid()))
        return locked(path, wait=wait)

    monkeypatch.setattr(lock, taken_over_just_now)
    assert names(sweep([work])) == ([], ["d1"], [])
    assert (workspace.cluster / "data").exists()


def test_a_claim_waits_for_a_sweep_and_begins_in_a_folder_of_its_own(work: Path) -> None:
    workspace = folder(work)
    workspace.claim("handover", time.time() - 1)
    code = (
        "import sys, time; from pathlib import Path; from pgdrill.recovery.workspace import"
        " Workspace\nprint('begun', flush=True); Workspace(Path(sys.argv[1])).claim('restore',"
        " time.time() + 60)"
    )
    with locked(workspace.directory):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(workspace.directory)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout
        process.stdout.readline()
        workspace.directory.rename(workspace.directory.with_name("d1.gone-0a0b0c0d"))
    assert process.wait(10) == 0
    process.stdout.close()
    assert sorted(entry.name for entry in workspace.directory.iterdir()) == ["lease.json", "lock"]


def test_the_servers_own_files_name_nobody_to_be_ended(work: Path) -> None:
    workspace = folder(work)
    workspace.claim("restore", time.time() + 60, owner=dead())
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (workspace.data_directory / "postmaster.pid").write_text(
            f"{bystander.pid}\n{workspace.data_directory}\n"
        )
        mark_process(workspace.cluster / "server.pid", bystander.pid)
        assert names(sweep([work])) == (["d1"], [], [])
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize(
    "changed", [{}, {"started": 1}, {"boot_id": "before"}, {"pid_namespace": 1}], ids=str
)
def test_only_the_very_process_that_was_written_down_is_ended(
    work: Path, changed: dict[str, object]
) -> None:
    workspace = folder(work)
    workspace.claim("restore", time.time() + 60, owner=dead())
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        mark_process(workspace.server_pid_file, process.pid)
        workspace.server_pid_file.write_text(
            json.dumps(json.loads(workspace.server_pid_file.read_text()) | changed)
        )
        assert names(sweep([work])) == (["d1"], [], [])
        assert (process.poll() is None) == bool(changed)
        process.kill()


def test_what_a_tool_left_working_ends_too(work: Path) -> None:
    workspace = folder(work)
    workspace.claim("restore", time.time() + 60, owner=dead())
    with subprocess.Popen(
        ["sleep", "60"], env={"HOME": str(workspace.home)}, start_new_session=True
    ) as orphan:
        assert names(sweep([work])) == (["d1"], [], [])
        assert orphan.wait(5) < 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_what_another_user_left_is_named_and_left() -> None:
    work = Path(tempfile.mkdtemp(prefix="pgdrill-sweep-", dir="/tmp"))
    work.chmod(0o755)
    try:
        workspace = folder(work)
        workspace.claim("restore", time.time() + 60, owner=dead())
        workspace.directory.chmod(0o700)
        child = os.fork()
        # this interpreter may lie in a folder that is closed to others, so none is started
        if child == 0:
            try:
                os.setresuid(65534, 65534, 65534)
                os._exit(0 if names(sweep([work])) == ([], ["d1"], []) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert names(sweep([work])) == (["d1"], [], [])
    finally:
        shutil.rmtree(work)
