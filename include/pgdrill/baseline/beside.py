"""The server beside whose files a base backup is taken.

Is it the one that answers, and can its backup be good? A primary and its standby may have the same
identifier and paths. What ``pg_control`` says is not the same: it is read here, and asked there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from pgdrill.access import Access
from pgdrill.baseline.server_facts import every_database
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify
from pgdrill.host.links import check_links
from pgdrill.host.place import this_user
from pgdrill.host.readable import unreadable
from pgdrill.postgres.address import environment_of
from pgdrill.postgres.admitted import check_admitted
from pgdrill.postgres.backup_label import BackupLabel
from pgdrill.postgres.prepared import check_readable
from pgdrill.postgres.rights import FUNCTIONS, rights
from pgdrill.postgres.wal import format_lsn, parse_lsn
from pgdrill.repository.archiver import check_archiving, check_server
from pgdrill.repository.tools import BaseBackup

TRIES = 5  # of reading pg_control at rest: a checkpoint may be writing it
# By the server, which walks through its folders faster; the tablespaces that the role may ask
# about.
CLUSTER_BYTES = """
SELECT coalesce(sum(pg_tablespace_size(oid)), 0)::int8 FROM pg_tablespace
WHERE has_tablespace_privilege(oid, 'CREATE') OR pg_has_role('pg_read_all_stats', 'USAGE')
"""
CONTROL = """
SELECT c.checkpoint_lsn::text, c.timeline_id::text, r.min_recovery_end_lsn::text
FROM pg_control_checkpoint() c, pg_control_recovery() r
"""
SEGMENT_BYTES = "SELECT pg_size_bytes(current_setting('wal_segment_size'))"
READS_SETTINGS = "SELECT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')"
POSITION = (
    "SELECT pg_current_wal_insert_lsn()::text, ('x' ||"
    " substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int8"
)
LABELS = (
    "Latest checkpoint location",
    "Latest checkpoint's TimeLineID",
    "Minimum recovery ending location",
)


@dataclass(frozen=True, slots=True)
class Beside:
    """The server as it was just before its backup.

    ``environment`` leads a program to it; the backup begins at ``lsn`` or later.
    """

    system_identifier: int
    timeline: int
    lsn: int
    segment_bytes: int  # of WAL
    cluster_bytes: int
    environment: Mapping[str, str] = field(repr=False)


def beside_the_server(access: Access) -> Beside:
    """Check that a good backup can be taken here, and return the server beside the files.

    The server that answers has to be the configured one and a primary, own the data directory here,
    and archive its WAL.
    """
    directory = check_directory(access)
    check_files_readable(access, directory)
    check_links(directory)
    with access.connect() as connection:
        identifier = check_server(connection, access.cluster)
        # first: a standby's files are others than the primary's, and that is not the trouble
        check_primary(access, connection)
        check_files(access, connection, directory, identifier)
        check_archiving(connection, access.cluster)
        check_rights(connection)
        check_databases(access, connection)
        lsn, timeline = _one(connection, POSITION)
        (segment_bytes,) = _one(connection, SEGMENT_BYTES)
        (size,) = _one(connection, CLUSTER_BYTES)
        # or nothing, if it is none any more
        environment = {**environment_of(connection), "PGTARGETSESSIONATTRS": "primary"}
    return Beside(
        identifier, int(timeline), parse_lsn(lsn), int(segment_bytes), int(size), environment
    )


def check_primary(access: Access, connection: psycopg.Connection) -> None:
    """Raise if the server that answers is a standby."""
    if _in_recovery(connection):
        raise CouldNotVerify(
            "standby",
            f"server of cluster {access.cluster.name} at {_place(connection)}",
            found="a standby",
            expected="the primary: only it archives what a base backup needs",
            hint="run the backup on the primary's host, with server.dsn leading there",
        )


def check_directory(access: Access) -> Path:
    """Return the protected server's data directory, if it is here and can be read; else raise."""
    directory = access.cluster.server.data_directory
    try:
        there = (directory / "global" / "pg_control").is_file()
        if there:
            os.close(os.open(directory, os.O_RDONLY))
    except PermissionError:
        raise not_its_owner(access, f"{this_user()} cannot read it") from None
    if not there:
        raise ConfigError(
            "no-data-directory",
            f"server.data_directory {directory}",
            found="no PostgreSQL data directory",
            expected="PGDATA of the protected server on this host",
            hint=(
                "run the backup where the data directory is (Airflow: that worker's queue), or"
                " correct the path"
            ),
        )
    return directory


def check_files_readable(access: Access, directory: Path) -> None:
    """Raise if this user may not read every file of the data directory that a backup holds.

    It need not be the owner.
    """
    if closed := next(unreadable(directory), None):
        seen = closed.stat()
        found = (
            f"{closed} cannot be read by {this_user()}: it is user {seen.st_uid}'s, mode"
            f" {seen.st_mode & 0o7777:04o}"
        )
        error = not_its_owner(access, found)
        if directory.stat().st_uid != os.geteuid():
            raise error
        raise ConfigError(
            "not-the-owner",
            f"server.data_directory {directory}",
            found=found,
            expected=f"{this_user()} to read all of it",
            hint=(
                f"as root: `chown {this_user()} {shlex.quote(str(closed))} && chmod"
                f" u+r{'wX' if closed.is_dir() else 'w'} {shlex.quote(str(closed))}`"
            ),
        )


def not_its_owner(access: Access, found: str) -> ConfigError:
    """Return the error that names the user who may read the data directory.

    The backup tools read the files themselves.
    """
    directory = access.cluster.server.data_directory
    try:
        owner = directory.owner()
    except KeyError:  # a user without a name
        owner = str(directory.stat().st_uid)
    except OSError:  # one of the folders above is closed, too
        owner = "postgres"
    return ConfigError(
        "not-the-owner",
        f"server.data_directory {directory}",
        found=found,
        expected=f"its owner {owner} to run the backup",
        hint=(
            f"run it as {owner}: from root `runuser -u {owner} -- pgdrill backup"
            f" {access.cluster.name}`; in Airflow, the worker of that queue runs as {owner}"
        ),
    )


def check_rights(connection: psycopg.Connection) -> None:
    """Raise if the role may not call what a backup calls.

    The hint has the statements that grant it.
    """
    # which brings it; the tools ask where PGDATA is
    needed = {*FUNCTIONS, *([] if _one(connection, READS_SETTINGS)[0] else ["pg_monitor"])}
    if lacking := [
        right for right in rights(connection) if not right.held and right.name in needed
    ]:
        shown = [
            f"no EXECUTE on {one.name}" if one.name in FUNCTIONS else f"no member of {one.name}"
            for one in lacking
        ]
        raise CouldNotVerify(
            "missing-privilege",
            f"role {connection.info.user} in database {connection.info.dbname}",
            found=", ".join(shown),
            expected="the rights of the README's role, in the database that server.dsn names",
            hint=(
                f"in {connection.info.dbname}, as a superuser:"
                f" `{'; '.join(one.statement for one in lacking)};`"
            ),
        )


def check_databases(access: Access, connection: psycopg.Connection) -> None:
    """Raise if the role is not let into every database that the backup's record is about.

    Raise, too, if a table of theirs is locked for good.
    """
    names = access.cluster.server.databases or every_database(connection)
    check_admitted(connection, access.cluster.name, names)
    check_readable(connection, names)


def server_segment_bytes(access: Access) -> int:
    """Ask the server for the size of a WAL segment in bytes."""
    with access.connect() as connection:
        return int(_one(connection, SEGMENT_BYTES)[0])


def check_origin(
    access: Access, backup: BaseBackup, label: BackupLabel | None, beside: Beside
) -> None:
    """Raise if the new backup is not that of the server which was looked at.

    What the tool wrote down tells it, and the server's own label.
    """
    hint = (
        "the tool reached another server (wal-g falls back to localhost:5432): check server.dsn;"
        " delete this backup, it cannot be restored"
    )
    if backup.system_identifier != beside.system_identifier:
        raise BackupFault(
            "wrong-system",
            f"backup {backup.name}",
            found=f"system identifier {backup.system_identifier}",
            expected=f"{beside.system_identifier}",
            hint=hint,
        )
    with access.connect() as connection:
        now = parse_lsn(_one(connection, POSITION)[0])
    if (
        backup.timeline != beside.timeline
        or not beside.lsn <= backup.start_lsn <= backup.finish_lsn <= now
    ):
        raise BackupFault(
            "wrong-server",
            f"backup {backup.name}",
            found=(
                f"from {format_lsn(backup.start_lsn)} to {format_lsn(backup.finish_lsn)} on"
                f" timeline {backup.timeline}"
            ),
            expected=(
                f"between {format_lsn(beside.lsn)} and {format_lsn(now)} on timeline"
                f" {beside.timeline}, where production was meanwhile"
            ),
            hint=hint,
        )
    if (
        label is None
        or label.from_standby
        or (label.start_lsn, label.timeline) != (backup.start_lsn, backup.timeline)
    ):
        shown = (
            f"a {'standby' if label.from_standby else 'primary'} at {format_lsn(label.start_lsn)}"
            f" on timeline {label.timeline}"
            if label
            else "unreadable"
        )
        raise BackupFault(
            "wrong-server",
            f"backup_label of backup {backup.name}",
            found=shown,
            expected=f"the primary at {format_lsn(backup.start_lsn)} on timeline {backup.timeline}",
            hint=hint,
        )


def check_files(
    access: Access, connection: psycopg.Connection, directory: Path, answering: int
) -> None:
    """Raise if the files here are not the server's.

    Both have to say the same of the last checkpoint, which other servers do not share for long.
    """
    found = ""
    for _ in range(TRIES):
        before = access.binaries.control_data(directory)
        if before.system_identifier != answering:
            raise _foreign(
                directory,
                f"system identifier {before.system_identifier}",
                f"{answering}, as the server at server.dsn says",
            )
        told = tuple(_one(connection, CONTROL))
        seen = [
            tuple(control.values.get(label, "") for label in LABELS)
            for control in (before, access.binaries.control_data(directory))
        ]
        if told in seen:
            return
        found = f"checkpoint {seen[-1][0]}, timeline {seen[-1][1]}, recovery to {seen[-1][2]}"
    expected = (
        f"checkpoint {told[0]}, timeline {told[1]}, recovery to {told[2]}, as the server at"
        f" {_place(connection)} says"
    )
    raise _foreign(directory, found, expected)


def _foreign(directory: Path, found: str, expected: str) -> ConfigError:
    return ConfigError(
        "wrong-server",
        f"server.data_directory {directory}",
        found=found,
        expected=expected,
        hint=(
            "correct server.dsn or server.data_directory; where several hosts take turns, run the"
            " backup on the primary's"
        ),
    )


def _place(connection: psycopg.Connection) -> str:
    return f"{connection.info.host}:{connection.info.port}"


def _in_recovery(connection: psycopg.Connection) -> bool:
    return bool(_one(connection, "SELECT pg_is_in_recovery()")[0])


def _one(connection: psycopg.Connection, query: str) -> tuple:  # type: ignore[type-arg]
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - these have one row
    return row
