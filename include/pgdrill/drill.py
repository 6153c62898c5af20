"""The restore drill: baseline, restore, checks, report, destroy.

Each stage can run in a process of its own (an Airflow task); the report is what they hand on. A
stage writes the report before it raises.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict, Unpack

from pgdrill import version
from pgdrill.access import Access
from pgdrill.checks import FAMILIES
from pgdrill.checks.runner import ask, ask_the_rest, context_of, forget_roles
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.host.fence.choose import Fence
from pgdrill.host.place import make_state
from pgdrill.host.priority import low_priority_words
from pgdrill.host.process import Runner
from pgdrill.host.waiting import when_free
from pgdrill.postgres.statement_watchdog import ending_stuck
from pgdrill.postgres.wal import parse_lsn
from pgdrill.recovery.equipped import check_equipped
from pgdrill.recovery.holding import (
    begin_anew,
    drill_lock,
    ends_at,
    holding,
    keep_until_end,
    left_until,
    take_over,
)
from pgdrill.recovery.instant_proof import prove
from pgdrill.recovery.planning import decide
from pgdrill.recovery.preflight import choose_backup
from pgdrill.recovery.presence import absence
from pgdrill.recovery.restore import Progress, Restoring, plan_restore, restore
from pgdrill.recovery.room import keeping_free
from pgdrill.recovery.sweep import sweep_first
from pgdrill.recovery.targets import RecoveryTarget, parse_target
from pgdrill.recovery.untouched import catalogs_untouched
from pgdrill.recovery.wal_prefetch.plan import wal_ahead
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill.reports.drill_id import new_drill_id
from pgdrill.reports.model import Report, Stage
from pgdrill.reports.summary import summarize
from pgdrill.repository.leases import Protection, end_protection, protecting, still_protecting
from pgdrill.repository.restorable_window import Line

logger = logging.getLogger(__name__)

__all__ = ["check_stage", "destroy_stage", "drill", "new_drill_id", "restore_stage"]


def _silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


class Asked(TypedDict, total=False):
    """What may be asked of a restore: its ``target`` (else latest) and ``backup`` (else LATEST),
    for a ``trigger`` (else cli).

    ``earlier``: the drill that this one repeats; it keeps that one's turn, and its instant where
    that can still be restored.
    """

    target: str
    backup: str
    trigger: str
    earlier: str


@dataclass(frozen=True, slots=True)
class _Work:
    """A drill's restore stage at work."""

    access: Access
    workspace: Workspace
    report: Report
    runner: Runner
    fence: Fence
    progress: Progress


def drill(
    access: Access,
    *,
    families: Sequence[str] = FAMILIES,
    keep: bool = False,
    drill_id: str = "",
    runner: Runner | None = None,
    progress: Progress = _silent,
    wait_seconds: float = 0.0,
    **asked: Unpack[Asked],
) -> Report:
    """Run a whole drill. The report says how it went; nothing is raised for what it can hold.

    ``wait_seconds``: for another drill of the cluster to end, before this one begins.
    """
    drill_id = drill_id or new_drill_id()
    runner, kept = runner or Runner(), False
    try:
        restoring = functools.partial(
            restore_stage,
            access,
            drill_id,
            hand_over=False,
            runner=runner,
            progress=progress,
            **asked,
        )
        report = when_free(restoring, seconds=wait_seconds)
        if report.restore.status == "ok":
            progress("checks", 0, 0)
            report = check_stage(
                access, drill_id, families=families, hand_over=False, runner=runner
            )
        kept = keep and report.restored is not None
    finally:
        if not kept:
            destroy_stage(access, drill_id)
    return note_kept(access, drill_id) if kept else store.load_report(access, drill_id)


def restore_stage(
    access: Access,
    drill_id: str,
    *,
    hand_over: bool = True,
    runner: Runner | None = None,
    progress: Progress = _silent,
    **asked: Unpack[Asked],
) -> Report:
    """Look at production, restore, promote. The restored server is left running.

    With ``hand_over`` for a check stage in another process, which has to come within
    ``drill.handover_seconds``.
    """
    wanted, backup = parse_target(asked.get("target", "latest")), asked.get("backup", "LATEST")
    sweep_first(access)
    workspace = Workspace.of(access, drill_id)
    report = _new_report(access, drill_id, asked.get("trigger", "cli"), backup)
    for one in filter(None, (asked.get("earlier"), drill_id)):
        report.target = store.earlier_target(access, one, asked=str(wanted)) or report.target
    end = ends_at(access, report.started_at)
    with (
        holding(access, workspace, end, hand_over=hand_over) as stale,
        _stage(access, report, report.restore),
        protecting(access, drill_id, report) as protection,
    ):
        begin_anew(access, workspace, stale, end)
        if backup.upper() != "LATEST":  # a name that is mistyped is told before production is read
            choose_backup(
                access.repository.backups(), backup, RecoveryTarget("latest"), access.repository.url
            )
        runner = runner or Runner()
        runner.pid_file, runner.before = (
            workspace.tool_pid_file,
            low_priority_words(access.cluster.drill.priority),
        )
        fence = workspace.fence(access)
        report.fence = fence.shown
        report.tool = (
            runner.run(access.tool.version(), timeout_seconds=60, quiet=True)
            .stdout.split("\t")[0]
            .strip()
        )
        # from the first object on that the tool unpacks
        with keeping_free(access, workspace, runner):
            work = _Work(access, workspace, report, runner, fence, progress)
            _decide_and_restore(work, wanted, protection)
        if hand_over and report.restored:
            report.restored.expires_at = datetime.fromtimestamp(left_until(access, end), UTC)
    return report


def _decide_and_restore(work: _Work, wanted: RecoveryTarget, protection: Protection) -> None:
    """Decide what is restored, and restore it, up to where the checks begin.

    The report gets what is found.
    """
    access, workspace, report, runner = work.access, work.workspace, work.report, work.runner
    goal, look = decide(access, wanted, report.wanted_backup, report, runner, workspace.home)
    if look.baseline:
        store.save_baseline(access, report.drill_id, look.baseline)
    else:
        store.forget_baseline(access, report.drill_id)
    clock = time.monotonic()
    with wal_ahead(access, workspace, owner=work.fence.uid) as ahead:
        plan = plan_restore(access, workspace, goal, runner)
        known = (look.baseline, plan.record.baseline if plan.record else None)
        check_equipped(
            access.binaries,
            known,
            access.cluster.server.databases,
            access.cluster.drill.allowed_libraries,
        )
        report.backup, report.backup_finished_at = plan.backup.name, plan.backup.finish_time
        protection.choose(
            plan.backup.name, parent=plan.backup.parent, wal_from=plan.backup.start_lsn
        )
        report.timings.preflight_seconds = time.monotonic() - clock
        logger.info(
            "restoring %s, %d WAL segments, to %s", plan.backup.name, plan.wal_segments, goal.target
        )
        restoring = Restoring(access, workspace, goal, plan, runner, work.fence, work.progress)
        report.restored = restore(restoring, ahead, report.timings)
    settling = report.timings.wal.settle_seconds if report.timings.wal else 0.0
    report.timings.time_to_running_seconds = time.monotonic() - clock - settling
    if (
        look.baseline is None
        and look.line
        and plan.record
        and plan.record.baseline.wal_lsn
        and not report.not_compared
    ):
        report.restored.catalogs_untouched = catalogs_untouched(
            access.wal_reader(runner, workspace.home),
            look.line,
            parse_lsn(plan.record.baseline.wal_lsn),
            parse_lsn(report.restored.reached_lsn),
        )
    if report.target and report.target.instant:
        wal = access.wal_reader(runner, workspace.home)
        line = Line(plan.timeline, wal.history(plan.timeline), goal.segment_bytes)
        report.instant = prove(wal, line, parse_lsn(report.restored.reached_lsn))


def _new_report(access: Access, drill_id: str, trigger: str, backup: str) -> Report:
    settings = access.cluster.drill
    return Report(
        drill_id=drill_id,
        cluster=access.cluster.name,
        trigger=trigger,
        started_at=datetime.now(UTC),
        host=socket.gethostname(),
        pgdrill=version(),
        wanted_backup=backup,
        durability=settings.durability,
        rto_seconds=settings.rto_seconds,
        rpo_seconds=settings.rpo_seconds,
    )


def begin_stage(access: Access, drill_id: str, *, trigger: str = "cli") -> str:
    """Log in to production, and its standby where there is one.

    Returns why production is not there, or an empty string where it is.

    What refuses is written into a report, and raised: a drill that did not begin could not verify.
    """
    make_state(access.cluster.state_directory)
    try:
        if access.has_standby:
            access.connect(standby=True).close()
        return absence(access)
    except CouldNotVerify as error:
        report = _new_report(access, drill_id, trigger, "LATEST")
        report.restore.fail(error)
        report.judge()
        report.summary = summarize(report)
        store.save_report(access, report)
        raise


def check_stage(
    access: Access,
    drill_id: str,
    *,
    families: Sequence[str] = FAMILIES,
    hand_over: bool = True,
    runner: Runner | None = None,
) -> Report:
    """Ask every check of the restored cluster, vectors first: that is what the clock is for.

    Stopping the ``runner`` cancels what is asked of production meanwhile. A second try asks only
    what the first has not got an answer to, once the application's own test may have written to the
    copy.
    """
    report = store.load_report(access, drill_id)
    if _answered(report, families):
        logger.info("the checks of drill %s have been asked by an earlier try", drill_id)
        return report
    workspace = Workspace.of(access, drill_id)
    end = ends_at(access, report.started_at)
    with (
        holding(access, workspace, end, hand_over=hand_over),
        _stage(access, report, report.checks),
        still_protecting(access, drill_id),
    ):
        if report.restored is None:
            raise CouldNotVerify(
                "not-restored",
                f"drill {drill_id}",
                found="no restored cluster",
                expected="a restore that succeeded",
                hint="run the drill's restore stage first",
            )
        take_over(access, workspace, end)
        server = workspace.server(access)
        if server.process() is None:
            raise CouldNotVerify(
                "server-ended",
                f"restored server of drill {drill_id}",
                found=server.last_words(2),
                expected="the server that the restore left running",
                hint="run the drill again; read the server's log",
            )
        runner = runner or Runner()
        runner.pid_file, runner.before = (
            workspace.tool_pid_file,
            low_priority_words(access.cluster.drill.priority),
        )
        watch = workspace.watch(access)
        context = context_of(access, workspace, report, runner, watch)
        stuck_after = access.cluster.drill.statement_timeout_seconds
        if not report.copy_written:
            report.results = []
        with (
            watch,
            keeping_free(access, workspace, runner, report.results),
            ending_stuck(server, stuck_after, context.stuck),
        ):
            if report.copy_written:
                ask_the_rest(context, report, families)
            else:
                ask(context, report, families, lambda: _note_writing(access, report))
        forget_roles(context.made_roles, context.databases)
        if context.baseline and context.baseline.restore_point and context.baseline.settled_at:
            # complete: whoever verifies with it needs no production
            store.save_baseline(access, drill_id, context.baseline)
        if hand_over:
            report.restored.expires_at = datetime.fromtimestamp(left_until(access, end), UTC)
    return report


def _answered(report: Report, families: Sequence[str]) -> bool:
    """Return whether an earlier try has asked the same, and there is no use in asking again.

    Asking again would change nothing, or could not be done.
    """
    same = report.families_left_out == [family for family in FAMILIES if family not in families]
    return (
        same
        and report.checks.status == "ok"
        and (report.copy_written or not report.worth_another_try)
    )


def _note_writing(access: Access, report: Report) -> None:
    report.copy_written = True
    store.save_report(access, report)


def destroy_stage(access: Access, drill_id: str) -> Report | None:
    """Remove the restored cluster and give the lock back.

    Nothing left to remove is fine, and so is a missing report.

    A restore that was killed has not written a report, and what it left has to go all the same.
    """
    started = time.monotonic()
    cleanup, workspace = Stage(status="running"), Workspace.of(access, drill_id)
    begun = workspace.directory.exists()
    try:
        workspace.destroy()
        cleanup.status = "ok"
        drill_lock(access).release(drill_id)
        end_protection(access, drill_id)
    except BaseException as error:
        cleanup.fail(error)
        raise
    finally:
        cleanup.seconds = time.monotonic() - started
        report = _note_cleanup(access, drill_id, cleanup, begun=begun)
    return report


def _note_cleanup(access: Access, drill_id: str, cleanup: Stage, *, begun: bool) -> Report | None:
    try:
        report = store.load_report(access, drill_id)
    except CouldNotVerify as error:  # of a drill that was refused before it began there is none
        logger.log(
            logging.WARNING if begun else logging.DEBUG, "destroyed without a report: %s", error
        )
        return None
    report.cleanup, report.ended_at = cleanup, datetime.now(UTC)
    report.summary = summarize(report)
    store.save_report(access, report)
    return report


def note_kept(access: Access, drill_id: str) -> Report:
    """Leave the restored cluster for a look, until the drill's time limit.

    The report says so. The drill needs its backup no longer.
    """
    end_protection(access, drill_id)
    report = store.load_report(access, drill_id)
    if report.restored is not None:
        report.restored.expires_at = keep_until_end(
            access, Workspace.of(access, drill_id), report.started_at
        )
    report.summary = summarize(report, kept=report.restored is not None)
    store.save_report(access, report)
    return report


@contextlib.contextmanager
def _stage(access: Access, report: Report, stage: Stage) -> Iterator[None]:
    """Time a stage, keep its error in the report, and write the report whatever happens."""
    started = time.monotonic()
    stage.status, stage.trouble = "running", None
    store.save_report(access, report)  # a process that is killed writes nothing more
    try:
        yield
        stage.status = "ok"
    except BaseException as error:
        stage.fail(error)
        if not isinstance(error, BackupFault | CouldNotVerify):
            # a stopped job, a wrong argument, a bug: the report keeps it, the caller has to see it
            raise
        logger.error("%s", error)  # noqa: TRY400 - the message is made for people, the traceback is not
    finally:
        stage.seconds = time.monotonic() - started
        # how much of the WAL is archived says nothing then of what would be lost
        if report.restored is None:
            report.measured_rpo_seconds, report.measured_rpo_note = None, ""
        report.judge()
        report.cleanup = store.kept_cleanup(access, report)
        report.summary = summarize(report)
        store.save_report(access, report)
