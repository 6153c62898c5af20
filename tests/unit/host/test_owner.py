"""Whose a drill's folder is, and until when: told by the process, by the boot, by the clock that
only goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pgdrill.host.owner import INITIAL_PID_NAMESPACE, FolderLease, Owner

ASK = (
    "import sys; from pgdrill.host.owner import FolderLease;"
    " print(FolderLease.read(sys.argv[1]).over() or 'holds')"
)


def this() -> Owner:
    return Owner.of(os.getpid())


def dead() -> Owner:
    with subprocess.Popen(["true"]) as process:
        return Owner.of(process.pid)


def written(folder: Path, lease: FolderLease, **changed: object) -> FolderLease:
    """The lease as another process reads it, with some values of its file changed."""
    file = folder / "lease.json"
    lease.write(str(file))
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | changed))
    found = FolderLease.read(str(file))
    assert found
    return found


def test_a_lease_is_one_file_for_its_owners_eyes(tmp_path: Path) -> None:
    file = tmp_path / "lease.json"
    FolderLease("d1", this(), time.time() + 60, "restore").write(str(file))
    values = json.loads(file.read_text())
    assert (values["drill_id"], values["why"], values["owner"]["pid"]) == (
        "d1",
        "restore",
        os.getpid(),
    )
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["lease.json"]


def test_a_living_process_holds_its_lease_and_a_dead_one_does_not(tmp_path: Path) -> None:
    assert written(tmp_path, FolderLease("d1", this(), time.time() + 60, "restore")).over() == ""
    owner = dead()
    assert (
        written(tmp_path, FolderLease("d1", owner, time.time() + 60, "restore")).over()
        == f"its process {owner.pid} has ended"
    )


def test_a_process_that_nobody_has_buried_is_dead() -> None:
    zombie = subprocess.Popen(["true"])
    owner = Owner.of(zombie.pid)
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert owner.gone()
    assert not owner.lives()
    zombie.wait()


def test_a_number_that_went_to_another_process_holds_nothing() -> None:
    owner = this()
    owner.started -= 1
    assert owner.gone()
    assert not owner.lives()


def test_between_tasks_time_alone_decides(tmp_path: Path) -> None:
    assert written(tmp_path, FolderLease("d1", None, time.time() + 60, "handover")).over() == ""
    assert (
        written(tmp_path, FolderLease("d1", None, time.time() - 1, "handover")).over()
        == "its time (handover) is over"
    )


def test_a_clock_that_is_set_back_keeps_nothing_for_longer(tmp_path: Path) -> None:
    # Written at an hour that is now in the future; the clock that only goes on has not been told.
    later = {
        "expires_at": time.time() + 10_000,
        "expires_boottime": time.clock_gettime(time.CLOCK_BOOTTIME) - 1,
    }
    assert (
        written(tmp_path, FolderLease("d1", this(), time.time(), "restore"), **later).over()
        == "its time (restore) is over"
    )
    assert (
        written(tmp_path, FolderLease("d1", None, time.time(), "kept"), **later).over()
        == "its time (kept) is over"
    )


def test_a_clock_that_is_set_forward_ends_no_running_drill_but_what_was_kept(
    tmp_path: Path,
) -> None:
    earlier = {
        "expires_at": time.time() - 10_000,
        "expires_boottime": time.clock_gettime(time.CLOCK_BOOTTIME) + 60,
    }
    assert (
        written(tmp_path, FolderLease("d1", this(), time.time(), "restore"), **earlier).over() == ""
    )
    assert (
        written(tmp_path, FolderLease("d1", None, time.time(), "kept"), **earlier).over()
        == "its time (kept) is over"
    )


@pytest.mark.parametrize(
    "changed", [{"boot_id": "another"}, {"pid_namespace": 1}, {"host": "another"}], ids=str
)
def test_whoever_cannot_be_seen_from_here_is_judged_by_time_alone(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    owner = dead().to_json() | {"machine": ""} | changed
    boot = {key: value for key, value in changed.items() if key == "boot_id"}
    fresh = FolderLease("d1", dead(), time.time() + 60, "restore")
    assert written(tmp_path, fresh, owner=owner, **boot).over() == ""
    assert not Owner.from_json(owner).lives()
    late = FolderLease("d1", dead(), time.time() - 1, "restore")
    assert written(tmp_path, late, owner=owner, **boot).over() == "its time (restore) is over"


@pytest.mark.parametrize(
    ("changed", "gone"),
    [
        ({}, True),
        ({"machine": "another"}, False),
        ({"host": "another"}, False),
        ({"pid_namespace": 4026532000}, False),
    ],
    ids=["this machine", "another machine", "another host", "a container"],
)
def test_after_a_boot_of_this_very_machine_no_process_of_before_is_left(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, object], gone: bool
) -> None:
    here = this()
    here.pid_namespace, here.machine = INITIAL_PID_NAMESPACE, "m"
    monkeypatch.setattr(Owner, "of", lambda pid: here)
    before = Owner.from_json(here.to_json() | {"boot_id": "before"} | changed)
    assert bool(before.gone()) is gone


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "1",
        '{"drill_id": "x"}',
        '{"owner": 1, "drill_id": "x", "expires_at": 1, "why": ""}',
        '{"owner": {"pid": "1"}, "drill_id": "x", "expires_at": 1, "why": ""}',
    ],
)
def test_a_file_that_says_nothing_is_no_lease(tmp_path: Path, text: str) -> None:
    (tmp_path / "lease.json").write_text(text)
    assert FolderLease.read(str(tmp_path / "lease.json")) is None
    assert FolderLease.read(str(tmp_path / "none" / "lease.json")) is None


def elsewhere(*words: str) -> Callable[[Path], str]:
    """What a process says of a lease in namespaces of its own."""
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False).returncode
    ):
        pytest.skip("no user namespaces here")

    def asked(file: Path) -> str:
        argv = [
            "unshare",
            "--user",
            "--map-root-user",
            *words,
            sys.executable,
            "-c",
            ASK,
            str(file),
        ]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            argv, capture_output=True, text=True, check=True, env=env
        ).stdout.strip()

    return asked


@pytest.mark.parametrize(
    "words",
    [
        ("--pid", "--fork", "--mount-proc"),
        ("--uts", "sh", "-c", 'hostname another; exec "$@"', "sh"),
    ],
    ids=["a container", "another host"],
)
def test_from_elsewhere_a_living_drill_is_not_taken_for_a_dead_one(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = tmp_path / "lease.json"
    FolderLease("d1", this(), time.time() + 60, "restore").write(str(file))
    assert elsewhere(*words)(file) == "holds"
    FolderLease("d1", this(), time.time() - 1, "restore").write(str(file))
    assert elsewhere(*words)(file) == "its time (restore) is over"
