"""Settings of recovery and of read-only servers.

Where a backup brings them along, a real recovery is in for a surprise.
"""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

# Settings that make a server recover, follow another or refuse writes, with PostgreSQL's own
# default.
DEFAULTS = {
    "recovery_target": "",
    "recovery_target_name": "",
    "recovery_target_time": "",
    "recovery_target_xid": "",
    "recovery_target_lsn": "",
    "recovery_target_action": "pause",
    "recovery_target_inclusive": "on",
    "recovery_target_timeline": "latest",
    "recovery_min_apply_delay": "0",
    "recovery_end_command": "",
    "archive_cleanup_command": "",
    "restore_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "hot_standby": "on",
    "default_transaction_read_only": "off",
}
SECRETS = re.compile(r"(conninfo|_command)$")
SET = "set"  # all that is kept of a value that may hold a secret
SIGNALS = ("recovery.signal", "standby.signal", "recovery.conf", "backup_label")

LINE = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(?:=|\s)\s*(?:'((?:[^'\\]|''|\\.)*)'|([^\s#']+))")
BOOLEANS = {
    "on": "on",
    "true": "on",
    "yes": "on",
    "1": "on",
    "off": "off",
    "false": "off",
    "no": "off",
    "0": "off",
}

# Reads what a server goes by, apart from what holds for a role or a database only.
SERVER = """
SELECT name, setting FROM pg_settings
WHERE name = ANY(%s) AND source NOT IN ('database', 'user', 'database user')
"""
READ_ONLY = """
SELECT coalesce('role ' || r.rolname, 'every role') || ' in '
       || coalesce('database ' || d.datname, 'every database')
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_database d ON d.oid = s.setdatabase
WHERE EXISTS (SELECT FROM unnest(s.setconfig) c
              WHERE c ~* '^(default_)?transaction_read_only=(on|true|yes|1)$')
ORDER BY 1
"""


def kept(name: str, value: str) -> str:
    """Return a setting's value as it may be kept and shown.

    One that may hold a secret is ``set`` or empty.
    """
    if SECRETS.search(name):
        return SET if value else ""
    return BOOLEANS.get(value.lower(), value) if DEFAULTS.get(name) in ("on", "off") else value


def server_settings(connection: psycopg.Connection) -> dict[str, str]:
    """Read the settings named above as a running server has them."""
    return {
        name: kept(name, value)
        for name, value in connection.execute(SERVER, (list(DEFAULTS),)).fetchall()
    }


def read_only_roles(connection: psycopg.Connection) -> list[str]:
    """Return for whom ``ALTER ROLE`` or ``ALTER DATABASE`` makes transactions read-only."""
    return [row[0] for row in connection.execute(READ_ONLY).fetchall()]


def settings_in(file: Path) -> dict[str, str]:
    """Read those of the settings named above that a configuration file sets.

    The last line for a name counts.
    """
    return {
        name: kept(name, value)
        for name, value in every_setting_in(file).items()
        if name in DEFAULTS
    }


def every_setting_in(file: Path) -> dict[str, str]:
    """Read all that a configuration file sets, as it is written there. Values may hold secrets."""
    found = {}
    for line in file.read_text(errors="replace").splitlines() if file.is_file() else ():
        if match := LINE.match(line):
            found[match[1].lower()] = (
                (match[2] or "").replace("''", "'") if match[3] is None else match[3]
            )
    return found
