"""Where a connection leads to, as ``PG…`` variables for programs: one server, however many its connection string names.

A program that is given several hosts chooses for itself, and may well ask another server than pgdrill did.
"""

from __future__ import annotations

import psycopg
from psycopg import pq

# A session's own, and what makes a choice between servers.
LEFT_OUT = {
    "options", "application_name", "fallback_application_name", "client_encoding", "connect_timeout", "replication",
    "service", "load_balance_hosts", "target_session_attrs",
}  # fmt: skip
KEYWORDS = {one.keyword.decode(): (one.envvar or b"").decode() for one in pq.Conninfo.get_defaults()}  # as this libpq knows them
# What programs with an address of their own must not get of this process's variables: libpq's, which may lead elsewhere.
NOT_INHERITED = frozenset({*KEYWORDS.values(), "PGSERVICEFILE"} - {"", "PGOPTIONS", "PGAPPNAME", "PGCONNECT_TIMEOUT"})
# A socket of our own is reached whatever this process's variables say of production's servers.
OWN_SOCKET = {
    key: value for key, value in {
        "hostaddr": "", "target_session_attrs": "any", "load_balance_hosts": "disable", "requirepeer": "", "require_auth": "",
        "channel_binding": "disable", "gssencmode": "disable", "sslmode": "disable",
    }.items() if key in KEYWORDS
}  # fmt: skip


def environment_of(connection: psycopg.Connection, database: str = "") -> dict[str, str]:
    """Address, role, password and TLS of the server that this connection reached, as libpq's variables.

    ``PGHOSTADDR`` is the address that was chosen of a name that may have several. Programs must not inherit :data:`NOT_INHERITED`.
    """
    info = connection.info
    words = {key: value for key, value in info.get_parameters().items() if key not in LEFT_OUT}
    words |= {"host": info.host, "port": str(info.port), "password": info.password, "dbname": database or info.dbname}
    words["hostaddr"] = "" if info.host.startswith("/") else info.hostaddr
    return {KEYWORDS[key]: value for key, value in words.items() if value and KEYWORDS.get(key)}
