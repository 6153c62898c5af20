"""The base backup: check the server, run the tool beside the data directory, prove what it left."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pgdrill.access import Access
from pgdrill.baseline import backup_record, take_baseline
from pgdrill.baseline.beside import Beside, beside_the_server, check_origin
from pgdrill.baseline.built import read_built
from pgdrill.errors import BackupFault
from pgdrill.host import private
from pgdrill.host.core_dumps import no_core_files
from pgdrill.host.lock import WAIT_SECONDS, ClusterLock, lease_for, this_process
from pgdrill.host.process import Command, Completed, ProcessTimeout, Runner
from pgdrill.host.tuning import Tuning, cores, tune
from pgdrill.postgres.address import NOT_INHERITED
from pgdrill.postgres.backup_label import BackupLabel
from pgdrill.postgres.binaries import QUICK_SECONDS
from pgdrill.postgres.wal import Segment, format_lsn
from pgdrill.recovery.sweep import sweep_first
from pgdrill.repository.archiver import wait_archived
from pgdrill.repository.failures import tool_failure, tool_timeout
from pgdrill.repository.leases import alone
from pgdrill.repository.tools import BaseBackup

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class BackupResult:
    """The result of a base backup.

    LSNs are as PostgreSQL writes them, times UTC, sizes in bytes.
    """

    cluster: str
    tool: str
    name: str
    started_at: datetime
    finished_at: datetime
    start_lsn: str
    finish_lsn: str
    timeline: int
    system_identifier: str
    uncompressed_bytes: int
    stored_bytes: int
    parts: int
    tool_seconds: float
    seconds: float
    mb_per_second: float
    record: str


def take_backup(
    access: Access, *, runner: Runner | None = None, progress: Progress = lambda *_: None
) -> BackupResult:
    """Take a base backup and prove it listed, whole and archived.

    Then record what production held.
    """
    runner = runner or Runner()
    no_core_files()
    sweep_first(access)
    started = time.monotonic()
    state = access.cluster.state_directory
    lock = ClusterLock(state / "backup.lock")
    home = state / "backup"
    lease = lease_for("backup", home, access.cluster.backup.timeout_seconds, this_process())
    with (
        lock.hold(lease),
        alone(access, "backup", wait_seconds=WAIT_SECONDS, over=frozenset({"backup", "prune"})),
    ):
        beside = beside_the_server(access)
        before = {backup.name for backup in access.repository.backups()}
        with _folders(home):
            done = _run(access, runner, home, beside, progress)
            backup = _the_new_one(access, before)
            parts = _whole(access, backup)
            check_origin(access, backup, _label(access, runner, home, backup, parts), beside)
        _archived(access, backup, beside.segment_bytes)
        kept = _record(access, backup, parts, runner)
        lock.release("backup")
    size = backup.uncompressed_bytes or beside.cluster_bytes
    return BackupResult(
        cluster=access.cluster.name,
        tool=access.tool.name,
        name=backup.name,
        started_at=backup.start_time,
        finished_at=backup.finish_time,
        start_lsn=format_lsn(backup.start_lsn),
        finish_lsn=format_lsn(backup.finish_lsn),
        timeline=backup.timeline,
        system_identifier=str(backup.system_identifier),
        uncompressed_bytes=size,
        stored_bytes=sum(parts.values()),
        parts=len(parts),
        tool_seconds=round(done.seconds, 3),
        seconds=round(time.monotonic() - started, 3),
        mb_per_second=round(size / done.seconds / 1e6, 1),
        record=kept,
    )


@contextlib.contextmanager
def _folders(home: Path) -> Iterator[None]:
    """Make the tool's folder, and remove it afterwards.

    What the tool makes for a moment (barman-cloud: the parts on their way) goes with it, and what a
    killed one left, too.
    """
    _clear(home)
    home.mkdir(mode=0o700, parents=True)
    try:
        yield
    finally:
        _clear(home)


def _clear(home: Path) -> None:
    private.forget(_short(home))
    shutil.rmtree(home, ignore_errors=True)


def _short(home: Path) -> Path:
    """Return the link to the tool's own temporary folder: sockets lie there, too."""
    return home / "tmp"


def _run(
    access: Access, runner: Runner, home: Path, beside: Beside, progress: Progress
) -> Completed:
    settings = access.cluster.backup
    directory = access.cluster.server.data_directory
    command = access.tool.backup(
        directory,
        beside.environment,
        home,
        _tuning(access, beside.cluster_bytes),
        settings.delta_steps,
    )
    temporary = private.short_folder(_short(home))
    more = {"TMPDIR": str(temporary), **access.tool.segment_environment(beside.segment_bytes)}
    command = Command(
        command.argv,
        {**command.environment, **more},
        command.exit_codes,
        without=NOT_INHERITED,
        works_in=(*_read_from(directory), temporary),
    )
    what = f"base backup of {access.cluster.name}"
    try:
        done = runner.run(
            command,
            timeout_seconds=settings.timeout_seconds,
            stall_seconds=settings.stall_seconds,
            on_bytes=lambda written: progress("backup", written, 0),
        )
    except ProcessTimeout as error:
        raise tool_timeout(
            what,
            error,
            f"an end within {settings.timeout_seconds:.0f} s, and files being read all the time",
            "check the network and the store; raise backup.timeout_seconds if it was still moving",
        ) from None
    if done.code:
        raise tool_failure(what, done)
    return done


def _read_from(data_directory: Path) -> Iterator[Path]:
    """Yield every folder that a cluster's files lie in."""
    yield data_directory
    for link in (data_directory / "pg_wal", *(data_directory / "pg_tblspc").glob("*")):
        if link.is_symlink():
            yield link.resolve()


def _tuning(access: Access, cluster_bytes: int) -> Tuning:
    where = access.cluster.repository
    chosen = tune(
        cores=cores(),
        latency_seconds=access.objects.latency_seconds("pgdrill/probe"),
        cluster_bytes=cluster_bytes,
        streams=where.streams,
        part_bytes=where.part_bytes,
    )
    for reason in chosen.reasons:
        logger.info("backing up with %s", reason)
    return chosen


def _the_new_one(access: Access, before: set[str]) -> BaseBackup:
    """Read the new backup back from the listing: exit code 0 alone proves nothing."""
    new = [backup for backup in access.repository.backups() if backup.name not in before]
    if not new:
        raise BackupFault(
            "not-listed",
            f"new base backup in {access.repository.url}",
            found="no new finished backup in the listing",
            expected=f"one, for {access.tool.name} reported success",
            hint=(
                "read the tool's lines in the log; check that repository.url is where the tool"
                " writes"
            ),
        )
    return max(new, key=lambda backup: backup.finish_time)


def _label(
    access: Access, runner: Runner, home: Path, backup: BaseBackup, parts: dict[str, int]
) -> BackupLabel | None:
    """Return the server's ``backup_label`` of the backup, read back from the repository."""
    told = access.repository.label(backup, parts, home)
    if isinstance(told, Command):
        what = f"reading backup_label of {backup.name}"
        try:
            done = runner.run(told, timeout_seconds=QUICK_SECONDS, quiet=True)
        except ProcessTimeout as error:
            raise tool_timeout(
                what, error, f"an end within {QUICK_SECONDS} s", "check the network and the store"
            ) from None
        if done.code:
            raise tool_failure(what, done)
        told = done.stdout
    return BackupLabel.parse(told)


def _whole(access: Access, backup: BaseBackup) -> dict[str, int]:
    parts = access.repository.parts(backup)
    problems = access.repository.problems(backup, parts)
    if problems:
        first = problems[0]
        raise BackupFault(
            first.reason, first.thing, found=first.found, expected=first.expected, hint=first.hint
        )
    return parts


def _archived(access: Access, backup: BaseBackup, segment_bytes: int) -> None:
    """Wait until the WAL up to the end of a base backup is archived.

    Without it the backup cannot become consistent.
    """
    with access.connect() as connection:
        last = Segment.holding(backup.finish_lsn - 1, backup.timeline, segment_bytes)
        wait_archived(
            connection, access.repository, last, access.cluster.backup.archive_wait_seconds
        )


def _record(access: Access, backup: BaseBackup, parts: dict[str, int], runner: Runner) -> str:
    baseline = take_baseline(access, runner=runner)
    kept = backup_record.BackupRecord(
        name=backup.name,
        cluster=access.cluster.name,
        tool=access.tool.name,
        finished_at=backup.finish_time,
        objects=parts,
        baseline=baseline,
        built=read_built(baseline, access.cluster.server.data_directory, access.connect),
    )
    logger.info(
        "recorded %d objects and %d databases of backup %s",
        len(parts),
        len(baseline.databases),
        backup.name,
    )
    backup_record.write(access.reports, kept)
    return f"{access.reports.url}/{backup_record.key(backup.name)}"
