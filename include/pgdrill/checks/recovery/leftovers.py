"""Settings that a backup brings along and production does not have.

A real recovery would stumble over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.postgres.by_file import STOPPING, in_files, other_than
from pgdrill.postgres.recovery_settings import (
    DEFAULTS,
    SIGNALS,
    every_setting_in,
    read_only_roles,
    settings_in,
)
from pgdrill.postgres.sandbox_settings import AUTO_CONF_ASIDE

READ_ONLY = "SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only'"


@check(
    "recovery-leftovers",
    "recovery",
    passing=(
        "the restored cluster has left recovery for good and takes writes: no signal file, no"
        " recovery or read-only setting that production does not have, and no other that changes"
        " what statements do than production's files have"
    ),
    hint=(
        "ALTER SYSTEM RESET, ALTER DATABASE … RESET or ALTER ROLE … RESET the named setting on"
        " production, then take a base backup; a real recovery would have to do it first"
    ),
    example="role reporting in database agents: read-only, wanted as in production",
)
def recovery_leftovers(context: Context) -> Iterator[Outcome]:
    """Look for what recovery left behind and for settings that production does not have.

    What WAL replays has to be as on production. A configuration file is as old as the base backup,
    and is only warned of.
    """
    clean = True
    for outcome in (
        *_files(context.data_directory),
        *_roles(context),
        *_configured(context),
        *_in_files(context),
        *_running(context),
    ):
        clean = False
        yield outcome
    if context.data_directory is None:
        yield not_asked("configuration files", "not restored by pgdrill: they are not at hand")
    elif clean:
        yield Outcome("pass", "server", "none", "none")


def _files(data_directory: Path | None) -> Iterator[Outcome]:
    for name in SIGNALS if data_directory else ():
        if data_directory and (data_directory / name).exists():
            yield Outcome("fail", name, "still there", "removed by the promotion")


def _roles(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each database and role that is read-only, unlike on production.

    The catalogs say so, and what a new connection really gets.
    """
    known = context.production or context.baseline
    with context.system() as connection:
        found = read_only_roles(connection)
    for whom in found:
        if known is None:
            yield Outcome("warn", whom, "read-only", "unknown: production was not looked at")
        elif whom not in known.read_only:
            yield Outcome(context.unlike_today, whom, "read-only", "as in production")
    for database in context.databases:
        with context.system(database) as connection:
            row = connection.execute(READ_ONLY).fetchone()
        # where the files can be compared, another answer names the setting
        by_file = known is not None and known.by_file is not None and context.bare is not None
        if row and row[0] == "on" and not found and not by_file:
            yield Outcome("fail", f"database {database}", "read-only", "takes writes")


def _in_files(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each setting in the files that production does not have.

    A recovery would go by these files. They are compared with production's files as they are now,
    and as they were when the backup was taken.
    """
    if context.data_directory is None or context.prepare is None:
        return
    files = [
        context.data_directory / "postgresql.conf",
        *([context.configuration / AUTO_CONF_ASIDE] if context.configuration else []),
    ]
    told: dict[str, str] = {}
    said_in: dict[str, str] = {}
    for file in files:
        said = every_setting_in(file)
        told = told | said
        said_in = said_in | dict.fromkeys(said, file.name.removesuffix(".production"))
    known = [
        one.settings | one.by_file
        for one in (context.production or context.baseline, context.recorded)
        if one and one.by_file is not None
    ]
    with context.prepare(context.home) as connection:
        found = in_files(told, connection)
    for name, (value, default) in found.items() if known else ():
        wanted = [by_file.get(name, default) for by_file in known]
        if value in wanted or (name in DEFAULTS and name not in STOPPING):
            continue
        fault = name in STOPPING and len(known) > 1
        yield Outcome(
            "fail" if fault else "warn",
            f"{name} in {said_in[name]}",
            value or "empty",
            f"{wanted[0] or 'empty'}, as in production",
        )


def _running(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each setting of somebody else's server that differs from production's."""
    known = context.production or context.baseline
    if context.bare is None or known is None or known.by_file is None:
        return
    with context.bare() as connection:
        for one in other_than(known.by_file, connection):
            yield Outcome(
                "fail" if one.stops else "warn",
                one.name,
                one.found,
                f"{one.wanted}, as in production's files",
            )


def _configured(context: Context) -> Iterator[Outcome]:
    """Yield an answer for each leftover setting in the configuration files of the data directory.

    The drill's own server does not go by them.
    """
    if context.data_directory is None:
        return
    files = [context.data_directory / "postgresql.conf"]
    if context.configuration:
        files.append(context.configuration / AUTO_CONF_ASIDE)
    known = context.production or context.baseline
    for file in files:
        for name, value in settings_in(file).items():
            if value == DEFAULTS[name] or (
                name in STOPPING and context.prepare and known and known.by_file is not None
            ):
                continue  # _in_files tells what stops an application
            if known is None or known.settings.get(name, DEFAULTS[name]) == DEFAULTS[name]:
                wanted = (
                    "as in production, not set"
                    if known
                    else "unknown: production was not looked at"
                )
                yield Outcome(
                    "warn", f"{name} in {file.name.removesuffix('.production')}", value, wanted
                )
