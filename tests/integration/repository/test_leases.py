"""Jobs of different hosts on one repository: leases in real stores, real processes, real
deletions."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgdrill.access import Access
from pgdrill.backup import take_backup
from pgdrill.drill import destroy_stage, new_drill_id, restore_stage
from pgdrill.errors import CouldNotVerify
from pgdrill.host.process import Runner
from pgdrill.postgres.wal import format_lsn
from pgdrill.reports.model import Report
from pgdrill.repository import prune_runs
from pgdrill.repository.leases import board_of, exclusive, protecting
from pgdrill.repository.leases.board import probe
from pgdrill.retention.prune import prune
from pgdrill_demo.s3 import S3Server
from pgdrill_demo.stack import Stack
from tests.conftest import need
from tests.integration.conftest import Relay
from tests.integration.pruning import LATER, access_of, names, small_stack, whole
from tests.integration.repository.contending import Place, contend, storage_at
from tests.integration.retention.test_holds import elsewhere

STORES = ("folder", "rclone", "versitygw")
KEYS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demodemodemo"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Three base backups by wal-g; tests take copies."""
    with small_stack(need("wal-g"), 3) as made:
        yield made


@pytest.fixture
def folder(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A copy of the repository."""
    place = stack.home / f"copy{abs(hash(request.node.name)) % 10**6}"
    subprocess.run(
        ["cp", "-a", stack.s3.folder / stack.s3.bucket / stack.cluster_name, place], check=True
    )
    yield place
    shutil.rmtree(place)


@contextlib.contextmanager
def versitygw(folder: Path) -> Iterator[str]:
    """Where a store listens that keeps to the conditions of a put."""
    if shutil.which("versitygw") is None:
        pytest.skip(
            "versitygw is not installed here (go install"
            " github.com/versity/versitygw/cmd/versitygw@v1.8.0): its tests are left out"
        )
    (folder / "objects" / "backups").mkdir(parents=True)
    log = folder / "log"
    with log.open("wb") as sink:
        words = ["versitygw", "--port", "127.0.0.1:0", "posix", str(folder / "objects")]
        server = subprocess.Popen(
            words,
            env={
                **os.environ,
                "ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"],
                "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"],
            },
            stdout=sink,
            stderr=sink,
        )
    try:
        yield f"http://127.0.0.1:{listening_port(server)}"
    finally:
        server.terminate()
        server.wait()


def listening_port(server: subprocess.Popen[bytes]) -> int:
    import psutil

    while True:
        assert server.poll() is None
        ports = [
            one.laddr.port
            for one in psutil.Process(server.pid).net_connections("tcp")
            if one.status == psutil.CONN_LISTEN
        ]
        if ports:
            return int(ports[0])
        time.sleep(0.05)  # it says port 0 in its log


@contextlib.contextmanager
def opened(kind: str) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="pgdrill-") as name:
        place = Path(name)
        if kind == "folder":
            yield f"file://{place}", {}, ""
        elif kind == "versitygw":
            with versitygw(place) as endpoint_url:
                yield "s3://backups/x", KEYS, endpoint_url
        else:
            server = S3Server(place / "s3")
            server.start()
            try:
                yield "s3://backups/x", server.environment, server.endpoint_url
            finally:
                server.stop()


@pytest.mark.parametrize(
    ("store", "kept_to"), [("folder", False), ("rclone", False), ("versitygw", True)]
)
def test_whether_a_store_keeps_to_the_conditions_of_a_put_is_tried_out(
    store: str, kept_to: bool
) -> None:
    with opened(store) as place:
        storage = storage_at(place)
        assert [probe(storage), probe(storage)] == [kept_to] * 2
        assert list(storage.sizes()) == ["lease-probe.json"], (
            "and leaves one small object, however often"
        )


@pytest.mark.parametrize("store", STORES)
def test_processes_of_different_hosts_come_in_one_at_a_time(store: str, tmp_path: Path) -> None:
    with opened(store) as place:
        log = tmp_path / "log"
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=contend, args=(place, f"host{n}", log)) for n in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 3
        lines = log.read_text().split()
        assert len(lines) == 2 * 3 * 2
        for came, went in zip(lines[::2], lines[1::2], strict=True):
            assert went == came.replace("in", "out"), lines
        assert len(storage_at(place).sizes("leases/")) == 3, (
            "one object a place, used again and again"
        )


def restored(access: Access, drill_id: str, name: str) -> Report:
    """A drill's first stage: to the backup's own end, and the server left running."""
    backup = next(one for one in access.repository.backups() if one.name == name)
    return restore_stage(
        access,
        drill_id,
        target=f"lsn:{format_lsn(backup.finish_lsn)}",
        backup=name,
        hand_over=False,
    )


def test_a_prune_on_another_host_leaves_alone_what_a_drill_restores_from(
    stack: Stack, folder: Path
) -> None:
    drilling, pruning = elsewhere(stack, folder, "a"), elsewhere(stack, folder, "b")
    first, _, newest = names(pruning)
    drill_id = new_drill_id()
    try:
        report = restored(drilling, drill_id, first)
        assert (report.restore.trouble, report.no_lease) == (None, "")
        result = prune(pruning, Runner(), now=LATER)
        assert names(pruning) == [first, newest], "and what nobody needs is gone"
        assert any(
            words.startswith(f"{first}: needed by drill {drill_id} on host")
            for words in result.kept
        )
        wal = [
            step for step in prune_runs.runs(pruning.reports)[-1].steps if step.kind == "delete-wal"
        ]
        assert [step.state for step in wal] == ["kept"]
        assert first in shown(stack, folder, "leases")
    finally:
        destroy_stage(drilling, drill_id)
    assert prune(pruning, Runner(), now=LATER).kept == []
    assert names(pruning) == [newest]
    whole(pruning)


def shown(stack: Stack, folder: Path, *words: str) -> str:
    """What a command prints, on a host of its own."""
    text = stack.config_file.read_text().replace(
        f"s3://{stack.s3.bucket}/{stack.cluster_name}", f"file://{folder}"
    )
    text = text.replace(f'endpoint_url = "{stack.s3.endpoint_url}"', "").replace(
        str(stack.home / "drills"), str(folder.with_name("shown"))
    )
    file = folder.with_name("shown.toml")
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", "from pgdrill.cli import main; main()", *words],
        env={**os.environ, **stack.environment, "PGDRILL_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_drill_that_begins_while_a_prune_runs_is_seen_by_it(stack: Stack, folder: Path) -> None:
    """Before it has chosen a backup it protects them all."""
    drilling, pruning = elsewhere(stack, folder, "a"), elsewhere(stack, folder, "b")
    all_names = names(pruning)

    class Note:
        no_lease = ""

    held = contextlib.ExitStack()

    def progress(kind: str, _at: int, _total: int) -> None:
        if kind == "delete-backup" and not held._exit_callbacks:  # type: ignore[attr-defined]
            held.enter_context(protecting(drilling, "drill-1", Note()))

    with held:
        result = prune(pruning, Runner(), now=LATER, progress=progress)
    assert len(result.kept) == 3
    assert names(pruning) == all_names


def test_a_drill_of_what_a_prune_is_deleting_is_refused(stack: Stack, folder: Path) -> None:
    drilling, pruning = elsewhere(stack, folder, "a"), elsewhere(stack, folder, "b")
    first, *_ = names(pruning)
    with exclusive(
        board_of(pruning), "prune", "retention", life_seconds=60, wait_seconds=0
    ) as lease:
        lease.confirm(deleting=(first,))
        report = restored(drilling, "d1", first)
    destroy_stage(drilling, "d1")
    assert report.restore.trouble
    assert (report.verdict, report.restore.trouble.reason) == ("could not verify", "being-deleted")


def test_the_lease_of_a_drill_that_was_killed_runs_out_by_itself(
    stack: Stack, folder: Path
) -> None:
    short = {"repository": {"url": f"file://{folder}", "endpoint_url": "", "lease_seconds": 3.0}}
    drilling, pruning = elsewhere(stack, folder, "a", **short), elsewhere(stack, folder, "b")
    first, _, newest = names(pruning)
    process = multiprocessing.get_context("spawn").Process(
        target=protected_until_killed, args=(drilling, first)
    )
    process.start()
    board = board_of(pruning)
    while not any(one.lease and one.lease.names == (first,) for one in board.look()):
        assert process.exitcode is None
        time.sleep(0.05)
    assert any(words.startswith(first) for words in prune(pruning, Runner(), now=LATER).kept)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    time.sleep(3 + 2.5)  # its life, and what a store that tells times in whole seconds is given
    assert prune(pruning, Runner(), now=LATER).kept == []
    assert names(pruning) == [newest]


def protected_until_killed(access: Access, name: str) -> None:
    """For a process of its own."""

    class Note:
        no_lease = ""

    with protecting(access, "drill-1", Note()) as protection:
        protection.choose(name, wal_from=0)
        time.sleep(600)


def test_one_base_backup_or_prune_at_a_time_whatever_the_host(
    stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgdrill.backup.WAIT_SECONDS", 0.1)
    monkeypatch.setattr("pgdrill.retention.prune.LOCK_WAIT_SECONDS", 0.1)
    here, there = elsewhere(stack, folder, "a"), elsewhere(stack, folder, "b")
    for kind in ("backup", "prune"):
        with exclusive(board_of(there), kind, "other", life_seconds=60, wait_seconds=0):  # type: ignore[arg-type]
            for job in (lambda: prune(here, Runner(), now=LATER), lambda: take_backup(here)):
                with pytest.raises(CouldNotVerify) as caught:
                    job()
                assert caught.value.problem.reason == "busy"
                assert f"{kind} other on host" in caught.value.problem.found
    assert len(names(here)) == 3


@pytest.fixture
def reading_only(stack: Stack) -> Iterator[Access]:
    """Keys that may read the bucket and nothing else, as its policy answers."""
    relay = Relay(stack.s3.endpoint_url)
    relay.misbehave(r"(PUT|DELETE) \S* HTTP", "403")
    yield access_of(
        stack,
        repository={"endpoint_url": relay.endpoint_url},
        drill={"work_directory": stack.home / "work" / "reader"},
    )
    relay.close()


def test_with_keys_that_may_only_read_a_drill_works_and_says_that_it_has_no_lease(
    reading_only: Access,
) -> None:
    report = restore_stage(reading_only, "d2", hand_over=False)
    destroy_stage(reading_only, "d2")
    assert report.restore.status == "ok", report.restore.trouble
    assert "lease-probe.json" in report.no_lease


def test_with_keys_that_may_only_read_a_prune_is_refused(reading_only: Access) -> None:
    before = names(reading_only)
    with pytest.raises(CouldNotVerify) as caught:
        prune(reading_only, Runner(), now=LATER)
    assert caught.value.problem.reason == "storage-refused"
    assert "lease" in caught.value.problem.thing
    assert names(reading_only) == before


def test_a_lease_that_cannot_be_read_protects_everything(stack: Stack, folder: Path) -> None:
    access = elsewhere(stack, folder, "b")
    access.reports.write(
        "leases/drill-000000000000.json",
        json.dumps({"life_seconds": 1e30, "kind": "\x1b[2J"}).encode(),
    )
    with pytest.raises(CouldNotVerify) as caught:
        prune(access, Runner(), now=LATER)
    assert (caught.value.problem.reason, len(names(access))) == ("busy", 3)
    assert "drill-000000000000.json, which cannot be read" in caught.value.problem.found
