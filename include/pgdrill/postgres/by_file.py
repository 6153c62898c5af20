"""Settings that files (or the command line) give a server, and that change what statements do.

A recovered server goes by them. Only a session without settings of its own shows them; where a
database or a role has others, the catalogs say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg

# Settings whose difference makes an application fail, or makes damage: writes are refused, triggers
# and foreign keys do not act.
STOPPING = frozenset(
    {
        "default_transaction_read_only",
        "session_replication_role",
        "ignore_checksum_failure",
        "zero_damaged_pages",
        "ignore_system_indexes",
    }
)
# The view stands by its full name, with neither a function nor an operator: this session goes by
# the search_path that a database's owner chose.
SETTINGS = "SELECT name, reset_val, boot_val, source, category, context FROM pg_catalog.pg_settings"
FILES = frozenset({"configuration file", "command line", "environment variable"})
CATEGORIES = re.compile(
    r"(Client Connection Defaults / (Statement Behavior|Locale)|Version and Platform"
    r" Compatibility|Developer Options)"
)
BESIDES = frozenset({"fsync", "full_page_writes", "synchronous_commit"})
ASIDE = frozenset({"lc_messages", "event_triggers", "client_encoding"})
NORMAL = "SELECT setting FROM pg_settings WHERE name = %s"


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not production's."""

    name: str
    found: str
    wanted: str

    @property
    def stops(self) -> bool:
        """True if it is one of :data:`STOPPING`: no application should meet the difference."""
        return self.name in STOPPING


def read_by_file(connection: psycopg.Connection) -> dict[str, str]:
    """Read the settings that somebody set, on a connection without settings of its own."""
    return {one.name: one.value for one in _settings(connection) if one.source in FILES}


def other_than(
    production: Mapping[str, str], connection: psycopg.Connection
) -> Iterator[Difference]:
    """Yield the settings by which a running server differs from production.

    Compared is what either sets, with PostgreSQL's own value where the other does not.
    """
    for one in _settings(connection):
        wanted = production.get(one.name, one.default)
        if (
            one.source in {*FILES, "default"}
            and one.value != wanted
            and (one.source in FILES or one.name in production)
        ):
            yield Difference(one.name, one.value or "empty", wanted or "empty")


def in_files(
    settings: Mapping[str, str], connection: psycopg.Connection
) -> dict[str, tuple[str, str]]:
    """Return those of a file's settings that count: name -> (value, PostgreSQL's own).

    Values are as a server writes them.
    """
    # settings of any source, because this session has some of its own
    known = {one.name: one.default for one in _settings(connection)}
    return {
        name: (_written(connection, name, value), known[name])
        for name, value in settings.items()
        if name in known
    }


@dataclass(frozen=True, slots=True)
class _Setting:
    """A setting as a new session gets it."""

    name: str
    value: str
    default: str  # PostgreSQL's own
    source: str


def _settings(connection: psycopg.Connection) -> list[_Setting]:
    """Read the settings that change what statements do, by name."""
    return sorted(
        (
            _Setting(name, value, default, source)
            for name, value, default, source, category, context in connection.execute(
                SETTINGS
            ).fetchall()
            if (CATEGORIES.match(category) or name in BESIDES)
            and name not in ASIDE
            and context != "internal"
        ),
        key=lambda one: one.name,
    )


def _written(connection: psycopg.Connection, name: str, value: str) -> str:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))
            row = connection.execute(NORMAL, (name,)).fetchone()
            return str(row[0]) if row else value
    except psycopg.Error:  # only a server that starts may set it
        return value
