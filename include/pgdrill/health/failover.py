"""Could the standby take over: its version, libraries and settings against the primary's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg

from pgdrill.baseline.server_facts import library_versions
from pgdrill.health.answer import Answer, not_asked
from pgdrill.health.check import health_check
from pgdrill.health.subject import HealthSubject

# With less of them a standby stops replaying, or does not start.
AT_LEAST = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
# Once it is promoted it has to archive as the primary does.
AFTERWARDS = ("archive_mode", "archive_timeout", "full_page_writes", "wal_level")
SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
COMMAND = (
    "SELECT current_setting('archive_command') NOT IN ('', '(disabled)')"
    " OR current_setting('archive_library') <> ''"
)


@dataclass(frozen=True, slots=True)
class Fitness:
    """What of a server matters for a failover."""

    version: str
    libraries: Mapping[str, str]
    settings: Mapping[str, str]
    archives: bool


@health_check(
    "standby-fit",
    "replication",
    passing="the standby has the primary's version, libraries, limits, and archiving to go on with",
    hint="set it on the standby as on the primary, and restart it",
    example="db2:5432: archive_mode off, on at the primary: nothing is archived after a failover",
    needs=("standby",),
)
def fit(subject: HealthSubject) -> Iterator[Answer]:
    """Ask both servers the same questions."""
    if subject.receiver is None:
        yield not_asked("server.standby_dsn names no standby", "no-standby")
        return
    database = subject.server.info.dbname
    with subject.beside(database) as connection:
        primary = read_fitness(connection)
    with subject.beside(database, standby=True) as connection:
        standby = read_fitness(connection)
    wrong = list(judge_fit(primary, standby))
    yield from wrong
    if not wrong:
        yield Answer("ok", f"as the primary: PostgreSQL {standby.version}")


def read_fitness(connection: psycopg.Connection) -> Fitness:
    """Read version, libraries and settings. The command is not read: it may hold a secret."""
    settings: dict[str, str] = dict(
        connection.execute(SETTINGS, ([*AT_LEAST, *AFTERWARDS],)).fetchall()
    )
    row = connection.execute(COMMAND).fetchone()
    version = connection.info.parameter_status("server_version") or ""
    return Fitness(version, library_versions(connection), settings, bool(row and row[0]))


def judge_fit(primary: Fitness, standby: Fitness) -> Iterator[Answer]:
    """Yield in what the standby would not do."""
    if primary.version != standby.version:
        yield Answer(
            "warning",
            f"PostgreSQL {standby.version}",
            "version",
            f"{primary.version}, the primary's",
            reason="other-version",
        )
    for name, version in primary.libraries.items():
        if standby.libraries.get(name) != version:
            yield Answer(
                "critical" if name not in standby.libraries else "warning",
                standby.libraries.get(name, "not installed"),
                f"extension {name}",
                f"{version}, the primary's",
                hint="install the primary's packages on the standby's host",
                reason="other-library",
            )
    for name in AT_LEAST:
        mine, theirs = int(standby.settings.get(name, 0)), int(primary.settings.get(name, 0))
        if mine < theirs:
            words = f"{theirs} or more, as the primary"
            yield Answer("critical", f"{mine}", name, words, reason="standby-limit")
    for name in AFTERWARDS:
        if standby.settings.get(name) != primary.settings.get(name):
            yield Answer(
                "warning",
                f"{standby.settings.get(name)}",
                name,
                f"{primary.settings.get(name)}, as the primary",
                reason="standby-setting",
            )
    if primary.archives and not standby.archives:
        yield Answer(
            "warning",
            "empty",
            "archive_command",
            "set: after a failover nothing is archived without",
            hint="`pgdrill archive-command CLUSTER` prints the line, for the standby, too",
            reason="standby-does-not-archive",
        )
