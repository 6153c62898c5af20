"""Pruning with real tools: what they delete is what was planned; killed, locked out or
contradicted, nothing is lost.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pgdrill.cli import main
from pgdrill.errors import Busy, CouldNotVerify
from pgdrill.host.lock import ClusterLock, lease_for, this_process
from pgdrill.host.process import Runner
from pgdrill.host.waiting import when_free
from pgdrill.repository import prune_runs
from pgdrill.retention import holds, journal
from pgdrill.retention.execute import carry_out
from pgdrill.retention.prune import look, prune
from pgdrill.retention.unused_objects import findings
from pgdrill_demo.stack import Stack
from tests.conftest import need
from tests.integration.conftest import Relay
from tests.integration.pruning import (
    EASY,
    LATER,
    access_of,
    asked_before,
    names,
    permanent,
    pruned_and_killed,
    small_stack,
    wal_g,
    whole,
)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Four base backups by wal-g; tests take copies."""
    with small_stack(need("wal-g"), 4) as made:
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


def test_killed_at_any_step_it_can_be_run_again_and_nothing_promised_was_ever_missing(
    stack: Stack, folder: Path
) -> None:
    access = access_of(stack, folder)
    all_names = names(access)
    holds.add_hold(access, all_names[0], why="case 77/26", until=LATER + timedelta(days=1))
    steps = look(access, Runner(), now=LATER).plan.steps
    assert [step.kind for step in steps] == ["mark", "delete-backup", "delete-backup", "delete-wal"]
    untouched = folder.with_name("untouched")
    subprocess.run(["cp", "-a", folder, untouched], check=True)
    for at in range(len(steps) + 1):
        subprocess.run(["cp", "-a", untouched, folder.with_name(f"k{at}")], check=True)
        killed = access_of(stack, folder.with_name(f"k{at}"))
        process = multiprocessing.get_context("spawn").Process(
            target=pruned_and_killed, args=(killed, at)
        )
        process.start()
        process.join()
        assert process.exitcode == 9
        assert {all_names[0], all_names[-1]} <= set(names(killed)), steps[:at]
        whole(killed)
        assert prune_runs.runs(killed.reports)[-1].state == "running"
        again = prune(killed, Runner(), now=LATER)
        assert again.left == []
        assert names(killed) == [all_names[0], all_names[-1]]
        assert permanent(killed) == [all_names[0]]
        assert look(killed, Runner(), now=LATER).plan.steps == ()
        whole(killed)
        shutil.rmtree(folder.with_name(f"k{at}"))
    shutil.rmtree(untouched)


@pytest.mark.parametrize("job", ["backup", "drill"])
def test_nothing_goes_while_a_backup_or_a_drill_runs(
    stack: Stack, folder: Path, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgdrill.retention.prune.LOCK_WAIT_SECONDS", 0.2)
    access = access_of(stack, folder)
    state = access.cluster.state_directory
    state.mkdir(parents=True, exist_ok=True)
    before = names(access)
    lock = ClusterLock(state / f"{job}.lock")
    with (
        lock.hold(lease_for(job, state, 60, this_process())),
        pytest.raises(CouldNotVerify) as caught,
    ):
        prune(access, Runner(), now=LATER)
    lock.release(job)
    assert caught.value.problem.reason == "busy"
    assert names(access) == before
    assert prune(access, Runner(), now=LATER).backups_deleted == 3


def test_a_refusal_is_told_before_who_holds_the_cluster_and_what_is_not_refused_waits_for_the_holder(  # noqa: E501
    stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgdrill.retention.prune.LOCK_WAIT_SECONDS", 0.2)
    refused = access_of(stack, folder, retention={**EASY, "max_share": 0.3})
    access, state = access_of(stack, folder), refused.cluster.state_directory
    state.mkdir(parents=True, exist_ok=True)
    lock, looked = ClusterLock(state / "drill.lock"), threading.Event()
    with lock.hold(lease_for("d1", state, 60, this_process())):
        with pytest.raises(CouldNotVerify) as caught:
            prune(refused, Runner(), now=LATER)
        assert caught.value.problem.reason == "too-much"
        with pytest.raises(Busy, match="held by d1 until"):
            prune(access, Runner(), now=LATER)
    done = threading.Thread(target=lambda: looked.wait(180) and lock.release("d1"))
    done.start()
    result = when_free(
        lambda: prune(access, Runner(), now=LATER),
        seconds=60,
        pause=lambda _: (looked.set(), done.join())[1],
    )
    assert result.backups_deleted == 3


def test_a_plan_that_was_approved_may_be_finished_and_done_again_and_no_other_one(
    stack: Stack, folder: Path
) -> None:
    access = access_of(stack, folder)
    approved = look(access, Runner(), now=LATER).plan.digest
    process = multiprocessing.get_context("spawn").Process(
        target=pruned_and_killed, args=(access_of(stack, folder), 1)
    )
    process.start()
    process.join()
    assert look(access, Runner(), now=LATER).plan.digest != approved
    with pytest.raises(CouldNotVerify, match="plan 0123456789abcdef, which was approved"):
        prune(access, Runner(), now=LATER, approved="0123456789abcdef")
    assert prune(access, Runner(), now=LATER, approved=approved).backups_deleted == 2
    assert not prune(access, Runner(), now=LATER, approved=approved).applied, (
        "nothing is left to do, and that is well"
    )


def test_the_tool_is_asked_first_and_contradicted_if_it_names_anything_else(
    stack: Stack, folder: Path
) -> None:
    """Somebody marks the anchor between plan and deletion: wal-g would take WAL that the window
    needs.
    """
    access = access_of(stack, folder)
    all_names = names(access)
    third = access.repository.backups()[2]
    outlook = look(access, Runner(), now=third.finish_time + timedelta(days=35, milliseconds=1))
    assert outlook.plan.anchor == third.name
    wal = access.repository.wal()
    run = journal.begin(access, outlook.plan, LATER)

    def meddle(kind: str, _at: int, _total: int) -> None:
        if kind == "delete-wal":
            wal_g(folder, "backup-mark", third.name)

    with asked_before(access, outlook) as asked, pytest.raises(CouldNotVerify) as caught:
        carry_out(access, Runner(), outlook.inventory, outlook.plan, run, asked, meddle)
    problem = caught.value.problem
    assert problem.reason == "tool-differs"
    assert "wal_005/" in problem.found
    assert names(access) == all_names[2:], "what was planned, and asked before, is gone"
    assert access.repository.wal() == wal
    whole(access)


def test_marks_that_change_after_the_plan_stop_it_before_anything_goes(
    stack: Stack, folder: Path
) -> None:
    access = access_of(stack, folder)
    outlook = look(access, Runner(), now=LATER)
    all_names = names(access)
    wal_g(folder, "backup-mark", all_names[1])
    with asked_before(access, outlook) as asked, pytest.raises(CouldNotVerify) as caught:
        carry_out(
            access,
            Runner(),
            outlook.inventory,
            outlook.plan,
            journal.begin(access, outlook.plan, LATER),
            asked,
            lambda *_: None,
        )
    assert caught.value.problem.reason == "plan-changed"
    assert all_names[1] in caught.value.problem.found
    assert names(access) == all_names


def test_another_plan_than_the_approved_one_is_refused(stack: Stack, folder: Path) -> None:
    access = access_of(stack, folder)
    digest = look(access, Runner(), now=LATER).plan.digest
    holds.add_hold(access, names(access)[1], why="case 77/26", until=LATER + timedelta(days=1))
    with pytest.raises(CouldNotVerify) as caught:
        prune(access, Runner(), now=LATER, approved=digest)
    assert caught.value.problem.reason == "plan-changed"
    assert len(names(access)) == 4


def test_a_backup_marked_by_hand_is_left_alone(stack: Stack, folder: Path) -> None:
    access = access_of(stack, folder)
    all_names = names(access)
    wal_g(folder, "backup-mark", all_names[1])
    prune(access, Runner(), now=LATER)
    assert names(access) == [all_names[1], all_names[3]]
    whole(access)


def test_an_unreadable_backup_stops_everything(stack: Stack, folder: Path) -> None:
    access = access_of(stack, folder)
    all_names = names(access)
    (folder / "basebackups_005" / f"{all_names[1]}_backup_stop_sentinel.json").write_text("{")
    with pytest.raises(CouldNotVerify) as caught:
        prune(access, Runner(), now=LATER)
    assert caught.value.problem.reason == "inventory-incomplete"
    assert all_names[1] in caught.value.problem.thing
    assert names(access) == all_names


def test_damaged_backups_and_lost_wal_are_seen(stack: Stack, folder: Path) -> None:
    access = access_of(stack, folder)
    all_names = names(access)
    next((folder / "basebackups_005" / all_names[0] / "tar_partitions").glob("part_001*")).unlink()
    next((folder / "wal_005").glob(f"{all_names[1].removeprefix('base_')}.lz4")).write_bytes(b"")
    found = {b.name: b.damage for b in look(access, Runner(), now=LATER).inventory.backups}
    assert found[all_names[0]].startswith("missing-part")
    assert found[all_names[1]].startswith("WAL that it needs itself is missing")
    assert found[all_names[3]] == ""


def test_leftovers_of_a_killed_upload_are_listed_and_go_only_when_named(
    stack: Stack, folder: Path
) -> None:
    access = access_of(stack, folder)
    left = names(access)[1]
    (folder / "basebackups_005" / f"{left}_backup_stop_sentinel.json").unlink()
    (folder / "pgdrill" / "backups" / f"{left}.json").unlink()
    prune(access, Runner(), now=LATER)
    assert left in {item.name for item in look(access, Runner(), now=LATER).inventory.leftovers}
    prune(access, Runner(), now=LATER, named=[left])
    assert not [file for file in (folder / "basebackups_005" / left).rglob("*") if file.is_file()]
    assert look(access, Runner(), now=LATER).inventory.leftovers == ()


def test_a_clones_timeline_is_listed_with_its_size_and_goes_only_when_named(
    stack: Stack, folder: Path, tmp_path: Path
) -> None:
    """Pushed by the tool itself, as a clone does that still archives into production's
    repository."""
    access = access_of(stack, folder)
    segment = next(name for name in access.repository.wal() if not name.endswith("history"))
    (tmp_path / "00000005.history").write_text("1\t0/1500000\tno recovery target specified\n")
    wal_g(folder, "wal-fetch", segment, str(tmp_path / f"00000005{segment[8:]}"))
    for name in ("00000005.history", f"00000005{segment[8:]}"):
        wal_g(folder, "wal-push", str(tmp_path / name))
    for file in (folder / "wal_005").glob("00000005*"):
        os.utime(file, ((datetime.now(UTC) - timedelta(days=30)).timestamp(),) * 2)
    archived = {key for key in access.objects.sizes() if key.startswith("wal_005/")}
    own = {key for key in archived if not key.startswith("wal_005/00000005")}
    outlook = look(access, Runner(), now=LATER)
    (found,) = (
        it
        for it in findings(outlook.inventory, access.cluster.retention, LATER)
        if it.kind == "foreign-timeline"
    )
    assert (found.name, found.stored_bytes) == (
        "00000005",
        access.objects.sizes()[f"wal_005/00000005{segment[8:]}.lz4"],
    )
    assert outlook.plan.lines == ()
    result = prune(access, Runner(), now=LATER, named=["00000005"])
    left = {key for key in access.objects.sizes() if key.startswith("wal_005/")}
    assert {key for key in left if key.startswith("wal_005/00000005")} == {
        "wal_005/00000005.history.lz4"
    }, "or its number would be taken again"
    assert left & own, "production's own WAL stays"
    assert result.wal_segments_deleted == outlook.plan.segments + 1
    assert (
        result.left,
        prune_runs.runs(access.reports)[-1].steps[-1].kind,
        prune_runs.runs(access.reports)[-1].steps[-1].state,
    ) == ([], "delete-timeline", "done")
    whole(access)
    assert look(access, Runner(), now=LATER, named=["00000005"]).plan.steps == ()


def test_the_clock_of_the_host_is_compared_with_the_stores(
    stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = access_of(stack, folder)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=100)

    monkeypatch.setattr("pgdrill.retention.prune.datetime", Ahead)
    with pytest.raises(CouldNotVerify) as caught:
        prune(access, Runner())
    assert caught.value.problem.reason == "clock"
    assert len(names(access)) == 4
    assert prune_runs.runs(access.reports)[-1].state == "failed"


def test_the_command_line_shows_holds_refuses_and_prunes(
    stack: Stack,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    text = stack.config_file.read_text().replace(
        f"s3://{stack.s3.bucket}/{stack.cluster_name}", f"file://{folder}"
    )
    text = text.replace(f'endpoint_url = "{stack.s3.endpoint_url}"', "").replace(
        str(stack.home / "drills"), str(tmp_path)
    )
    file = tmp_path / "dr.toml"
    file.write_text(text)
    monkeypatch.setenv("PGDRILL_CONFIG", str(file))
    for name, value in stack.environment.items():
        if name != "PGDRILL_CONFIG":
            monkeypatch.setenv(name, value)
    oldest = names(access_of(stack, folder))[0]

    def pgdrill(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(words)
        return int(ended.value.code or 0), capsys.readouterr().out

    code, shown = pgdrill("window", "agents")
    assert code == 0
    assert "━" in shown
    assert "the newest archived WAL" in shown
    (data,) = json.loads(pgdrill("window", "--json")[1])
    assert len(data["spans"]) == 1
    code, shown = pgdrill("prune")
    assert code == 0
    assert f"{oldest} (backup" in shown
    assert "window: restores instants" in shown
    assert (
        pgdrill(
            "hold", "add", "agents", "base_nothing", "--why", "case 77/26", "--until", "2099-01-01"
        )[0]
        == 2
    )
    assert (
        pgdrill("hold", "add", "agents", oldest, "--why", "case 77/26", "--until", "2099-01-01")[0]
        == 0
    )
    assert "case 77/26" in pgdrill("hold", "list", "agents")[1]
    assert "case 77/26" in pgdrill("prune", "agents")[1]
    assert pgdrill("hold", "remove", "agents", oldest)[0] == 0
    assert pgdrill("hold", "list", "agents")[1] == "Nothing is held.\n"
    code, shown = pgdrill("prune", "--apply", "--json")
    assert code == 0
    assert json.loads(shown)["applied"] is False, "everything is younger than the window"
    assert pgdrill("prune", "--allow", "promise-worse")[0] == 2


class KeepingStore(Relay):
    """A store that answers to every deletion what it was given, and keeps the objects."""

    answer = ""

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self.target) as server:
            threading.Thread(
                target=self._answer,
                args=(server, client, threading.Event(), threading.Event()),
                daemon=True,
            ).start()
            while data := client.recv(65536):
                if self.pattern.search(data):
                    self.matched.set()
                    client.sendall(self.answer.encode())
                    return
                server.sendall(data)


@pytest.fixture
def keeping(stack: Stack) -> Iterator[KeepingStore]:
    store = KeepingStore(stack.s3.endpoint_url)
    store.misbehave(r"(POST \S*\?delete|DELETE )", "keep")
    yield store
    store.close()


def http(status: str, body: str) -> str:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length:"
        f" {len(body)}\r\nConnection: close\r\n\r\n{body}"
    )


def test_what_the_store_has_under_a_lock_is_reported_and_no_failure(
    stack: Stack, keeping: KeepingStore
) -> None:
    """As S3 answers for each object under a retention period."""
    reason = (
        "<Code>AccessDenied</Code><Message>Access Denied because object protected by object"
        " lock.</Message>"
    )
    keeping.answer = http(
        "200 OK", f"<DeleteResult><Error><Key>x</Key>{reason}</Error></DeleteResult>"
    )
    access = access_of(stack, repository={"endpoint_url": keeping.endpoint_url})
    before = names(access)
    result = prune(access, Runner(), now=LATER)
    assert keeping.matched.is_set()
    assert names(access) == before
    assert set(before[:3]) <= {*result.locked, *result.left}
    assert (result.backups_deleted, result.wal_segments_deleted, result.freed_bytes) == (0, 0, 0)
    assert prune_runs.runs(access.reports)[-1].state == "done"


def test_keys_that_may_not_delete_are_a_refusal_with_its_hint(
    stack: Stack, keeping: KeepingStore
) -> None:
    keeping.answer = http(
        "403 Forbidden", "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    )
    access = access_of(stack, repository={"endpoint_url": keeping.endpoint_url})
    before = names(access)
    with pytest.raises(CouldNotVerify) as caught:
        prune(access, Runner(), now=LATER)
    assert caught.value.problem.reason == "storage-refused"
    assert "s3:DeleteObject" in caught.value.problem.hint
    assert names(access) == before
