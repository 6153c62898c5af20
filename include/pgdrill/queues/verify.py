"""The proof of a snapshot: fetched, loaded into a throw-away server, asked, and gone again."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pgdrill import version
from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError
from pgdrill.host.core_dumps import no_core_files
from pgdrill.host.lock import ClusterLock, lease_for, this_process
from pgdrill.host.process import Runner
from pgdrill.queues import invariants, record, store
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.listing import save_report
from pgdrill.queues.loader import Loaded, load
from pgdrill.queues.record import SnapshotRecord
from pgdrill.queues.report import SnapshotReport
from pgdrill.recovery.room import check_room
from pgdrill.recovery.sweep import sweep_first
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.drill_id import new_drill_id
from pgdrill.reports.model import Stage
from pgdrill.repository.leases import end_protection, protecting

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which snapshot to prove, and who asked for it."""

    snapshot: str = "LATEST"
    trigger: str = "cli"
    drill_id: str = ""


def verify(
    access: QueueAccess,
    wanted: Wanted | None = None,
    *,
    runner: Runner | None = None,
    progress: Progress = lambda *_: None,
) -> SnapshotReport:
    """Prove a snapshot. The report says how it went; nothing is raised for what it can hold."""
    wanted, runner = wanted or Wanted(), runner or Runner()
    sweep_first(access.owner)
    found = record.find(access, wanted.snapshot)
    report = SnapshotReport(
        drill_id=wanted.drill_id or new_drill_id(),
        snapshot_id=found,
        queue=access.name,
        cluster=access.cluster.name,
        trigger=wanted.trigger,
        started_at=datetime.now(UTC),
        host=socket.gethostname(),
        pgdrill=version(),
    )
    # one that does not get the lock has begun nothing, and leaves no report
    with one_here(access, report.drill_id):
        try:
            with loading(access, report, runner, progress) as opened:
                if opened:
                    _check(access, opened, report)
        finally:
            report.ended_at = datetime.now(UTC)
            report.judge()
            save_report(access, report)
    return report


@contextlib.contextmanager
def one_here(access: QueueAccess, drill_id: str) -> Iterator[None]:
    """Let one snapshot of a queue at a time be loaded on this host: each holds the same lease."""
    lock = ClusterLock(access.state_directory / "load.lock")
    lease = lease_for(
        drill_id, _workspace(access, drill_id).directory, _limit(access), this_process()
    )
    with lock.hold(lease):
        try:
            yield
        finally:
            lock.release(drill_id)


def _workspace(access: QueueAccess, drill_id: str) -> Workspace:
    return Workspace(access.cluster.state_directory / "snapshots" / drill_id)


def _limit(access: QueueAccess) -> float:
    return 3 * access.queue.timeout_seconds


@contextlib.contextmanager
def loading(
    access: QueueAccess, report: SnapshotReport, runner: Runner, progress: Progress
) -> Iterator[tuple[Loaded, SnapshotRecord] | None]:
    """Fetch and load a snapshot for as long as this block lasts.

    Yields None where that failed: why stands in the report.
    """
    workspace = _workspace(access, report.drill_id)
    no_core_files()
    opened = None
    try:
        with protecting(access, report.drill_id, report) as protection:
            protection.choose(report.snapshot_id)
            with _stage(report, report.restore):
                opened = _load(access, workspace, report, runner, progress)
            yield opened
    finally:
        end_protection(access, report.drill_id)
        with _stage(report, report.cleanup):
            workspace.destroy()


def _load(
    access: QueueAccess,
    workspace: Workspace,
    report: SnapshotReport,
    runner: Runner,
    progress: Progress,
) -> tuple[Loaded, SnapshotRecord]:
    found = record.read(access, report.snapshot_id)
    workspace.claim("load", time.time() + _limit(access), owner=this_process())
    workspace.create()
    check_room(workspace.directory, found.file.bytes, access.cluster.drill.keep_free_bytes)
    began = time.monotonic()

    def moved(count: int) -> None:
        progress("fetch", count, found.file.bytes)

    file = store.fetch(access, found, workspace.data_directory, runner, moved)
    report.fetch_seconds = round(time.monotonic() - began, 3)
    progress("load", 0, 0)
    began = time.monotonic()
    opened = load(access, found, file, workspace, runner.check)
    report.load_seconds = round(time.monotonic() - began, 3)
    report.loader, report.fence = opened.program.shown, opened.fence
    report.keys, report.expired = opened.keys, opened.expired
    report.at, report.of_no_instant = found.at, found.at is None
    return opened, found


def _check(
    access: QueueAccess, opened: tuple[Loaded, SnapshotRecord], report: SnapshotReport
) -> None:
    began = time.monotonic()
    with _stage(report, report.checks):
        queues = invariants.read_all(*opened)
        report.queues = invariants.figures(queues)
        report.results = list(invariants.ask(*opened, queues))
    report.check_seconds = round(time.monotonic() - began, 3)


@contextlib.contextmanager
def _stage(report: SnapshotReport, stage: Stage) -> Iterator[None]:
    """Time a stage, and keep its error in the report."""
    started = time.monotonic()
    stage.status, stage.trouble = "running", None
    try:
        yield
        stage.status = "ok"
    except BaseException as error:
        stage.fail(error)
        if not isinstance(error, BackupFault | CouldNotVerify | PgdrillError):
            raise  # a stopped job, a bug
        logger.error("%s", error)  # noqa: TRY400 - the message is made for people
    finally:
        stage.seconds = round(time.monotonic() - started, 3)
        report.judge()
