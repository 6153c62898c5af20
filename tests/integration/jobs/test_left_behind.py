"""Drills that are killed: their server is gone within a minute, their folder with the next job of
any cluster.

Each is a process of its own and is killed with SIGKILL, at a point at which it says so and waits.
"""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pgdrill import drill as drills
from pgdrill.access import Access
from pgdrill.drill import check_stage, destroy_stage, drill, new_drill_id, restore_stage
from pgdrill.errors import ConfigError, CouldNotVerify
from pgdrill.host import removal
from pgdrill.host.process import marked
from pgdrill.postgres.wal import format_lsn
from pgdrill.recovery import sweep as sweeping
from pgdrill.recovery.sweep import sweep
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from tests.integration.conftest import Copy, Relay, nothing_left, once, processes_in

A_MINUTE = 60.0
TARGET = "name:mark1"


def until(reached: Callable[[], bool], seconds: float = A_MINUTE) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait half a minute for a busy cluster."""
    from pgdrill.host.lock import ClusterLock

    monkeypatch.setitem(ClusterLock.hold.__wrapped__.__kwdefaults__, "wait_seconds", 0.5)  # type: ignore[attr-defined]


# --- What runs in the process that is killed: it says "here" and waits ---


def _here(said: Connection) -> None:
    said.send("here")
    time.sleep(600)


def plain(access: Access, drill_id: str, said: Connection, *, target: str = TARGET) -> None:
    drill(access, drill_id=drill_id, target=target)


def without_setpriv(access: Access, drill_id: str, said: Connection) -> None:
    found = shutil.which
    shutil.which = lambda name, *more: None if name == "setpriv" else found(name, *more)  # type: ignore[assignment]
    drill(access, drill_id=drill_id, target=TARGET)


def in_checks(access: Access, drill_id: str, said: Connection) -> None:
    drills.ask = lambda *_: _here(said)  # type: ignore[assignment]
    drill(access, drill_id=drill_id, target=TARGET)


def between_stages(access: Access, drill_id: str, said: Connection) -> None:
    restore_stage(access, drill_id, target=TARGET)
    said.send("here")


def about_to_clear(access: Access, drill_id: str, said: Connection) -> None:
    Workspace.end = lambda _: _here(said)  # type: ignore[assignment,method-assign]
    drill(access, drill_id=drill_id, target=TARGET)


def while_clearing(access: Access, drill_id: str, said: Connection) -> None:
    removal.remove = sweeping.remove = lambda _: _here(said)
    drill(access, drill_id=drill_id, target=TARGET)


def claimed(access: Access, drill_id: str, said: Connection) -> None:
    Workspace.create = lambda _: _here(said)  # type: ignore[method-assign,assignment]
    drill(access, drill_id=drill_id, target=TARGET)


@contextlib.contextmanager
def process_of(
    job: Callable[[Access, str, Connection], None], access: Access, drill_id: str
) -> Iterator[tuple[multiprocessing.process.BaseProcess, Connection]]:
    """The job, in a process as the CLI is one."""
    context = multiprocessing.get_context("spawn")
    told, says = context.Pipe(duplex=False)
    process = context.Process(target=job, args=(access, drill_id, says))
    process.start()
    try:
        yield process, told
    finally:
        process.kill()
        process.join()


def killed(
    job: Callable[[Access, str, Connection], None], access: Access, drill_id: str
) -> Workspace:
    """A drill that was killed at the point where it waits."""
    with process_of(job, access, drill_id) as (process, told):
        assert told.poll(A_MINUTE), "it never came so far"
        process.kill()
        process.join()
    return Workspace.of(access, drill_id)


def of_another_cluster(access: Access) -> Access:
    """A cluster that shares nothing with it but the host; its repository cannot be reached."""
    where = access.cluster.repository.model_copy(
        update={"url": "s3://none/none", "endpoint_url": "http://127.0.0.1:9"}
    )
    return replace(
        access, cluster=access.cluster.model_copy(update={"name": "others", "repository": where})
    )


def next_job_of_another_cluster(access: Access) -> None:
    other = of_another_cluster(access)
    drill_id = new_drill_id()
    assert restore_stage(other, drill_id, target=TARGET).restore.trouble
    destroy_stage(other, drill_id)


def folders(repository: Copy) -> list[str]:
    return [found.name for found in repository.work.glob("*/drills/*")]


def nothing_at_all_left(repository: Copy) -> None:
    assert not folders(repository)
    assert not processes_in(repository.work)


@pytest.mark.parametrize("job", [in_checks, claimed], ids=["checks", "beginning"])
def test_a_killed_drills_server_ends_and_its_folder_goes_with_the_next_job_of_any_cluster(
    repository: Copy, job: Callable[[Access, str, Connection], None]
) -> None:
    once(repository)
    access = repository.access()
    workspace = killed(job, access, new_drill_id())
    until(lambda: marked(workspace.server_pid_file) is None)
    until(lambda: not processes_in(repository.work), 10)
    assert folders(repository) == [workspace.directory.name]
    next_job_of_another_cluster(access)
    nothing_at_all_left(repository)


@pytest.mark.parametrize("job", [plain, without_setpriv], ids=["setpriv", "no setpriv"])
def test_a_drill_killed_in_its_fetch_goes_with_the_sweep(
    repository: Copy, relay: Relay, job: Callable[[Access, str, Connection], None]
) -> None:
    relay.misbehave(rf"GET \S*{repository.part.name.split('.')[0]}", "trickle")
    access = repository.access(repository={"endpoint_url": relay.endpoint_url})
    with process_of(job, access, new_drill_id()) as (process, _):
        assert relay.matched.wait(A_MINUTE)
        assert [found.why for found in sweep([repository.work]).held] == [
            f"restore, by process {process.pid}"
        ]
        process.kill()
        process.join()
    assert len(sweep([repository.work]).removed) == 1
    nothing_at_all_left(repository)


def test_a_drill_killed_in_its_replay_loses_its_server_by_itself(
    repository: Copy, relay: Relay
) -> None:
    once(repository)
    relay.misbehave(rf"(GET|HEAD) \S*{repository.golden.marks[0].segment.name}", "hang")
    access = repository.access(repository={"endpoint_url": relay.endpoint_url})
    drill_id = new_drill_id()
    workspace = Workspace.of(access, drill_id)
    # a name would be looked for in WAL first
    job = functools.partial(plain, target=f"lsn:{format_lsn(repository.golden.marks[0].lsn)}")
    with process_of(job, access, drill_id) as (process, _):
        until(
            lambda: (
                workspace.log_file.exists()
                and "starting backup recovery" in workspace.log_file.read_text()
            )
        )
        process.kill()
        process.join()
    until(lambda: not processes_in(repository.work))
    assert "selected new timeline" not in workspace.log_file.read_text(), (
        "it was never promoted short of its target"
    )
    assert len(sweep([repository.work]).removed) == 1
    nothing_at_all_left(repository)


@pytest.mark.parametrize("job", [about_to_clear, while_clearing], ids=["before", "midway"])
def test_a_drill_killed_while_it_clears_up_after_a_killed_one_orphans_nothing(
    repository: Copy, quick: None, job: Callable[[Access, str, Connection], None]
) -> None:
    once(repository)
    access = repository.access()
    first = killed(in_checks, access, new_drill_id())
    killed(job, access, new_drill_id())
    assert any(name.startswith(first.directory.name) for name in folders(repository))
    until(lambda: marked(first.server_pid_file) is None)
    next_job_of_another_cluster(access)
    nothing_at_all_left(repository)


def test_between_its_stages_a_drill_waits_for_the_next_and_no_longer(
    repository: Copy, quick: None
) -> None:
    once(repository)
    access, drill_id = repository.access(), new_drill_id()
    workspace = killed(between_stages, access, drill_id)
    assert workspace.lease
    assert (workspace.lease.owner, workspace.lease.why) == (None, "handover")
    restored = store.load_report(access, drill_id).restored
    assert restored
    assert abs(restored.expires_at.timestamp() - workspace.lease.expires_at) < 5
    with pytest.raises(CouldNotVerify) as caught:  # the cluster is held meanwhile
        restore_stage(access, new_drill_id(), target=TARGET)
    assert caught.value.problem.reason == "busy"
    assert [found.folder for found in sweep([repository.work]).held] == [workspace.directory]
    assert check_stage(access, drill_id, families=("vectors",)).checks.status == "ok"
    workspace.claim("handover", time.time() + 1)
    until(lambda: not processes_in(repository.work))
    late = check_stage(access, drill_id)
    assert late.checks.trouble
    assert (late.verdict, late.checks.trouble.reason) == ("could not verify", "handover")
    next_job_of_another_cluster(access)
    nothing_at_all_left(repository)


def test_what_is_kept_stays_until_its_end_and_no_longer(repository: Copy) -> None:
    once(repository)
    access = repository.access(drill={"timeout_seconds": 40.0, "handover_seconds": 2.0})
    report = drill(access, target=TARGET, keep=True, families=("vectors",))
    workspace = Workspace.of(access, report.drill_id)
    assert report.restored
    assert workspace.lease
    assert report.restored.expires_at.timestamp() == workspace.lease.expires_at
    assert abs(report.restored.expires_at.timestamp() - report.started_at.timestamp() - 40) < 0.001
    assert [found.folder for found in sweep([repository.work]).held] == [workspace.directory]
    with workspace.server(access).connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    until(lambda: not processes_in(repository.work), 40 + 15)
    assert time.time() >= report.restored.expires_at.timestamp()
    assert [found.folder for found in sweep([repository.work]).removed] == [workspace.directory]
    nothing_left(access, report.drill_id)


def test_a_kept_drill_that_restored_nothing_keeps_nothing(repository: Copy) -> None:
    once(repository)
    access = repository.access()
    drill_id = new_drill_id()
    with pytest.raises(ConfigError):
        drill(access, target="name:never", keep=True, drill_id=drill_id)
    nothing_left(access, drill_id)


def test_the_cluster_of_a_killed_drill_is_free_at_once(repository: Copy, quick: None) -> None:
    once(repository)
    access = repository.access()
    workspace = killed(in_checks, access, new_drill_id())
    assert marked(workspace.server_pid_file) is not None  # its keeper has not even looked
    second = new_drill_id()
    assert restore_stage(access, second, target=TARGET).restore.status == "ok"
    assert folders(repository) == [second]
    destroy_stage(access, second)
    nothing_at_all_left(repository)


def test_destroying_again_and_again_while_a_restore_still_writes_ends_with_nothing(
    repository: Copy, relay: Relay
) -> None:
    relay.misbehave(rf"GET \S*{repository.part.name.split('.')[0]}", "trickle")
    access = repository.access(repository={"endpoint_url": relay.endpoint_url})
    drill_id = new_drill_id()
    with process_of(plain, access, drill_id) as (process, _):
        assert relay.matched.wait(A_MINUTE)
        destroy_stage(access, drill_id)
        destroy_stage(access, drill_id)
        process.join(A_MINUTE)
        assert process.exitcode is not None
    nothing_at_all_left(repository)


def test_the_sweep_command_names_what_it_removed_and_what_it_left(
    repository: Copy, tmp_path: Path
) -> None:
    once(repository)
    config = tmp_path / "dr.toml"
    stack = repository.golden.stack
    text = stack.config_file.read_text()
    config.write_text(text.replace(str(stack.cluster.drill.work_directory), str(repository.work)))
    assert str(repository.work) in config.read_text()
    dead = killed(claimed, repository.access(), new_drill_id())
    kept = Workspace(repository.work / "others" / "drills" / "kept")
    kept.claim("kept", time.time() + 60)

    def command() -> tuple[int, dict[str, list[dict[str, str]]]]:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from pgdrill.cli import main; main()",
                "--config",
                str(config),
                "sweep",
                "--json",
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return done.returncode, json.loads(done.stdout)

    code, said = command()
    assert code == 0
    assert [found["folder"] for found in said["removed"]] == [str(dead.directory)]
    assert "has ended" in said["removed"][0]["why"]
    assert [found["folder"] for found in said["held"]] == [str(kept.directory)]
    kept.claim("kept", time.time() - 1)
    assert [found["why"] for found in command()[1]["removed"]] == ["its time (kept) is over"]
    assert command() == (0, {"removed": [], "held": [], "failed": []})
