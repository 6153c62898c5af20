"""The restore drill: baseline, restore, checks, report, destroy.

Each stage can run in a process of its own (an Airflow task); the report is what they hand on. A stage writes the
report before it raises.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from pgdrill import record, store
from pgdrill.access import Access
from pgdrill.baseline import Baseline, settle, take_baseline
from pgdrill.checks import FAMILIES, Context, run_checks
from pgdrill.errors import BackupFault, CouldNotVerify, Unreachable
from pgdrill.lock import ClusterLock, Lease, lease_for
from pgdrill.postgres.wal import format_lsn
from pgdrill.process import Runner
from pgdrill.report import CheckResult, CheckStatus, Report, Stage, Target
from pgdrill.restore import Goal, Progress, plan_restore, restore
from pgdrill.rpo import ArchivedEnd, archived_end, measured_rpo_seconds
from pgdrill.summary import summarize
from pgdrill.targets import RecoveryTarget, parse_target
from pgdrill.workspace import Workspace

logger = logging.getLogger(__name__)

VECTOR_FAMILIES = ("recovery", "vectors")


def new_drill_id() -> str:
    """``20261127T110000Z-3f9a2c``: sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _silent(what: str, done: int, total: int) -> None:
    """No progress wanted."""


def drill(
    access: Access,
    *,
    target: str = "latest",
    backup: str = "LATEST",
    families: Sequence[str] = FAMILIES,
    keep: bool = False,
    trigger: str = "cli",
    drill_id: str = "",
    process: tuple[int, float] | None = None,
    runner: Runner | None = None,
    progress: Progress = _silent,
) -> Report:
    """A whole drill. The report says how it went; nothing is raised for what it can hold."""
    drill_id = drill_id or new_drill_id()
    runner = runner or Runner()
    try:
        report = restore_stage(access, drill_id, target=target, backup=backup, trigger=trigger, process=process,
                               runner=runner, progress=progress)  # fmt: skip
        if report.restore.status == "ok":
            progress("checks", 0, 0)
            report = check_stage(access, drill_id, families=families, process=process, runner=runner)
    finally:
        if not keep:
            destroy_stage(access, drill_id)
    return note_kept(access, drill_id) if keep else store.load_report(access, drill_id)


def restore_stage(
    access: Access,
    drill_id: str,
    *,
    target: str = "latest",
    backup: str = "LATEST",
    trigger: str = "cli",
    process: tuple[int, float] | None = None,
    runner: Runner | None = None,
    progress: Progress = _silent,
) -> Report:
    """Look at production, restore, promote. The restored server is left running."""
    wanted = parse_target(target)
    workspace = Workspace.of(access, drill_id)
    settings = access.cluster.drill
    report = Report(
        drill_id=drill_id, cluster=access.cluster.name, trigger=trigger, started_at=datetime.now(UTC),
        host=socket.gethostname(), wanted_backup=backup, durability=settings.durability,
        rto_seconds=settings.rto_seconds, rpo_seconds=settings.rpo_seconds,
    )  # fmt: skip
    with _lock(access).hold(_lease(access, workspace, process)) as stale, _stage(access, report, report.restore):
        _clear(access, workspace, stale)
        workspace.create()
        runner = runner or Runner()
        runner.pid_file = workspace.tool_pid_file
        report.tool = runner.run(access.tool.version(), timeout_seconds=60, quiet=True).stdout.split("\t")[0].strip()
        baseline, end = _look_at_production(access, drill_id, report, runner)
        goal = _goal(wanted, backup, baseline, end)
        report.target = Target(kind=wanted.kind, value=goal.target.value,
                               lsn=format_lsn(goal.stop_lsn) if goal.stop_lsn else None)  # fmt: skip
        if baseline:
            store.save_baseline(access, drill_id, baseline)
        clock = time.monotonic()
        plan = plan_restore(access, workspace, goal, runner)
        report.backup, report.backup_finished_at = plan.backup.name, plan.backup.finish_time
        report.timings.preflight_seconds = time.monotonic() - clock
        logger.info("restoring %s, %d WAL segments, to %s", plan.backup.name, plan.wal_segments, goal.target)
        report.restored = restore(access, workspace, goal, plan, runner, report.timings, progress)
        report.timings.time_to_running_seconds = time.monotonic() - clock
    return report


def check_stage(
    access: Access,
    drill_id: str,
    *,
    families: Sequence[str] = FAMILIES,
    process: tuple[int, float] | None = None,
    runner: Runner | None = None,
) -> Report:
    """Ask every check of the restored cluster, vectors first: that is what the clock is for."""
    report = store.load_report(access, drill_id)
    workspace = Workspace.of(access, drill_id)
    with _lock(access).hold(_lease(access, workspace, process)), _stage(access, report, report.checks):
        if report.restored is None:
            raise CouldNotVerify(
                "not-restored", f"drill {drill_id}", found="no restored cluster", expected="a restore that succeeded",
                mend="run the drill's restore stage first",
            )  # fmt: skip
        server = workspace.server(access)
        if server.process() is None:
            raise CouldNotVerify(
                "server-ended", f"restored server of drill {drill_id}", found=server.last_words(2),
                expected="the server that the restore left running", mend="run the drill again; read the server's log",
            )  # fmt: skip
        runner = runner or Runner()
        runner.pid_file = workspace.tool_pid_file
        baseline = store.load_baseline(access, drill_id)
        if baseline is None and (kept := record.read(access.reports, report.backup)):
            baseline = kept.baseline  # production is gone: what the backup's record says is the best there is
        context = Context(
            cluster=access.cluster, connect=checking(server.connect, access.cluster.drill.statement_timeout_seconds),
            databases=_databases(access, server.connect), baseline=baseline, report=report,
            settle=functools.cache(lambda: settled(access, baseline)), prepare=server.connect,
            runner=runner,
        )  # fmt: skip
        _ask(context, report, families)
    return report


def destroy_stage(access: Access, drill_id: str) -> Report | None:
    """Remove the restored cluster and give the lock back. Nothing left to remove is fine, and so is a missing report.

    A restore that was killed has not written one, and what it left has to go all the same.
    """
    started = time.monotonic()
    cleanup = Stage(status="running")
    try:
        Workspace.of(access, drill_id).destroy(access)
        cleanup.status = "ok"
        _lock(access).release(drill_id)
    except BaseException as error:
        cleanup.fail(error)
        raise
    finally:
        cleanup.seconds = time.monotonic() - started
        report = _note_cleanup(access, drill_id, cleanup)
    return report


def _note_cleanup(access: Access, drill_id: str, cleanup: Stage) -> Report | None:
    try:
        report = store.load_report(access, drill_id)
    except CouldNotVerify as error:
        logger.warning("destroyed without a report: %s", error)
        return None
    report.cleanup, report.ended_at = cleanup, datetime.now(UTC)
    report.summary = summarize(report)
    store.save_report(access, report)
    return report


def note_kept(access: Access, drill_id: str) -> Report:
    """Say in the report that the restored cluster was left for a look."""
    report = store.load_report(access, drill_id)
    report.summary = summarize(report, kept=report.restored is not None)
    store.save_report(access, report)
    return report


def checking(
    connect: Callable[[str], psycopg.Connection], timeout_seconds: float
) -> Callable[[str], psycopg.Connection]:
    """Connections for checks: read-only, bounded, with pgvector's schema in the search path."""

    def connection(database: str) -> psycopg.Connection:
        made = connect(database)
        made.autocommit = True
        made.execute("SET default_transaction_read_only = on")
        made.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(int(timeout_seconds * 1000))))
        row = made.execute(
            "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'vector'"
        ).fetchone()
        made.execute(sql.SQL("SET search_path = {}").format(
            sql.SQL(", ").join(map(sql.Identifier, dict.fromkeys(["public", *(row or ())])))
        ))  # fmt: skip
        return made

    return connection


def _ask(context: Context, report: Report, families: Sequence[str]) -> None:
    started = time.monotonic()
    report.results = []
    report.families_left_out = [family for family in FAMILIES if family not in families]
    ordered = [family for family in FAMILIES if family in families]
    early = [family for family in ordered if family in VECTOR_FAMILIES]
    report.results.extend(run_checks(context, early))
    timings = report.timings
    timings.vector_checks_seconds = time.monotonic() - started
    if timings.time_to_running_seconds is not None and _all_answered(report.results):
        timings.time_to_correct_vector_search_seconds = timings.time_to_running_seconds + timings.vector_checks_seconds
    report.results.append(_rto(report))
    report.results.extend(run_checks(context, [family for family in ordered if family not in VECTOR_FAMILIES]))


def _all_answered(results: list[CheckResult]) -> bool:
    vectors = [result for result in results if result.family == "vectors"]
    return bool(vectors) and all(result.status in ("pass", "warn") for result in vectors)


def _rto(report: Report) -> CheckResult:
    value = report.timings.time_to_correct_vector_search_seconds
    status: CheckStatus = "skip" if value is None else "pass" if value <= report.rto_seconds else "fail"
    return CheckResult(
        name="rto", family="recovery", status=status, thing="time to correct vector search",
        value=None if value is None else round(value, 1), threshold=f"<= {report.rto_seconds:g} s", required=False,
        message="" if value is not None else "vector search was not correct, so there is no time to it",
        mend="see `fetch`, `replay` and `vector checks` for where the time goes" if status == "fail" else "",
    )  # fmt: skip


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
            raise  # a stopped job, a wrong argument, a bug: the report keeps it, the caller has to see it
        logger.error("%s", error)  # noqa: TRY400 - the message is made for people, the traceback is not
    finally:
        stage.seconds = time.monotonic() - started
        report.judge()
        report.cleanup = store.kept_cleanup(access, report)
        report.summary = summarize(report)
        store.save_report(access, report)


def _lock(access: Access) -> ClusterLock:
    return ClusterLock(access.cluster.state_directory / "drill.lock")


def _lease(access: Access, workspace: Workspace, process: tuple[int, float] | None) -> Lease:
    limit = access.cluster.drill.timeout_seconds
    return lease_for(workspace.directory.name, workspace.directory, limit, process)


def _clear(access: Access, workspace: Workspace, stale: Lease | None) -> None:
    """Remove what a dead drill, or an earlier try of this one, left behind."""
    for drill_id in {workspace.directory.name, *([stale.owner] if stale else [])}:
        Workspace.of(access, drill_id).destroy(access)


def _look_at_production(
    access: Access, drill_id: str, report: Report, runner: Runner
) -> tuple[Baseline | None, ArchivedEnd | None]:
    """The baseline with its restore point, and the end of the archive as it was before; None if production is gone."""
    started = time.monotonic()
    end = archived_end(access, runner, Workspace.of(access, drill_id).home)
    try:
        baseline = take_baseline(access, restore_point=f"pgdrill-{drill_id}")
    except Unreachable as error:
        logger.warning("drilling without production: %s", error)
        return None, end
    report.measured_rpo_seconds = measured_rpo_seconds(end, report.started_at, baseline.next_xid)
    report.versions = {"server": baseline.settings.get("server_version", ""),
                       **{f"{name}.extensions": state.extensions for name, state in baseline.databases.items()}}  # fmt: skip
    report.timings.baseline_seconds = time.monotonic() - started
    return baseline, end


def _goal(wanted: RecoveryTarget, backup: str, baseline: Baseline | None, end: ArchivedEnd | None) -> Goal:
    """Make ``latest`` exact: the baseline's restore point, or the last record that reached the archive."""
    if baseline is None:
        if wanted.kind != "latest":
            return Goal(backup, wanted)
        if end is None:
            raise BackupFault(
                "no-wal", "the repository", found="no readable WAL segment", expected="archived WAL",
                mend="check the archive_command of production",
            )  # fmt: skip
        lsn = format_lsn(end.last_record_lsn)
        return Goal(backup, RecoveryTarget("lsn", lsn), timeline=end.segment.timeline, stop_lsn=end.last_record_lsn)
    known = {
        "system_identifier": baseline.system_identifier, "timeline": baseline.timeline,
        "preload_libraries": baseline.settings.get("shared_preload_libraries", ""),
        "segment_bytes": baseline.segment_bytes,
    }  # fmt: skip
    if wanted.kind == "latest":
        exact = RecoveryTarget("name", baseline.restore_point)
        return Goal(backup, exact, stop_lsn=baseline.lsn_position, **known)  # type: ignore[arg-type]
    return Goal(backup, wanted, **known)  # type: ignore[arg-type]


def _databases(access: Access, connect: Callable[[str], psycopg.Connection]) -> tuple[str, ...]:
    if access.cluster.server.databases:
        return access.cluster.server.databases
    with connect("postgres") as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate").fetchall()
    return tuple(sorted(row[0] for row in rows))


def settled(access: Access, baseline: Baseline | None) -> bool:
    """Complete the baseline with what was written since; False where production does not answer any more."""
    if baseline is None or not baseline.restore_point:
        return False
    try:
        settle(access, baseline)
    except (Unreachable, psycopg.Error) as error:
        logger.warning("what was written since the baseline stays unknown: %s", error)
        return False
    return True
