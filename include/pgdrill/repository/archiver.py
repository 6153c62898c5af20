"""WAL archiving seen from production.

Is it on, does it keep up, and has a given segment arrived?
"""

from __future__ import annotations

import time

import psycopg

from pgdrill.config import Cluster
from pgdrill.errors import BackupFault, CouldNotVerify, TimedOut
from pgdrill.postgres.pg_control import system_identifier
from pgdrill.postgres.wal import Segment, parse_lsn
from pgdrill.repository.repository import Repository
from pgdrill.repository.server_environment import config_file, keys_hint

POLL_SECONDS = 0.2  # pg_stat_archiver offers no event to wait for
# of the promised RPO: the rest is for a push, which an archive_timeout does not count
ARCHIVE_SHARE = 0.75
BEHIND_BYTES = 2**29  # of finished WAL that is not archived
# Where the server says that it is done, and the repository has nothing.
ELSEWHERE_HINT = (
    "let archive_command be the line that `pgdrill archive-command` prints (without"
    " archive_library), for this repository; reload, then `SELECT pg_switch_wal()`"
)
LOG_HINT = "read production's server log for the archive_command's own words"
FEWEST_SEGMENTS = 4  # however large they are


def check_server(connection: psycopg.Connection, cluster: Cluster) -> int:
    """Return the server's system identifier, after making sure that it is the configured one."""
    found = system_identifier(connection)
    expected = cluster.server.system_identifier
    if expected and found != expected:
        raise CouldNotVerify(
            "wrong-server",
            f"server of cluster {cluster.name}",
            found=f"system identifier {found}",
            expected=f"{expected} (server.system_identifier)",
            hint=(
                "correct host and port of server.dsn; after a pg_upgrade, the new identifier and a"
                " new repository prefix"
            ),
        )
    return found


def check_archiving(connection: psycopg.Connection, cluster: Cluster) -> None:
    """Raise unless archiving is on and keeps up.

    A base backup without it could never be restored.
    """
    check_switched_on(connection, cluster.name)
    check_keeps_up(connection, cluster)


def check_switched_on(connection: psycopg.Connection, cluster: str) -> str:
    """Raise unless archiving is on, by a command or a library; return the mode."""
    mode, library, command, level = (
        str(connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0])  # type: ignore[index]
        for name in ("archive_mode", "archive_library", "archive_command", "wal_level")
    )
    if mode == "off" or (not library and command in ("", "(disabled)")):
        # or it does not start
        more = ", there with `wal_level = replica`," if level == "minimal" else ""
        raise BackupFault(
            "archiving-off",
            "WAL archiving",
            found=f"archive_mode={mode}, archive_command={'set' if command else 'empty'}"
            + (", wal_level=minimal" if more else ""),
            expected="archive_mode=on with an archive_command",
            hint=(
                f"put the lines of `pgdrill archive-command {cluster} --conf` into"
                f" {config_file(connection) or 'postgresql.conf'}{more} and restart the server,"
                " then back up again"
            ),
        )
    return mode


def _log_hint(connection: psycopg.Connection, cluster: Cluster) -> str:
    return "; ".join(filter(None, (LOG_HINT, keys_hint(connection, cluster))))


def check_keeps_up(connection: psycopg.Connection, cluster: Cluster) -> None:
    """Raise unless the last segment was archived, and not many are waiting."""
    row = connection.execute(
        "SELECT last_archived_wal, last_failed_wal, last_failed_time > coalesce(last_archived_time,"
        " '-infinity'), pg_walfile_name(pg_current_wal_lsn()),"
        " pg_size_bytes(current_setting('wal_segment_size')) FROM pg_stat_archiver"
    ).fetchone()
    if row is None:
        return
    archived, failed, failing, current, size = row
    if failing:
        raise CouldNotVerify(
            "archiving-fails",
            "WAL archiving",
            found=f"the last attempt, {failed}, failed",
            expected="the last attempt to have succeeded",
            hint=_log_hint(connection, cluster),
        )
    behind = (
        Segment.parse(current, size).number - Segment.parse(archived[:24], size).number
        if archived
        else 0
    )
    allowed = max(FEWEST_SEGMENTS, BEHIND_BYTES // size)
    if behind > allowed:
        raise CouldNotVerify(
            "archiving-behind",
            "WAL archiving",
            found=f"{behind} segments behind (last archived {archived})",
            expected=f"at most {allowed}",
            hint="find out what slows the archive_command; then try again",
        )


def wait_archived(
    connection: psycopg.Connection, repository: Repository, segment: Segment, timeout_seconds: float
) -> None:
    """Wait until ``segment`` is in the repository.

    The server says so first, and then the repository.
    """
    started = time.monotonic()
    seen: tuple[object, ...] | None = None
    while True:
        seen = connection.execute(
            "SELECT last_archived_wal, last_failed_wal, last_failed_time FROM pg_stat_archiver"
        ).fetchone()
        archived = str(seen[0] or "") if seen else ""
        if archived[:24] >= segment.name and repository.wal().get(segment.name):
            return
        if time.monotonic() - started > timeout_seconds:
            elsewhere = archived[:24] >= segment.name
            raise TimedOut(
                "not-archived",
                f"WAL segment {segment.name}",
                found=(
                    f"not in the repository after {timeout_seconds:.0f} s (last archived"
                    f" {archived or 'none'}, last failed {seen[1] if seen else None})"
                ),
                expected="archived within the time allowed",
                hint=ELSEWHERE_HINT if elsewhere else _log_hint(connection, repository.cluster),
            )
        time.sleep(POLL_SECONDS)


def archive_now(connection: psycopg.Connection, repository: Repository) -> int:
    """Have what was written until now archived; return the position up to which it is.

    Waits no longer than a segment may take that the promised RPO has room for.
    """
    row = connection.execute(
        "SELECT pg_current_wal_insert_lsn()::text,"
        " substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),"
        " pg_size_bytes(current_setting('wal_segment_size')), pg_switch_wal()::text"
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    lsn, size = parse_lsn(row[0]), int(row[2])
    segment = Segment.holding(lsn - 1, int(row[1], 16), size)
    wait_archived(
        connection,
        repository,
        segment,
        min(repository.cluster.backup.archive_wait_seconds, repository.cluster.drill.rpo_seconds),
    )
    return lsn
