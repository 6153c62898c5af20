"""PostgreSQL's dump programs: their commands, and what this build of them can do.

It also tells what their last words mean.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from pgdrill.access import Access
from pgdrill.errors import (
    BackupFault,
    ConfigError,
    CouldNotVerify,
    PgdrillError,
    StandbyConflict,
    TimedOut,
    Unreachable,
)
from pgdrill.host.process import Command, Completed, ProcessTimeout, Runner
from pgdrill.postgres.address import NOT_INHERITED, environment_of
from pgdrill.postgres.binaries import QUICK_SECONDS, Binaries
from pgdrill.repository.failures import CORRUPT, NETWORK, RIGHTS, SPACE

# vectors hardly compress: the cheapest level
LEVELS = {"zstd": "zstd:3", "lz4": "lz4", "gzip": "gzip:1", "none": "none"}
ORDER = ("zstd", "lz4", "gzip")
SPEAKS = re.compile(r"^(pg_dump|pg_dumpall|pg_restore|psql|vacuumdb)(:\S*)*: |^HINT:")
REFUSED = re.compile(
    r"password authentication failed|no password supplied|role \"[^\"]*\" does not exist|no"
    r" pg_hba.conf entry"
)
DAMAGED = re.compile(rf"could not read from input file|{CORRUPT.pattern}", re.IGNORECASE)
GONE = re.compile(rf"server closed the connection|{NETWORK.pattern}", re.IGNORECASE)
# The meaning of a program's last words: pattern, whose fault, reason, what was expected, the hint.
FAILURES: tuple[tuple[re.Pattern[str], type[PgdrillError], str, str, str], ...] = (
    (
        REFUSED,
        ConfigError,
        "login-refused",
        "a login",
        (
            "correct the role or password in dump.conn_id (server.conn_id), PGPASSWORD or"
            " ~/.pgpass, and pg_hba.conf"
        ),
    ),
    (
        RIGHTS,
        CouldNotVerify,
        "permission",
        "a role that may read everything",
        (
            "dump as a superuser (dump.conn_id), or grant pg_read_all_data, BYPASSRLS, and SELECT"
            " on the large objects"
        ),
    ),
    (
        re.compile("conflict with recovery"),
        StandbyConflict,
        "standby-conflict",
        "a snapshot that replay lets live",
        (
            "on the standby: hot_standby_feedback = on, or max_standby_streaming_delay above the"
            " dump's time"
        ),
    ),
    (
        re.compile("lock timeout"),
        Unreachable,
        "locked",
        "a lock on every table within dump.lock_wait_seconds",
        "dump when nobody alters tables (pg_stat_activity shows who), or allow more time",
    ),
    (
        SPACE,
        CouldNotVerify,
        "no-space",
        "room on the disk",
        "make room, or set drill.work_directory to a larger disk",
    ),
    (
        DAMAGED,
        BackupFault,
        "dump-damaged",
        "an archive that can be read to its end",
        "choose another dump; take a new one now",
    ),
    (
        GONE,
        Unreachable,
        "server-unreachable",
        "a server that answers",
        "see the server's log, then try again",
    ),
)


@dataclass(frozen=True, slots=True)
class Archive:
    """The way to write one database: the argv that matters, without address and password."""

    format: str
    compression: str
    jobs: int = 1


def words_only(line: str) -> str | None:
    """Return a program's own line, or None for what the server adds to an error.

    That (DETAIL, CONTEXT, the statement) may hold row content.
    """
    return line if SPEAKS.match(line) else None


def check_versions(binaries: Binaries, server_version_num: int) -> None:
    """Raise ``client-too-old`` where pg_dump is older than the server.

    pg_dump refuses a newer server, but only once it is connected, and says nothing of how to mend
    it.
    """
    client, server = binaries.major_version, server_version_num // 10000
    if client < server:
        raise ConfigError(
            "client-too-old",
            f"pg_dump in {binaries.folder}",
            found=f"PostgreSQL {client}",
            expected=f"{server} or newer, as the server is",
            hint=f"install PostgreSQL {server}'s programs, set server.bin_dir",
        )


def compression_for(binaries: Binaries, wanted: str) -> str:
    """Return the configured compression, or the best that this pg_dump was built with.

    Raises an error where it was built without the configured one.
    """
    if wanted:
        if not _supports(binaries, wanted):
            raise ConfigError(
                "compression",
                f"dump.compression {wanted!r}",
                found=f"pg_dump in {binaries.folder} was built without it",
                expected="one that it knows",
                hint="leave dump.compression empty, or install another build",
            )
        return LEVELS[wanted]
    return next((LEVELS[name] for name in ORDER if _supports(binaries, name)), LEVELS["none"])


def _supports(binaries: Binaries, name: str) -> bool:
    """Return whether pg_dump can compress so.

    It is asked itself, with a server that cannot be: what it cannot compress it says before it
    connects.
    """
    if name in ("none", "gzip") and binaries.major_version < 16:
        return True
    done = subprocess.run(
        [
            binaries.path("pg_dump"),
            "--format=custom",
            f"--compress={LEVELS[name]}",
            "--file=/dev/null",
            "--dbname=host=/nonexistent-pgdrill",
        ],
        capture_output=True,
        text=True,
        timeout=QUICK_SECONDS,
        check=False,
        env={"LC_ALL": "C"},
    )
    return "nonexistent-pgdrill" in done.stderr


def dump_command(
    access: Access,
    env: Mapping[str, str],
    archive: Archive,
    snapshot: str,
    into: Path | None = None,
) -> Command:
    """Return the command that dumps a database, the whole of it or nothing.

    It never has ``--extension=…``, which leaves large objects out, silently.
    """
    level = archive.compression
    if access.binaries.major_version < 16:  # only gzip, by its level's number
        level = level.partition(":")[2] or "0"
    argv = [
        access.binaries.path("pg_dump"),
        f"--format={archive.format}",
        f"--compress={level}",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={int(access.cluster.dump.lock_wait_seconds * 1000)}",
        "--no-password",
        "--verbose",
        *([f"--jobs={archive.jobs}"] if archive.format == "directory" else []),
        *([f"--file={into}"] if into else []),
    ]
    return Command(tuple(argv), env)


def schema_command(
    binaries: Binaries, env: Mapping[str, str], snapshot: str = "", lock_wait_ms: int = 60_000
) -> Command:
    """Return the command that prints the definitions of everything in one database."""
    argv = [
        binaries.path("pg_dump"),
        "--schema-only",
        "--no-password",
        f"--lock-wait-timeout={lock_wait_ms}",
        *([f"--snapshot={snapshot}"] if snapshot else []),
    ]
    return Command(tuple(argv), env)


def globals_command(
    binaries: Binaries, env: Mapping[str, str], *, passwords: bool, tablespaces: bool = True
) -> Command:
    """Return the command that prints roles, their memberships and settings, and tablespaces."""
    argv = [
        binaries.path("pg_dumpall"),
        "--globals-only",
        "--no-password",
        *([] if passwords else ["--no-role-passwords"]),
        *([] if tablespaces else ["--no-tablespaces"]),
    ]
    return Command(tuple(argv), env)


def environment(connection: psycopg.Connection) -> dict[str, str]:
    """Return address, role and password of the very server and database of this connection.

    No other server knows its snapshot.
    """
    # nothing that cannot be converted is in the way
    as_stored = connection.info.parameter_status("server_encoding") or "UTF8"
    return {
        **environment_of(connection),
        "PGCLIENTENCODING": as_stored,
        "PGAPPNAME": "pgdrill",
        "PGCONNECT_TIMEOUT": "10",
        "LC_ALL": "C",
    }


def run(runner: Runner, command: Command, what: str, access: Access, **more: object) -> Completed:
    """Run a dump program within the configured limits.

    Anything but success is an error that says whose fault it was.
    """
    done = run_unjudged(runner, command, what, access, **more)
    if done.code:
        raise client_failure(what, done)
    return done


def run_unjudged(
    runner: Runner, command: Command, what: str, access: Access, **more: object
) -> Completed:
    """Run a program within the configured limits; how it ended is the caller's to judge."""
    limits = access.cluster.dump
    command = replace(command, without=NOT_INHERITED)  # each brings its address along
    try:
        return runner.run(
            command,
            **{  # type: ignore[arg-type]
                "timeout_seconds": limits.timeout_seconds,
                "stall_seconds": limits.stall_seconds,
                "on_line": words_only,
                "quiet": True,
                **more,
            },
        )
    except ProcessTimeout as error:
        raise TimedOut(
            "stalled" if error.stalled else "timeout",
            what,
            found=str(error),
            expected=f"an end within {limits.timeout_seconds:.0f} s, and bytes moving",
            hint=(
                "see what it waits for (pg_stat_activity, the store); raise dump.timeout_seconds if"
                " it was still moving"
            ),
        ) from None


def client_failure(what: str, done: Completed) -> PgdrillError:
    """Return the error for a dump program that gave up."""
    return failure(what, done.ended, "\n".join(done.last_lines))


def failure(what: str, found: str, words: str) -> PgdrillError:
    """Return the error of the first of :data:`FAILURES` that the last words match."""
    for pattern, kind, reason, expected, hint in FAILURES:
        if pattern.search(words):
            return kind(reason, what, found=found, expected=expected, hint=hint)
    return CouldNotVerify(
        "tool-failed", what, found=found, expected="success", hint="read the lines above in the log"
    )
