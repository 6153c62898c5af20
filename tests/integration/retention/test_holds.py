"""A hold that is acknowledged is kept, whatever runs meanwhile; one that was not kept is said until
a person takes it off.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest

from pgdrill.access import Access
from pgdrill.cli import main
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify, Unreachable
from pgdrill.host.process import Runner
from pgdrill.repository import prune_runs
from pgdrill.retention import holds
from pgdrill.retention.prune import look, prune
from pgdrill_demo.stack import Stack
from tests.conftest import need
from tests.integration.pruning import (
    LATER,
    access_of,
    names,
    pruned_and_stopped,
    small_stack,
    wal_g,
    whole,
)

UNTIL = LATER + timedelta(days=1)


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


def elsewhere(stack: Stack, folder: Path, host: str, **sections: dict[str, object]) -> Access:
    """The same repository from another host, as far as that is a matter of files: a state directory
    of its own.
    """
    return access_of(
        stack,
        folder,
        **{"drill": {"work_directory": stack.home / "work" / f"{folder.name}-{host}"}, **sections},
    )


@contextlib.contextmanager
def stopped(access: Access, kind: str) -> Iterator[BaseProcess]:
    """A prune that has stopped right before its first step of that kind; its journal stands."""
    process = multiprocessing.get_context("spawn").Process(
        target=pruned_and_stopped, args=(access, kind)
    )
    process.start()
    child = psutil.Process(process.pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        # the kernel has no event for that but to its parent's waitpid
        while child.status() != psutil.STATUS_STOPPED:
            process.join(0.05)
            assert process.exitcode is None
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGCONT)
        process.join()


def go_on(process: BaseProcess) -> int | None:
    os.kill(process.pid or 0, signal.SIGCONT)
    process.join()
    return process.exitcode


def test_a_hold_added_while_a_prune_runs_is_acknowledged_once_that_has_read_it_and_is_kept(
    stack: Stack, folder: Path
) -> None:
    pruning, holding = elsewhere(stack, folder, "a"), elsewhere(stack, folder, "b")
    first, second, third, newest = names(holding)
    told, added = threading.Event(), []

    def add() -> None:
        added.append(
            holds.add_hold(
                holding,
                second,
                why="case 77/26",
                until=UNTIL,
                wait_seconds=60,
                tell=lambda _: told.set(),
            )
        )

    with stopped(pruning, "delete-backup") as process:
        adding = threading.Thread(target=add)
        adding.start()
        assert told.wait(180), "it says for whom it waits"
        assert not added, "nothing is acknowledged while the prune has not read it"
        assert go_on(process) == 0
        adding.join()
    assert [hold.name for hold in added] == [second]
    assert names(holding) == [second, newest]
    states = {
        step.name: (step.state, step.detail)
        for step in prune_runs.runs(holding.reports)[-1].steps
        if step.kind == "delete-backup"
    }
    assert states[second][0] == "kept"
    assert "case 77/26" in states[second][1]
    assert {states[first][0], states[third][0]} == {"done"}
    whole(holding)
    assert look(holding, Runner(), now=LATER).refusals == ()


def test_a_hold_that_no_prune_could_read_in_time_is_not_acknowledged_and_is_kept_all_the_same(
    stack: Stack, folder: Path
) -> None:
    pruning, holding = elsewhere(stack, folder, "a"), elsewhere(stack, folder, "b")
    second = names(holding)[1]
    with stopped(pruning, "delete-backup") as process:
        with pytest.raises(CouldNotVerify) as caught:
            holds.add_hold(holding, second, why="case 77/26", until=UNTIL, wait_seconds=1)
        assert caught.value.problem.reason == "not-confirmed"
        assert "prune retention on host" in caught.value.problem.found
        assert go_on(process) == 0
    assert second in names(holding)


def test_a_prune_that_stood_still_for_longer_than_its_lease_deletes_nothing_more(
    stack: Stack, folder: Path
) -> None:
    pruning = elsewhere(
        stack,
        folder,
        "a",
        repository={"url": f"file://{folder}", "endpoint_url": "", "lease_seconds": 2.0},
    )
    holding = elsewhere(stack, folder, "b")
    all_names = names(holding)
    with stopped(pruning, "delete-backup") as process:
        holds.add_hold(holding, all_names[1], why="case 77/26", until=UNTIL, wait_seconds=60)
        assert go_on(process) == 1
    assert names(holding) == all_names
    run = prune_runs.runs(holding.reports)[-1]
    assert (run.state, "ran out" in run.reason) == ("failed", True)
    assert prune(holding, Runner(), now=LATER).backups_deleted == 2
    assert names(holding) == [all_names[1], all_names[3]]


def test_a_hold_of_what_is_gone_is_refused(stack: Stack, folder: Path) -> None:
    pruning, holding = elsewhere(stack, folder, "a"), elsewhere(stack, folder, "b")
    first = names(holding)[0]
    with stopped(pruning, "delete-wal") as process:
        with pytest.raises(ConfigError) as caught:
            holds.add_hold(holding, first, why="case 77/26", until=UNTIL)
        assert caught.value.problem.reason == "unknown-backup"
        assert go_on(process) == 0
    assert holds.list_holds(holding) == []


def test_a_hold_of_what_goes_while_it_is_added_is_refused_and_not_left_standing(
    stack: Stack, folder: Path
) -> None:
    access = elsewhere(stack, folder, "b")
    second = names(access)[1]
    real = holds._wait_for_prunes

    def gone_meanwhile(*given: object) -> object:
        wal_g(folder, "delete", "target", second, "--confirm")
        return real(*given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(BackupFault) as caught:
        patch.setattr(holds, "_wait_for_prunes", gone_meanwhile)
        holds.add_hold(access, second, why="case 77/26", until=UNTIL)
    assert caught.value.problem.reason == "too-late"
    assert "hold-broken" not in {
        problem.reason for problem in look(access, Runner(), now=LATER).refusals
    }


def test_a_mark_set_by_hand_while_a_prune_runs_keeps_its_backup(stack: Stack, folder: Path) -> None:
    pruning, access = elsewhere(stack, folder, "a"), elsewhere(stack, folder, "b")
    all_names = names(access)
    with stopped(pruning, "delete-backup") as process:
        wal_g(folder, "backup-mark", all_names[2])
        assert go_on(process) == 0
    assert names(access) == all_names[2:]
    assert {
        step.state
        for step in prune_runs.runs(access.reports)[-1].steps
        if step.name == all_names[2]
    } == {"kept"}
    whole(access)


def test_a_hold_that_was_not_kept_is_red_until_a_person_takes_it_off(
    stack: Stack,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    access = access_of(stack, folder)
    first, *_ = names(access)
    soon = datetime.now(UTC) + timedelta(seconds=1)
    holds.add_hold(access, first, why="case 77/26", until=soon)
    wal_g(folder, "delete", "target", first, "--confirm")
    for now in (datetime.now(UTC), LATER):
        found = [
            problem.reason
            for problem in look(access, Runner(), now=now, allowed=["missing"]).refusals
        ]
        assert found == ["hold-broken"], "even after its day"
    with pytest.raises(CouldNotVerify) as caught:
        prune(access, Runner(), now=LATER, allowed=["too-much"])
    assert "hold remove" in caught.value.problem.hint
    text = stack.config_file.read_text().replace(
        f"s3://{stack.s3.bucket}/{stack.cluster_name}", f"file://{folder}"
    )
    text = text.replace(f'endpoint_url = "{stack.s3.endpoint_url}"', "").replace(
        str(stack.home / "drills"), str(tmp_path)
    )
    (tmp_path / "dr.toml").write_text(text)
    monkeypatch.setenv("PGDRILL_CONFIG", str(tmp_path / "dr.toml"))

    def pgdrill(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(words)
        shown = capsys.readouterr()
        if ended.value.code:
            assert "hold-broken" in shown.out + shown.err
        return int(ended.value.code or 0)

    assert pgdrill("hold", "list") == 1
    assert all(
        [
            pgdrill("window"),
            pgdrill("prune"),
            pgdrill("prune", "--apply"),
            pgdrill("prune", "--apply", "--allow", "missing"),
        ]
    )
    assert pgdrill("hold", "remove", "agents", first) == 0
    assert [
        pgdrill("hold", "list"),
        pgdrill("prune", "--apply", "--allow", "missing"),
        pgdrill("window"),
        pgdrill("prune"),
    ] == [0] * 4


def test_what_a_run_deleted_after_its_hold_had_run_out_is_no_broken_hold(
    stack: Stack, folder: Path
) -> None:
    access = access_of(stack, folder)
    first, *_ = names(access)
    holds.add_hold(access, first, why="case 77/26", until=LATER - timedelta(days=1))
    prune(access, Runner(), now=LATER)
    assert first not in names(access)
    assert [hold.name for hold in holds.list_holds(access)] == [first], "it stays for the record"
    assert look(access, Runner(), now=LATER).refusals == ()


def test_holds_of_the_old_file_are_kept_to_and_can_be_taken_off(stack: Stack, folder: Path) -> None:
    access = access_of(stack, folder)
    first, second, *_ = names(access)
    old = {
        "name": first,
        "why": "case 1/26",
        "until": UNTIL.isoformat(),
        "by": "anna",
        "added_at": "2026-11-01T00:00:00Z",
    }
    access.reports.write(
        "retention/holds.json",
        json.dumps({"version": 1, "holds": [old, {**old, "name": second}]}).encode(),
    )
    assert {first, second}.isdisjoint(look(access, Runner(), now=LATER).plan.going("backup"))
    holds.remove_hold(access, first, "bert")
    assert [hold.name for hold in holds.list_holds(access)] == [second]
    assert first in look(access, Runner(), now=LATER).plan.going("backup")


def test_holds_that_are_not_listed_any_more_are_a_failure_to_see_and_nothing_goes(
    stack: Stack, folder: Path
) -> None:
    access = elsewhere(stack, folder, "a")
    before = names(access)
    holds.add_hold(access, before[1], why="case 77/26", until=UNTIL)
    for file in (folder / "pgdrill" / "retention" / "holds").iterdir():
        file.unlink()
    with pytest.raises(Unreachable, match="nothing is listed"):
        holds.list_holds(access)
    with pytest.raises(Unreachable, match="nothing is listed"):
        prune(access, Runner(), now=LATER)
    assert names(access) == before


def test_a_hold_that_was_written_and_is_not_listed_is_not_acknowledged(
    stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = elsewhere(stack, folder, "a")
    write = holds._write

    def written_and_gone(access: Access, hold: holds.HoldRecord) -> None:
        write(access, hold)
        (folder / "pgdrill" / hold.key).unlink()

    monkeypatch.setattr(holds, "_write", written_and_gone)
    with pytest.raises(Unreachable, match="it was written, and is not listed"):
        holds.add_hold(access, names(access)[1], why="case 77/26", until=UNTIL)


def test_hosts_add_and_remove_holds_at_once_and_none_is_lost(stack: Stack, folder: Path) -> None:
    hosts = [elsewhere(stack, folder, f"h{n}") for n in range(4)]
    all_names = names(elsewhere(stack, folder, "reader"))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_some, args=(host, all_names)) for host in hosts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(holds.list_holds(access_of(stack, folder))) == 4 * len(all_names)


def add_some(access: Access, all_names: list[str]) -> None:
    """For a process of its own."""
    for name in all_names:
        holds.add_hold(access, name, why="case 77/26", until=UNTIL)
