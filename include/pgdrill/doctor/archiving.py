"""Examinations of WAL archiving, as production itself tells of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, not_asked, red, warn
from pgdrill.doctor.subject import Subject
from pgdrill.reports.terminal import seconds as shown
from pgdrill.repository.archiver import (
    ARCHIVE_SHARE,
    ELSEWHERE_HINT,
    check_keeps_up,
    check_switched_on,
)

PART = "archiving"
SEGMENT = re.compile("[0-9A-F]{24}")
ARCHIVER = (
    "SELECT archived_count, last_archived_wal, extract(epoch FROM clock_timestamp() -"
    " last_archived_time)::float8 FROM pg_stat_archiver"
)
WAITING = """
SELECT count(*), (array_agg(name ORDER BY modification))[1],
       extract(epoch FROM clock_timestamp() - min(modification))::float8
FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'
"""


@examination(
    "archive-mode",
    PART,
    green="WAL is archived: wal_level, archive_mode and archive_command are set",
    needs=("login", "primary"),
    jobs=("backup", "drill"),
    hint="`pgdrill archive-command CLUSTER` prints the lines for postgresql.conf",
    example="WAL archiving: archive_mode=off, archive_command=empty",
)
def mode(subject: Subject) -> Iterator[Finding]:
    """Ask whether archiving is on. The command is not shown: it may hold a secret."""
    found = check_switched_on(subject.server, subject.name)
    level = _setting(subject, "wal_level")
    if level == "minimal":
        yield red(
            "wal_level",
            level,
            "replica or logical",
            "set `wal_level = replica` in postgresql.conf, and restart the server",
        )
    else:
        yield green(
            "WAL archiving", f"archive_mode={found}, wal_level={level}, a command or library is set"
        )


@examination(
    "archive-timeout",
    PART,
    green="a segment is ended soon enough for the promised RPO",
    needs=("archive-mode",),
    jobs=("backup", "drill"),
    hint="set archive_timeout in postgresql.conf, and reload",
    example="archive_timeout: 0 s, wanted 1 to 45 s for an RPO of 60 s",
)
def timeout(subject: Subject) -> Iterator[Finding]:
    """Compare archive_timeout with the promised RPO.

    A push takes its time, too, so it may only be a share of the promise.
    """
    promise = subject.access.cluster.drill.rpo_seconds
    most = max(1, int(promise * ARCHIVE_SHARE))
    row = subject.server.execute(
        "SELECT setting::int FROM pg_settings WHERE name = 'archive_timeout'"
    ).fetchone()
    found = row[0] if row else 0
    wanted = f"1 to {most} s for a promised RPO of {shown(promise)}"
    hint = (
        f"as a superuser: `ALTER SYSTEM SET archive_timeout = '{most}s'`, then `SELECT"
        " pg_reload_conf()`; or promise less (drill.rpo_seconds)"
    )
    if 0 < found <= most:
        yield green("archive_timeout", f"{found} s, for a promised RPO of {shown(promise)}")
    else:
        judge = red if found == 0 or found > promise else warn
        yield judge(
            "archive_timeout",
            f"{found} s" if found else "0: a quiet server archives nothing",
            wanted,
            hint,
        )


@examination(
    "archive-command",
    PART,
    green="the last segment was archived without a failure since",
    needs=("archive-mode",),
    jobs=("backup", "drill"),
    hint="read production's server log for the archive_command's own words",
    example="WAL archiving: the last attempt, 0000…2A, failed",
)
def command(subject: Subject) -> Iterator[Finding]:
    """Ask the server's own counters whether archiving keeps up."""
    check_keeps_up(subject.server, subject.access.cluster)
    count, name, age = subject.server.execute(ARCHIVER).fetchone() or (0, "", 0.0)
    if not count:
        yield warn(
            "WAL archiving",
            "nothing was archived yet",
            "a segment that was",
            "end one, then ask again: `SELECT pg_switch_wal()`",
        )
    else:
        yield green(
            "WAL archiving",
            f"{name} archived {shown(age or 0.0)} ago, {count} since the counters were reset",
        )


@examination(
    "archived-here",
    PART,
    green="the segment that was archived last lies in the repository",
    needs=("archive-command", "list"),
    jobs=("backup", "drill"),
    hint=ELSEWHERE_HINT,
    example="0000…2A: archived by the server's word, and not in s3://backups/agents",
)
def here(subject: Subject) -> Iterator[Finding]:
    """Look for the last archived segment in the repository.

    A command or library may succeed and put it elsewhere, or nowhere: then no backup can be
    restored from here.
    """
    row = subject.server.execute("SELECT last_archived_wal FROM pg_stat_archiver").fetchone()
    name = str(row[0] or "")[:24] if row else ""
    if not SEGMENT.fullmatch(name):
        yield not_asked(
            "WAL archiving", "the server has archived no segment since its counters were reset"
        )
        return
    access = subject.access
    if access.repository.lists_wal(name):
        yield green(name, f"in {access.cluster.repository.url}")
    else:
        yield red(
            name,
            f"archived by the server's word, and not in {access.cluster.repository.url}",
            "the segment in this repository",
        )


@examination(
    "archive-waiting",
    PART,
    green="no finished segment waits longer to be archived than the promised RPO",
    needs=("login", "archive-mode"),
    jobs=("backup", "drill"),
    hint="read production's server log for the archive_command's own words",
    example="0000…2A.ready: waits for 12 min, wanted at most 60 s",
)
def waiting(subject: Subject) -> Iterator[Finding]:
    """Ask how long the oldest ``.ready`` file has waited.

    On a quiet server nothing waits, however long ago the last one was.
    """
    promise = subject.access.cluster.drill.rpo_seconds
    count, name, age = subject.server.execute(WAITING).fetchone() or (0, "", None)
    if age is not None and age > promise:
        yield red(
            f"{name}",
            f"waits for {shown(age)}, with {count - 1} more",
            f"at most {shown(promise)}, the promised RPO",
        )
    else:
        yield green(
            "pg_wal/archive_status",
            f"{count} waiting" + (f", the oldest for {shown(age)}" if age is not None else ""),
        )


def _setting(subject: Subject, name: str) -> str:
    row = subject.server.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row else ""
