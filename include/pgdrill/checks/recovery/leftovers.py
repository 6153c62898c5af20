"""Settings that a backup brings along and production does not have: a real recovery would stumble over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.postgres.harmless import AUTO_CONF_ASIDE
from pgdrill.postgres.leftovers import DEFAULTS, SIGNALS, read_only_roles, settings_in

READ_ONLY = "SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only'"


@check(
    "recovery-leftovers", "recovery",
    passing="the restored cluster has left recovery for good and takes writes: no signal file, no recovery or read-only "
    "setting that production does not have",
    mend="ALTER SYSTEM RESET, ALTER DATABASE … RESET or ALTER ROLE … RESET the named setting on production, then take a base "
    "backup; a real recovery would have to do it first",
    example="role reporting in database agents: read-only, wanted as in production",
)  # fmt: skip
def recovery_leftovers(context: Context) -> Iterator[Outcome]:
    """What WAL replays has to be as in production; a configuration file is as old as the base backup, and only warned of."""
    clean = True
    for outcome in (*_files(context.data_directory), *_roles(context), *_configured(context)):
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
    """By databases and roles, as the catalogs say, and by what a new connection really gets."""
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
        if row and row[0] == "on" and not found:
            yield Outcome("fail", f"database {database}", "read-only", "takes writes")


def _configured(context: Context) -> Iterator[Outcome]:
    """The configuration files in the data directory, which the drill's own server does not go by."""
    if context.data_directory is None:
        return
    files = [context.data_directory / "postgresql.conf"]
    if context.configuration:
        files.append(context.configuration / AUTO_CONF_ASIDE)
    known = context.production or context.baseline
    for file in files:
        for name, value in settings_in(file).items():
            if value == DEFAULTS[name]:
                continue
            if known is None or known.settings.get(name, DEFAULTS[name]) == DEFAULTS[name]:
                wanted = "as in production, not set" if known else "unknown: production was not looked at"
                yield Outcome("warn", f"{name} in {file.name.removesuffix('.production')}", value, wanted)
