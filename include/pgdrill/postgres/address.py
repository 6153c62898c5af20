"""The address that a connection leads to, as ``PG…`` variables for programs.

It is one server, however many the connection string names. A program that is given several hosts
chooses for itself, and may well ask another server than pgdrill did. It gets everything that libpq
found out for pgdrill, wherever that stood (service file, password file, certificates in the home
folder), for it may have another home. It also gets pgdrill's own settings of a session, for a
role's own ``statement_timeout`` would end a backup.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import pq

from pgdrill.postgres import session

# Words that are a session's own, or make a choice between servers.
LEFT_OUT = {
    "options",
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "connect_timeout",
    "replication",
    "service",
    "servicefile",
    "load_balance_hosts",
    "target_session_attrs",
}
# libpq's keywords and their variables, as this libpq knows them
KEYWORDS = {
    one.keyword.decode(): (one.envvar or b"").decode() for one in pq.Conninfo.get_defaults()
}
# Variables of this process that programs with an address of their own must not get: libpq's, which
# may lead elsewhere, or make text come in another form.
NOT_INHERITED = frozenset(
    {*KEYWORDS.values(), "PGSERVICEFILE", "PGSYSCONFDIR", "PGDATESTYLE", "PGTZ", "PGGEQO"}
    - {"", "PGAPPNAME", "PGCONNECT_TIMEOUT"}
)
# With these, a socket of our own is reached whatever this process's variables say of production's
# servers.
OWN_SOCKET = {
    key: value
    for key, value in {
        "hostaddr": "",
        "target_session_attrs": "any",
        "load_balance_hosts": "disable",
        "requirepeer": "",
        "require_auth": "",
        "channel_binding": "disable",
        "gssencmode": "disable",
        "sslmode": "disable",
    }.items()
    if key in KEYWORDS
}
# The files in which libpq looks for what nobody names.
AT_HOME = {
    "sslcert": "postgresql.crt",
    "sslkey": "postgresql.key",
    "sslrootcert": "root.crt",
    "sslcrl": "root.crl",
}


def environment_of(connection: psycopg.Connection, database: str = "") -> dict[str, str]:
    """Return the server that this connection reached as libpq's variables.

    They hold address, role, password and TLS. ``PGHOSTADDR`` is the address that was chosen of a
    name that may have several. Programs must not inherit :data:`NOT_INHERITED`.
    """
    info = connection.info
    given = info.get_parameters()
    words = {
        **_files_at_home(given),
        **{key: value for key, value in given.items() if key not in LEFT_OUT},
        **session.ENCODING,
    }
    words |= {
        "host": info.host,
        "port": str(info.port),
        "password": info.password,
        "dbname": database or info.dbname,
    }
    words["hostaddr"] = "" if info.host.startswith("/") else info.hostaddr
    if "options" in given:  # nothing in between refused them
        ours = {
            **session.settings(info.server_version // 10000, superuser=False),
            **session.ENCODING,
        }
        words["options"] = f"{given['options']} {session.options(ours)}"
    return {KEYWORDS[key]: value for key, value in words.items() if value and KEYWORDS.get(key)}


def _files_at_home(given: Mapping[str, str]) -> dict[str, str]:
    """Return the certificates that libpq finds by itself in the home folder."""
    folder = Path(os.environ.get("HOME") or Path.home()) / ".postgresql"
    return {
        key: str(folder / name)
        for key, name in AT_HOME.items()
        if key not in given and (folder / name).is_file()
    }
