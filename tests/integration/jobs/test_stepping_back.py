"""On production's own host a drill leaves disk, cores and memory to production."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pgdrill.drill import check_stage, destroy_stage, new_drill_id, restore_stage
from pgdrill.postgres.wal import format_lsn
from pgdrill.recovery import room
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import Report
from tests.integration.conftest import Copy, Relay, nothing_left, once

DISK_BYTES, KEPT_BYTES = 700 * 2**20, 300 * 2**20


@pytest.fixture
def disk(repository: Copy) -> Iterator[Path]:
    """A disk of its own where the drill works."""
    repository.work.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "pgdrill", repository.work],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    yield repository.work
    subprocess.run(["umount", repository.work], check=True)


def fill(disk: Path) -> None:
    """Somebody else takes what was free, and the drill's share with it."""
    with (disk / "somebody-else").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.shutil.disk_usage(disk).free - KEPT_BYTES + 2**20)


@pytest.mark.parametrize("when", ["fetch", "replay"])
def test_a_disk_that_somebody_else_fills_ends_the_drill_and_not_production(
    repository: Copy, relay: Relay, disk: Path, when: str
) -> None:
    once(repository)
    waits = (
        repository.part.name.split(".")[0]
        if when == "fetch"
        else repository.golden.marks[0].segment.name
    )
    relay.misbehave(rf"GET \S*{waits}", "hang")
    access = repository.access(
        drill={"keep_free_bytes": KEPT_BYTES}, repository={"endpoint_url": relay.endpoint_url}
    )
    drill_id = new_drill_id()
    folder = Workspace.of(access, drill_id).directory
    gone_after: list[float] = []

    def interfere() -> None:
        assert relay.matched.wait(180)
        fill(disk)
        began = time.monotonic()
        while folder.exists() and time.monotonic() - began < 20:
            time.sleep(0.05)
        gone_after.append(time.monotonic() - began)

    other = threading.Thread(target=interfere)
    other.start()
    verdict, trouble = repository.trouble(access, drill_id=drill_id)
    other.join()
    assert (verdict, trouble.reason) == ("could not verify", "no-space")
    assert gone_after[0] < 8, "the folder was not cleared at once"


def test_a_disk_that_fills_up_while_checks_are_asked_leaves_no_false_answer(
    repository: Copy, disk: Path
) -> None:
    once(repository)
    access, drill_id = repository.access(drill={"keep_free_bytes": KEPT_BYTES}), new_drill_id()
    try:
        report = restore_stage(
            access, drill_id, target=f"lsn:{format_lsn(repository.golden.marks[2].lsn)}"
        )
        assert report.restore.status == "ok", report.restore.trouble
        fill(disk)
        report = check_stage(access, drill_id)
    finally:
        destroy_stage(access, drill_id)
    assert (report.verdict, report.reason) == ("could not verify", "checks: no-space")
    assert not [result for result in report.results if result.status == "fail"]
    nothing_left(access, drill_id)


def test_room_for_others_is_asked_for_beforehand(repository: Copy, disk: Path) -> None:
    once(repository)
    verdict, trouble = repository.trouble(repository.access(drill={"keep_free_bytes": DISK_BYTES}))
    assert (verdict, trouble.reason) == ("could not verify", "no-space")
    assert "stay free for others" in trouble.expected


@pytest.mark.parametrize(
    ("total", "kept"), [(10**9, 2**30), (100 * 2**30, 5 * 2**30), (2**43, 20 * 2**30)]
)
def test_a_twentieth_stays_free_within_limits(total: int, kept: int) -> None:
    assert room.keep_free(0, total) == kept
    assert room.keep_free(7, total) == 7


@pytest.mark.parametrize("priority", ["low", "normal"])
def test_all_that_a_drill_starts_goes_first_and_works_last(
    repository: Copy, relay: Relay, priority: str
) -> None:
    once(repository)
    relay.misbehave("GET", "trickle")  # so that there is time to look
    access = repository.access(
        drill={"priority": priority}, repository={"endpoint_url": relay.endpoint_url}
    )
    seen: dict[str, tuple[int, int, str]] = {}
    over = threading.Event()

    def look() -> None:
        mine = os.getpid()
        while not over.wait(0.02):
            for process in psutil.Process(mine).children(recursive=True):
                with contextlib.suppress(psutil.Error, OSError):
                    traces = [*process.cmdline(), *process.environ().values()]
                    if (
                        any(str(repository.work) in trace for trace in traces)
                        and process.name() not in WORDS
                        and not keeps(traces)
                    ):
                        score = int(Path(f"/proc/{process.pid}/oom_score_adj").read_text())
                        seen[process.name()] = (score, process.nice(), str(process.ionice()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        report: Report = repository.drill(access)
    finally:
        over.set()
        watcher.join()
    assert report.restore.status == "ok", report.restore.trouble
    assert {"python", "postgres"} <= {name.rstrip("3") for name in seen}, seen
    assert any(name.startswith(repository.golden.stack.tool) for name in seen), seen
    for name, (score, nice, disk) in seen.items():
        assert score == 1000, (name, score)
        assert (nice >= 10) == (priority == "low"), (name, nice)
        assert ("BE" in disk and "value=7" in disk) == (priority == "low"), (name, disk)


def keeps(traces: list[str]) -> bool:
    """The process that ends the server: the last one that should go when memory runs out."""
    return any(trace.endswith("keeper.py") for trace in traces)


# on the way to what they start
WORDS = {"setpriv", "choom", "nice", "ionice", "timeout", "unshare", "sh"}


def test_only_the_drills_own_files_are_brought_to_a_disk_that_it_shares_with_production(
    repository: Copy,
) -> None:
    once(repository)
    drill_id = new_drill_id()
    for data_directory, how in (
        (repository.golden.stack.cluster.server.data_directory, "fsync"),
        (Path("/nowhere"), "syncfs"),
    ):
        access = repository.access(server={"data_directory": data_directory})
        try:
            report = restore_stage(
                access, drill_id, target=f"lsn:{format_lsn(repository.golden.marks[2].lsn)}"
            )
            assert report.restore.status == "ok", report.restore.trouble
            configuration = (
                Workspace.of(access, drill_id).configuration / "postgresql.conf"
            ).read_text()
        finally:
            destroy_stage(access, drill_id)
        assert f"recovery_init_sync_method = '{how}'" in configuration
        assert (report.timings.sync_seconds is None) == (how == "fsync"), (
            "the whole file system was synced"
        )
