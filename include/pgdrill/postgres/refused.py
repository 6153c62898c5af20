"""What to do about a login that a server refuses, told from its own words."""

from __future__ import annotations

import re
from collections.abc import Mapping

PASSWORD = re.compile(r"password authentication failed|no password supplied|empty password", re.IGNORECASE)
PEER = re.compile(r"(peer|ident) authentication failed", re.IGNORECASE)
ROLE = re.compile(r'role "[^"]*" does not exist')
DATABASE = re.compile(r'database "[^"]*" does not exist')
ENTRY = re.compile(r"no pg_hba\.conf entry")


def mend_of(found: str, words: Mapping[str, str], connection: str = "") -> str:
    """The hint for a refusal. ``words`` are those that were used, ``connection`` names the Airflow Connection with the password."""
    user = words.get("user") or "the operating system's user"
    if PEER.search(found):
        return (
            f"over this socket pg_hba.conf lets {user} in only as the operating system's user of that name: in server.dsn, `host=localhost user=pgdrill`"
            f" asks for a password instead; or put `local all {user} scram-sha-256` above the other lines of pg_hba.conf, then `SELECT pg_reload_conf()`"
        )
    if PASSWORD.search(found):
        return (
            f"export PGPASSWORD, or put the line `{_line(words)}` into ~/.pgpass (mode 0600){_in_airflow(connection)};"
            f" a new one: `ALTER ROLE {user} PASSWORD '…'`"
        )
    if ROLE.search(found):
        return f"let server.dsn name the role (`user=pgdrill`), and create it as the README's statements do{_in_airflow(connection)}"
    if DATABASE.search(found):
        return "correct dbname in server.dsn, and server.databases"
    if ENTRY.search(found):
        return f"add a line to pg_hba.conf, such as `host all {user} ADDRESS/32 scram-sha-256`, then `SELECT pg_reload_conf()`"
    return "correct user, password and database of server.dsn (or its Airflow connection), and pg_hba.conf"


def _line(words: Mapping[str, str]) -> str:
    """Of ~/.pgpass, for every database: several are entered. libpq has names of its own for sockets."""
    host, port = words.get("host", ""), words.get("port", "")
    exact = host if host and "," not in host and not host.startswith(("/", "@")) else "*"
    return ":".join((_escaped(exact), port if port.isdecimal() else "*", "*", _escaped(words.get("user") or "*"), "PASSWORD"))


def _in_airflow(connection: str) -> str:
    return f"; in Airflow it is Connection {connection}'s" if connection else ""


def _escaped(text: str) -> str:
    return text if text == "*" else re.sub(r"([\\:])", r"\\\1", text)
