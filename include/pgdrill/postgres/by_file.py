"""Settings that files (or the command line) give a server, and that change what statements do: a recovered server goes by them.

Only a session without settings of its own shows them; where a database or a role has others, the catalogs say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg

# Whose difference makes an application fail, or makes damage: writes are refused, triggers and foreign keys do not act.
STOPPING = frozenset({
    "default_transaction_read_only", "session_replication_role", "ignore_checksum_failure", "zero_damaged_pages", "ignore_system_indexes",
})  # fmt: skip
BY_FILE = """
SELECT name, reset_val, boot_val, source IN ('configuration file', 'command line', 'environment variable') FROM pg_settings
WHERE (category ~ '^(Client Connection Defaults / (Statement Behavior|Locale)|Version and Platform Compatibility|Developer Options)'
       OR name IN ('fsync', 'full_page_writes', 'synchronous_commit'))
  AND name NOT IN ('lc_messages', 'event_triggers', 'client_encoding') AND context <> 'internal'
  AND (source IN ('configuration file', 'command line', 'environment variable', 'default') OR %(any)s)
ORDER BY 1
"""
NORMAL = "SELECT setting FROM pg_settings WHERE name = %s"


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not production's; ``stops``: no application should meet it."""

    name: str
    found: str
    wanted: str

    @property
    def stops(self) -> bool:
        """Whether it is one of :data:`STOPPING`."""
        return self.name in STOPPING


def read_by_file(connection: psycopg.Connection) -> dict[str, str]:
    """Those that somebody set, on a connection without settings of its own."""
    return {name: value for name, value, _, by_file in connection.execute(BY_FILE, {"any": False}) if by_file}


def other_than(production: Mapping[str, str], connection: psycopg.Connection) -> Iterator[Difference]:
    """A running server against production: what either sets, PostgreSQL's own where the other does not."""
    for name, value, default, by_file in connection.execute(BY_FILE, {"any": False}).fetchall():
        wanted = production.get(name, default)
        if value != wanted and (by_file or name in production):
            yield Difference(name, value or "empty", wanted or "empty")


def in_files(settings: Mapping[str, str], connection: psycopg.Connection) -> dict[str, tuple[str, str]]:
    """Those of a file's settings that count, as a server writes them: name -> (value, PostgreSQL's own)."""
    known = {name: default for name, _, default, _ in connection.execute(BY_FILE, {"any": True})}  # this session has some of its own
    return {name: (_written(connection, name, value), known[name]) for name, value in settings.items() if name in known}


def _written(connection: psycopg.Connection, name: str, value: str) -> str:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))
            row = connection.execute(NORMAL, (name,)).fetchone()
            return str(row[0]) if row else value
    except psycopg.Error:  # only a server that starts may set it
        return value
