"""One at a time for a cluster: flock while a stage runs, a lease between stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pgdrill.errors import CouldNotVerify
from pgdrill.host.lock import ClusterLock, Lease, lease_for, this_process
from pgdrill.host.owner import FolderLease, Owner


@pytest.fixture
def lock(tmp_path: Path) -> ClusterLock:
    return ClusterLock(tmp_path / "agents" / "drill.lock")


def lease(tmp_path: Path, owner: str, seconds: float = 60, process: Owner | None = None) -> Lease:
    folder = tmp_path / owner
    folder.mkdir(exist_ok=True)
    return lease_for(owner, folder, seconds, process)


def dead_process() -> Owner:
    process = subprocess.Popen(["true"])
    owner = Owner.of(process.pid)
    process.wait()
    return owner


def refused(lock: ClusterLock, wanted: Lease) -> str:
    with pytest.raises(CouldNotVerify) as caught, lock.hold(wanted, wait_seconds=0.1):
        pass
    assert caught.value.problem.reason == "busy"
    return caught.value.problem.found


def test_a_second_one_is_kept_out_while_the_first_works(lock: ClusterLock, tmp_path: Path) -> None:
    with lock.hold(lease(tmp_path, "first")):
        assert "held by first until" in refused(lock, lease(tmp_path, "second"))


def test_the_lease_keeps_others_out_between_the_stages(lock: ClusterLock, tmp_path: Path) -> None:
    with lock.hold(lease(tmp_path, "first")):
        pass
    assert "first" in refused(lock, lease(tmp_path, "second"))
    with lock.hold(lease(tmp_path, "first")) as taken_over:  # the next stage of the same drill
        assert taken_over is None


def test_a_released_lease_lets_the_next_one_in(lock: ClusterLock, tmp_path: Path) -> None:
    with lock.hold(lease(tmp_path, "first")):
        pass
    lock.release("somebody else")
    refused(lock, lease(tmp_path, "second"))
    lock.release("first")
    with lock.hold(lease(tmp_path, "second")) as taken_over:
        assert taken_over is None


def test_releasing_what_was_never_held_is_fine(lock: ClusterLock) -> None:
    lock.release("nobody")


def test_an_expired_lease_is_taken_over(lock: ClusterLock, tmp_path: Path) -> None:
    with lock.hold(lease(tmp_path, "first", seconds=-1)):
        pass
    with lock.hold(lease(tmp_path, "second")) as taken_over:
        assert taken_over
        assert taken_over.owner == "first"


def test_a_lease_whose_folder_is_gone_is_taken_over(lock: ClusterLock, tmp_path: Path) -> None:
    with lock.hold(lease(tmp_path, "first")):
        (tmp_path / "first").rmdir()
    with lock.hold(lease(tmp_path, "second")) as taken_over:
        assert taken_over


def test_the_lease_of_a_dead_process_is_taken_over(lock: ClusterLock, tmp_path: Path) -> None:
    with lock.hold(lease(tmp_path, "first", process=dead_process())):
        pass
    with lock.hold(lease(tmp_path, "second")) as taken_over:
        assert taken_over


def test_the_lease_of_a_process_nobody_has_buried_is_taken_over(tmp_path: Path) -> None:
    zombie = subprocess.Popen(["true"])
    owner = Owner.of(zombie.pid)
    while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert lease(tmp_path, "first", process=owner).stale()
    zombie.wait()


def test_a_number_given_to_another_process_does_not_keep_the_lease(tmp_path: Path) -> None:
    owner = this_process()
    assert not lease(tmp_path, "first", process=owner).stale()
    owner.started -= 1
    assert lease(tmp_path, "first", process=owner).stale()


def test_a_drill_s_own_lease_says_whether_it_holds_its_cluster(
    lock: ClusterLock, tmp_path: Path
) -> None:
    first = lease(tmp_path, "first", process=dead_process())
    kept = str(tmp_path / "first" / "lease.json")
    FolderLease("first", None, time.time() + 60, "kept").write(kept)
    with lock.hold(first):
        pass
    assert "first" in refused(lock, lease(tmp_path, "second"))
    FolderLease("first", None, time.time() - 1, "kept").write(kept)
    with lock.hold(lease(tmp_path, "second")) as taken_over:
        assert taken_over


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"owner": "x"}', json.dumps({"owner": 1, "directory": 2})]
)
def test_a_torn_lock_file_is_no_lease(lock: ClusterLock, tmp_path: Path, text: str) -> None:
    lock.path.parent.mkdir(parents=True)
    lock.path.write_text(text)
    with lock.hold(lease(tmp_path, "first")) as taken_over:
        assert taken_over is None


def test_the_kernel_lets_go_when_a_holder_is_killed(lock: ClusterLock, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pgdrill.host.lock import *\n"
        "folder = Path(sys.argv[2]); lease = lease_for('killed', folder, 60, this_process())\n"
        "with ClusterLock(Path(sys.argv[1])).hold(lease): print('held', flush=True); time.sleep(60)"
    )
    (tmp_path / "killed").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", code, lock.path, tmp_path / "killed"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout
    process.stdout.readline()
    refused(lock, lease(tmp_path, "second"))
    process.kill()
    process.wait()
    process.stdout.close()
    with lock.hold(lease(tmp_path, "second")) as taken_over:
        assert taken_over
        assert taken_over.owner == "killed"


def test_whoever_waits_gets_in_when_it_is_free(lock: ClusterLock, tmp_path: Path) -> None:
    process = subprocess.Popen(["flock", "-x", tmp_path / "file", "sleep", "0.6"])
    other = ClusterLock(tmp_path / "file")
    time.sleep(0.2)
    with other.hold(lease(tmp_path, "second"), wait_seconds=5):
        assert process.wait() == 0
