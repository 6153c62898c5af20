"""The restore of a cluster: preflight, fetch, start, replay to the target, promote.

Production is never touched.
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pgdrill.access import Access
from pgdrill.documents import whole_number
from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError, TimedOut, Unreachable
from pgdrill.host.fence.choose import Fence, writing_only
from pgdrill.host.links import check_unpacked_links
from pgdrill.host.process import ProcessTimeout, Runner
from pgdrill.host.tuning import cores, fetch_streams
from pgdrill.postgres import sandbox_settings
from pgdrill.postgres.backup_label import BackupLabel
from pgdrill.postgres.entry import find_entry
from pgdrill.postgres.libraries import preloaded
from pgdrill.postgres.limits import limits
from pgdrill.postgres.recovery_log import Words, checkpoint_seconds, ended_at, redo_seconds
from pgdrill.postgres.server import LocalServer, answering
from pgdrill.postgres.wal import format_lsn, parse_lsn
from pgdrill.recovery.fetch_cost import unpacked
from pgdrill.recovery.goal import Goal
from pgdrill.recovery.preflight import Plan, preflight
from pgdrill.recovery.reread import blame
from pgdrill.recovery.strangers import remove_strangers
from pgdrill.recovery.targets import RecoveryTarget
from pgdrill.recovery.wal_prefetch.client import WalAhead
from pgdrill.recovery.wal_prefetch.plan import order_for
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports.model import RestoredCluster, Timings
from pgdrill.repository.failures import tool_failure, tool_timeout

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # what, bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Restoring:
    """A planned restore on its way: what, to where, by whom, in which fence."""

    access: Access
    workspace: Workspace
    goal: Goal
    plan: Plan
    runner: Runner
    fence: Fence
    progress: Progress


def plan_restore(access: Access, workspace: Workspace, goal: Goal, runner: Runner) -> Plan:
    """Run the preflight: check all that can be known before a byte is fetched."""
    workspace.create()
    history = access.wal_reader(runner, workspace.home).history(goal.timeline or 1)
    stop_lsn = parse_lsn(goal.target.value) if goal.target.kind == "lsn" else goal.stop_lsn
    known = replace(
        goal,
        system_identifier=goal.system_identifier or access.cluster.server.system_identifier,
        stop_lsn=stop_lsn,
    )
    return preflight(access, known, history=history, directory=workspace.data_directory)


def restore(work: Restoring, ahead: WalAhead, timings: Timings) -> RestoredCluster:
    """Fetch the planned backup, replay to the target, promote, and fill in ``timings``.

    A server is left running.
    """
    access, workspace, goal, plan = work.access, work.workspace, work.goal, work.plan
    ahead.start(order_for(access, workspace, plan, goal.segment_bytes))
    _fetch(work, timings)
    _came_whole(access, workspace.data_directory, plan)
    _sync(access, workspace, timings)
    server = _configure(work, ahead)
    ready, started = ahead.fetched.segments, time.monotonic()
    launched = server.launch()
    try:
        _replay(
            access, server, launched, goal, lambda: ahead.show(work.progress, plan.wal_segments)
        )
    except PgdrillError as error:
        timings.wal = ahead.stop()
        raise ahead.cause(error, _log_of(server)) from None
    timings.replay_seconds = time.monotonic() - started
    log = _log_of(server)
    timings.redo_seconds, timings.checkpoint_seconds = redo_seconds(log), checkpoint_seconds(log)
    timings.wal_segments = plan.wal_segments
    sandbox_settings.end_replaying(Path(server.options["config_file"]), goal.after_replay)
    cluster = _describe(access, workspace, _enter(access, workspace, server, goal, plan), plan)
    timings.replayed_wal_bytes = parse_lsn(cluster.reached_lsn) - plan.backup.start_lsn
    if (fetched := ahead.finish()) is not None:
        timings.wal = fetched.model_copy(update={"ready_segments": ready})
    return cluster


def _fetch(work: Restoring, timings: Timings) -> None:
    """Fetch the backup, and once more where a part did not unpack.

    A connection that broke off looks the same as a torn part.
    """
    workspace, plan = work.workspace, work.plan
    spaces = {
        oid: workspace.tablespaces / str(whole_number(oid, 1, 2**32 - 1))
        for oid in plan.backup.tablespaces
    }
    started = time.monotonic()
    for last in (False, True):
        for folder in (workspace.data_directory, *spaces.values()):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True)
        try:
            _fetch_once(work, spaces)
        except BackupFault as error:
            if last:
                raise blame(work.access, plan.backup.name, plan.parts, error) from None
            logger.warning("fetching once more, in case the network was at fault: %s", error)
        else:
            break
    timings.fetch_seconds = time.monotonic() - started
    removed = remove_strangers(workspace.data_directory, spaces.values())
    check_unpacked_links(removed, workspace.data_directory, plan.backup.name)
    found = unpacked((workspace.data_directory, *spaces.values()), timings.fetch_seconds)
    timings.fetched_bytes = plan.backup.uncompressed_bytes or found.bytes
    timings.fetched_files, timings.fetch_fixed_seconds = found.files, found.fixed_seconds


def _fetch_once(work: Restoring, spaces: dict[str, Path]) -> None:
    access, workspace, plan = work.access, work.workspace, work.plan
    drill = access.cluster.drill
    streams, why = fetch_streams(cores=cores(), streams=access.cluster.repository.streams)
    logger.info("fetching with %s", why)
    fetch = access.tool.fetch(
        plan.backup, workspace.data_directory, spaces, workspace.home, streams
    )
    for file, content in fetch.files.items():
        file.write_text(content)
    total = plan.backup.uncompressed_bytes
    try:
        done = work.runner.run(
            replace(
                fetch.command,
                within=writing_only(drill.fence, (workspace.cluster, workspace.home)),
                works_in=(workspace.data_directory, *spaces.values()),
            ),
            timeout_seconds=drill.timeout_seconds,
            stall_seconds=drill.stall_seconds,
            on_bytes=lambda written: work.progress("fetch", written, total),
        )
    except ProcessTimeout as error:
        raise tool_timeout(
            f"fetching backup {plan.backup.name}",
            error,
            expected=f"an end within {drill.timeout_seconds:.0f} s, and bytes moving all the time",
            hint=(
                "check the network and the store; raise drill.timeout_seconds if it was still"
                " moving"
            ),
        ) from None
    if done.code:
        raise tool_failure(f"fetching backup {plan.backup.name}", done)


def _sync(access: Access, workspace: Workspace, timings: Timings) -> None:
    """Bring to the disk what the tool wrote.

    The whole file system is synced at once, which is quicker than file by file.

    PostgreSQL does the same again before it replays; then there is little left to write. Where
    production's files lie on that file system PostgreSQL does it alone, file by file, and
    production's own writing is left to production.
    """
    if access.cluster.drill.durability == "fast" or not alone_on_disk(access, workspace.directory):
        return
    started = time.monotonic()
    folders = {workspace.data_directory, *workspace.tablespaces.glob("*")}
    done = subprocess.run(
        ["sync", "-f", *map(str, folders)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CouldNotVerify(
            "not-synced",
            f"{workspace.directory}",
            found=done.stderr.strip()[:300],
            expected="the files on the disk",
            hint="look at the disk and the kernel's log (dmesg)",
        )
    timings.sync_seconds = time.monotonic() - started


def alone_on_disk(access: Access, directory: Path) -> bool:
    """Return whether production's data directory lies on another host or file system."""
    try:
        return access.cluster.server.data_directory.stat().st_dev != directory.stat().st_dev
    except FileNotFoundError:
        return True
    except OSError:  # it is here, and cannot be looked at
        return False


def _came_whole(access: Access, data_directory: Path, plan: Plan) -> None:
    """Check that all is there that no server can do without, and that it is the planned backup.

    The tool exits with 0 also where parts are missing.
    """
    for name in ("PG_VERSION", "global/pg_control", "backup_label"):
        if not (data_directory / name).is_file():
            raise BackupFault(
                "incomplete-restore",
                f"{name} of backup {plan.backup.name}",
                found="not restored",
                expected="a file; without backup_label a server starts and silently lacks data",
                hint="choose another backup; take a new base backup",
            )
    label = BackupLabel.parse((data_directory / "backup_label").read_text(errors="replace"))
    control = access.binaries.control_data(data_directory)
    if label and label.from_standby and not control.of_standby:
        raise BackupFault(
            "wrong-server",
            f"restored {data_directory}/backup_label",
            found="a backup that a standby began and ended",
            expected=(
                'one of the primary, whose files these are: recovery refuses it ("inconsistent with'
                ' control file")'
            ),
            hint=(
                "take a new base backup with this version of pgdrill, or with a server.dsn that"
                " names one host; delete this one"
            ),
        )
    if label is None or (label.start_lsn, label.timeline) != (
        plan.backup.start_lsn,
        plan.backup.timeline,
    ):
        raise BackupFault(
            "wrong-backup",
            f"restored {data_directory}/backup_label",
            found=(
                f"a backup from {format_lsn(label.start_lsn)} on timeline {label.timeline}"
                if label
                else "no start of WAL"
            ),
            expected=(
                f"{format_lsn(plan.backup.start_lsn)} on timeline {plan.backup.timeline}, as"
                f" {plan.backup.name} says of itself"
            ),
            hint=(
                "the repository holds another backup under this name, or its metadata is damaged;"
                " take a new base backup"
            ),
        )
    found = control.system_identifier
    if found != plan.backup.system_identifier:
        raise BackupFault(
            "wrong-system",
            f"restored {data_directory}/global/pg_control",
            found=f"system identifier {found}",
            expected=(
                f"{plan.backup.system_identifier}, as backup {plan.backup.name} says of itself"
            ),
            hint="treat the repository as tampered with; take a new base backup under a new prefix",
        )


def _configure(work: Restoring, ahead: WalAhead) -> LocalServer:
    access, workspace, goal, plan = work.access, work.workspace, work.goal, work.plan
    control = access.binaries.control_data(workspace.data_directory)
    ahead.expect(control.wal_segment_bytes)
    drill = access.cluster.drill
    recorded = plan.record.baseline.configured if plan.record else {}
    values = sandbox_settings.settings(
        recovery=sandbox_settings.Recovery(
            ahead.restore_command, goal.target.settings, str(plan.timeline)
        ),
        limits=limits(control, access.binaries.major_version, goal.configured, recorded),
        preload=preloaded(goal.preload_libraries, drill.allowed_libraries),
        planned_with=goal.planned_with,
        fast=drill.durability == "fast",
        alone_on_disk=alone_on_disk(access, workspace.directory),
        segment_bytes=control.wal_segment_bytes,
    )
    options = sandbox_settings.write(workspace.configuration, workspace.data_directory, values)
    for folder in (workspace.data_directory, workspace.tablespaces):
        work.fence.give(folder)
    return workspace.server(access, options=options, fence=work.fence)


def _replay(
    access: Access,
    server: LocalServer,
    launched: subprocess.Popen[bytes],
    goal: Goal,
    moves: Callable[[], None],
) -> None:
    """Wait until the server has reached the target and promoted itself.

    Calls ``moves`` whenever it goes on.
    """
    drill = access.cluster.drill
    moved_at, words = time.monotonic(), Words(server.log_file)

    def promoted() -> bool:
        nonlocal moved_at
        if server.status() == "ready":
            return True
        if words.more():
            moved_at = time.monotonic()
            moves()
        if time.monotonic() - moved_at > drill.stall_seconds:
            raise Unreachable(
                "storage-stalled",
                f"replay in {server.data_directory}",
                found=server.last_words(2),
                expected=f"a new segment within {drill.stall_seconds:.0f} s",
                hint=(
                    "check the network and the store; if the server was writing its last"
                    " checkpoint, raise drill.stall_seconds"
                ),
            )
        return False

    try:
        server.wait_until(promoted, "reaches its recovery target", drill.timeout_seconds, launched)
    except (TimedOut, Unreachable):
        raise
    except CouldNotVerify as error:
        raise recovery_failure(server, goal.target, error) from None


NO_LIBRARY = re.compile(r'could not access file "([^"]+)".*|could not load library "([^"]+)".*')
TOO_SMALL = re.compile(
    r'.*(increase "?max_\w+|maximum number of prepared transactions reached|out of shared memory).*'
)
ENDED = re.compile(r"could not restore file .*terminated by signal")
UNREACHED = "recovery ended before configured recovery target was reached"
BROKEN = re.compile(
    r"invalid (page|checksum|resource|record)|could not locate .*checkpoint record|PANIC|WAL ends"
    r" before|"
    r"wrong size|could not open (file|directory)|requested timeline",
    re.IGNORECASE,
)


def recovery_failure(
    server: LocalServer, target: RecoveryTarget, error: PgdrillError
) -> PgdrillError:
    """Return why a recovering server ended: the WAL, the store, or something else."""
    text = _log_of(server)
    thing = f"recovery to {target}"
    if UNREACHED in text:
        return BackupFault(
            "target-not-reached",
            thing,
            found=f"WAL ends at {_last_restored(text)}",
            expected="WAL up to the target",
            hint=(
                "the archive ends or breaks before the target: choose an earlier one; take a base"
                " backup now"
            ),
        )
    if lacking := _lacking(text, thing):
        return lacking
    if ENDED.search(text):  # with the server's time, or by whoever ended it
        return error
    # what the tool, the store or WAL had a part in was told by the process that fetches
    if "could not restore file" in text:
        return CouldNotVerify(
            "wal-not-taken",
            thing,
            found=server.last_words(3),
            expected="WAL moved from the spool into pg_wal",
            hint=(
                "see the server's log; look at the drill's disk, and for whatever else changes the"
                " drill's folder"
            ),
        )
    if BROKEN.search(text):
        return BackupFault(
            "recovery-failed",
            thing,
            found=server.last_words(3),
            expected="replay up to the target",
            hint=(
                "a segment or page is damaged: see the server's log in the report; take a base"
                " backup now"
            ),
        )
    return error


def _lacking(text: str, thing: str) -> CouldNotVerify | None:
    """Return the error for what this host, or the settings that it chose, did not have, or None."""
    if library := NO_LIBRARY.search(text):
        return CouldNotVerify(
            "library-missing",
            f"library {library[1] or library[2]} on the drill's host",
            found=library[0],
            expected="every shared_preload_libraries of production",
            hint="install the package that brings it, as on production",
        )
    if small := TOO_SMALL.search(text):
        return CouldNotVerify(
            "limit-too-small",
            thing,
            found=small[0],
            expected="room for what the WAL holds",
            hint=(
                "drill while production answers, whose limits are then known; take a base backup"
                " after raising one"
            ),
        )
    return None


def _log_of(server: LocalServer) -> str:
    return server.log_file.read_text(errors="replace") if server.log_file.exists() else ""


def _last_restored(text: str) -> str:
    names = re.findall(r'restored log file "([0-9A-F]+)"', text)
    return f"segment {names[-1]}" if names else "its very start"


def _enter(
    access: Access, workspace: Workspace, server: LocalServer, goal: Goal, plan: Plan
) -> LocalServer:
    """Return the server with a superuser and a database by which it can be entered.

    They are kept for later stages.
    """
    known = goal.superusers or (plan.record.baseline.superusers if plan.record else ())
    wanted = access.cluster.server.superuser
    with answering("its superusers"):
        entry = find_entry(
            server, sorted(known, key=lambda name: name != wanted), access.cluster.server.databases
        )
    entry.write(workspace.entry_file)
    return replace(server, superuser=entry.superuser, database=entry.database)


def _describe(
    access: Access, workspace: Workspace, server: LocalServer, plan: Plan
) -> RestoredCluster:
    with answering("its state"), server.system() as connection:
        connection.execute("SELECT pg_reload_conf()")
        row = connection.execute(
            "SELECT (SELECT system_identifier FROM pg_control_system()),"
            " pg_last_wal_replay_lsn()::text, pg_last_xact_replay_timestamp(),"
            " substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_is_in_recovery(),"
            " pg_snapshot_xmax(pg_current_snapshot())::text"
        ).fetchone()
    reached, last_time = (
        (row[1], row[2]) if row and row[1] else ended_at(server.data_directory, _log_of(server))
    )
    if row is None or row[4]:
        raise CouldNotVerify(
            "not-promoted",
            f"server in {server.data_directory}",
            found="still in recovery",
            expected="promoted",
            hint="read its log",
        )
    return RestoredCluster(
        directory=str(workspace.directory),
        data_directory=str(workspace.data_directory),
        socket_directory=str(workspace.socket_directory),
        port=server.port,
        system_identifier=int(row[0]),
        timeline=int(row[3], 16),
        reached_lsn=reached,
        last_transaction_time=last_time,
        expires_at=workspace.expires_at,
        next_xid=int(row[5]),
        recovered_timeline=plan.timeline,
        newest_archived_timeline=plan.newest_timeline,
    )
