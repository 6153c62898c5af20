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

from pgdrill import private, record
from pgdrill.access import Access
from pgdrill.archiving import check_archiving, check_server, wait_archived
from pgdrill.baseline import take_baseline
from pgdrill.coredumps import no_core_files
from pgdrill.errors import BackupFault, ConfigError
from pgdrill.failures import tool_failure, tool_timeout
from pgdrill.lock import WAIT_SECONDS, ClusterLock, lease_for, this_process
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES, Segment, format_lsn
from pgdrill.process import Command, Completed, ProcessTimeout, Runner
from pgdrill.store_lease import alone
from pgdrill.sweep import sweep_first
from pgdrill.tools import BaseBackup
from pgdrill.tuning import Tuning, cores, tune

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
# By the server, which walks through its folders faster; the tablespaces that the role may ask about.
CLUSTER_BYTES = """
SELECT coalesce(sum(pg_tablespace_size(oid)), 0)::int8 FROM pg_tablespace
WHERE has_tablespace_privilege(oid, 'CREATE') OR pg_has_role('pg_read_all_stats', 'USAGE')
"""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a base backup left. LSNs as PostgreSQL writes them, times UTC, sizes in bytes."""

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


def take_backup(access: Access, *, runner: Runner | None = None, progress: Progress = lambda *_: None) -> BackupResult:
    """Take a base backup and prove it listed, whole and archived; then record what production held."""
    runner = runner or Runner()
    no_core_files()
    sweep_first(access)
    started = time.monotonic()
    state = access.cluster.state_directory
    lock = ClusterLock(state / "backup.lock")
    home = state / "backup"
    lease = lease_for("backup", home, access.cluster.backup.timeout_seconds, this_process())
    with lock.hold(lease), alone(access, "backup", wait_seconds=WAIT_SECONDS, over=frozenset({"backup", "prune"})):
        system_identifier, cluster_bytes = _beside_the_server(access)
        before = {backup.name for backup in access.tool.backups(access.repository)}
        with _folders(home):
            done = _run(access, runner, home, cluster_bytes, progress)
        backup = _the_new_one(access, before, system_identifier)
        parts = _whole(access, backup)
        _archived(access, backup)
        kept = _record(access, backup, parts, runner)
        lock.release("backup")
    size = backup.uncompressed_bytes or cluster_bytes
    return BackupResult(
        cluster=access.cluster.name, tool=access.tool.name, name=backup.name, started_at=backup.start_time,
        finished_at=backup.finish_time, start_lsn=format_lsn(backup.start_lsn), finish_lsn=format_lsn(backup.finish_lsn),
        timeline=backup.timeline, system_identifier=str(backup.system_identifier), uncompressed_bytes=size,
        stored_bytes=sum(parts.values()), parts=len(parts), tool_seconds=round(done.seconds, 3),
        seconds=round(time.monotonic() - started, 3), mb_per_second=round(size / done.seconds / 1e6, 1), record=kept,
    )  # fmt: skip


@contextlib.contextmanager
def _folders(home: Path) -> Iterator[None]:
    """What the tool makes for a moment (barman-cloud: the parts on their way) goes with it, and what a killed one left, too."""
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
    """The link to the tool's own temporary folder: sockets lie there, too."""
    return home / "tmp"


def _beside_the_server(access: Access) -> tuple[int, int]:
    """The server that answers is the one configured, owns the data directory here, and archives its WAL.

    Gives its system identifier and its bytes.
    """
    directory = access.cluster.server.data_directory
    if not (directory / "global" / "pg_control").is_file():
        raise ConfigError(
            "no-data-directory", f"server.data_directory {directory}", found="no PostgreSQL data directory",
            expected="PGDATA of the protected server on this host",
            mend="run the backup where the data directory is (Airflow: that worker's queue), or correct the path",
        )  # fmt: skip
    on_disk = access.binaries.control_data(directory).system_identifier
    with access.connect() as connection:
        answering = check_server(connection, access)
        check_archiving(connection)
        row = connection.execute(CLUSTER_BYTES).fetchone()
    if answering != on_disk:
        raise ConfigError(
            "wrong-server", f"server.data_directory {directory}", found=f"system identifier {on_disk}",
            expected=f"{answering}, as the server at server.dsn says", mend="correct server.dsn or server.data_directory",
        )  # fmt: skip
    return on_disk, int(row[0]) if row else 0


def _run(access: Access, runner: Runner, home: Path, cluster_bytes: int, progress: Progress) -> Completed:
    settings = access.cluster.backup
    directory = access.cluster.server.data_directory
    command = access.tool.backup(directory, access.libpq_environment(), home, _tuning(access, cluster_bytes))
    temporary = private.short_folder(_short(home))
    more = {"WALG_DELTA_MAX_STEPS": str(settings.delta_steps), "TMPDIR": str(temporary)}
    command = Command(command.argv, {**command.environment, **more}, command.exit_codes)
    what = f"base backup of {access.cluster.name}"
    try:
        done = runner.run(
            command, timeout_seconds=settings.timeout_seconds, stall_seconds=settings.stall_seconds,
            moving_in=(*_read_from(directory), temporary), on_bytes=lambda written: progress("backup", written, 0),
        )  # fmt: skip
    except ProcessTimeout as error:
        raise tool_timeout(
            what, error, f"an end within {settings.timeout_seconds:.0f} s, and files being read all the time",
            "check the network and the store; raise backup.timeout_seconds if it was still moving",
        ) from None
    if done.code:
        raise tool_failure(what, done)
    return done


def _read_from(data_directory: Path) -> Iterator[Path]:
    """Every folder that a cluster's files lie in."""
    yield data_directory
    for link in (data_directory / "pg_wal", *(data_directory / "pg_tblspc").glob("*")):
        if link.is_symlink():
            yield link.resolve()


def _tuning(access: Access, cluster_bytes: int) -> Tuning:
    where = access.cluster.repository
    chosen = tune(
        cores=cores(), latency_seconds=access.repository.latency_seconds("pgdrill/probe"), cluster_bytes=cluster_bytes,
        streams=where.streams, part_bytes=where.part_bytes,
    )  # fmt: skip
    for reason in chosen.reasons:
        logger.info("backing up with %s", reason)
    return chosen


def _the_new_one(access: Access, before: set[str], system_identifier: int) -> BaseBackup:
    """Read the new backup back from the listing: exit code 0 alone proves nothing."""
    new = [backup for backup in access.tool.backups(access.repository) if backup.name not in before]
    if not new:
        raise BackupFault(
            "not-listed", f"new base backup in {access.repository.url}", found="no new finished backup in the listing",
            expected=f"one, for {access.tool.name} reported success",
            mend="read the tool's lines in the log; check that repository.url is where the tool writes",
        )  # fmt: skip
    newest = max(new, key=lambda backup: backup.finish_time)
    if newest.system_identifier != system_identifier:
        raise BackupFault(
            "wrong-system", f"backup {newest.name}", found=f"system identifier {newest.system_identifier}",
            expected=f"{system_identifier}", mend="the tool reached another server (wal-g falls back to localhost:5432): check server.dsn",
        )  # fmt: skip
    return newest


def _whole(access: Access, backup: BaseBackup) -> dict[str, int]:
    parts = access.tool.parts(access.repository, backup)
    problems = access.tool.problems(access.repository, backup, parts)
    if problems:
        first = problems[0]
        raise BackupFault(first.reason, first.thing, found=first.found, expected=first.expected, mend=first.mend)
    return parts


def _archived(access: Access, backup: BaseBackup) -> None:
    """Without the WAL up to its end a base backup cannot become consistent."""
    with access.connect() as connection:
        row = connection.execute("SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'").fetchone()
        size = int(row[0]) if row else DEFAULT_SEGMENT_BYTES
        last = Segment.holding(backup.finish_lsn - 1, backup.timeline, size)
        wait_archived(connection, access, last, access.cluster.backup.archive_wait_seconds)


def _record(access: Access, backup: BaseBackup, parts: dict[str, int], runner: Runner) -> str:
    baseline = take_baseline(access, runner=runner)
    kept = record.BackupRecord(
        name=backup.name, cluster=access.cluster.name, tool=access.tool.name, finished_at=backup.finish_time,
        objects=parts, baseline=baseline,
    )  # fmt: skip
    logger.info("recorded %d objects and %d databases of backup %s", len(parts), len(baseline.databases), backup.name)
    record.write(access.reports, kept)
    return f"{access.reports.url}/{record.key(backup.name)}"


