"""What to do about a login that a server refuses, told from its own words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

NAMED = re.compile(r'(for user|role|, user) "(?P<user>[^"]+)"')
# What the server says -> what to do. {user}: who was refused; {line}: of ~/.pgpass; {airflow}: where Airflow has it.
HINTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(peer|ident) authentication failed", re.IGNORECASE),
     "over this socket pg_hba.conf lets {user} in only as the operating system's user of that name: in server.dsn, `host=localhost user=pgdrill`"
     " asks for a password instead; or put `local all {user} scram-sha-256` above the other lines of pg_hba.conf, then `SELECT pg_reload_conf()`"),
    (re.compile(r"password authentication failed|no password supplied|empty password", re.IGNORECASE),
     "export PGPASSWORD, or put the line `{line}` into ~/.pgpass (mode 0600){airflow}; a new one: `ALTER ROLE {user} PASSWORD '…'` (where there is no such role yet: the README's statements make it)"),
    (re.compile(r'role "[^"]*" does not exist'), "let server.dsn name the role (`user=pgdrill`), and create it as the README's statements do{airflow}"),
    (re.compile(r'database "[^"]*" does not exist'), "correct dbname in server.dsn, and server.databases"),
    (re.compile(r"pg_hba\.conf rejects connection"),
     "take the `reject` line that fits {user} out of pg_hba.conf, or put one that lets it in above it, then `SELECT pg_reload_conf()`"),
    (re.compile(r"server does not support SSL"),
     "switch TLS on (`ssl = on` in postgresql.conf, with a certificate), or ask for none: `sslmode=prefer` in server.dsn"),
    (re.compile(r"no pg_hba\.conf entry"), "add a line to pg_hba.conf, such as `host all {user} ADDRESS/32 scram-sha-256`, then `SELECT pg_reload_conf()`"),
    (re.compile(""), "correct user, password and database of server.dsn (or its Airflow connection), and pg_hba.conf"),
)  # fmt: skip


def mend_of(found: str, words: Mapping[str, str], connection: str = "") -> str:
    """The hint for a refusal. ``words`` are those that were used, ``connection`` names the Airflow Connection with the password."""
    user = _user(found, words)
    hint = next(hint for said, hint in HINTS if said.search(found))
    return hint.format(user=user or "ROLE", line=_line({**words, "user": user}), airflow=_in_airflow(connection))


def _user(found: str, words: Mapping[str, str]) -> str:
    """Who was refused: PGUSER, a service or the operating system may have named the role."""
    named = NAMED.search(found)
    return words.get("user") or (named["user"] if named else "") or os.environ.get("PGUSER", "")


def _line(words: Mapping[str, str]) -> str:
    """Of ~/.pgpass, for every database: several are entered. libpq has names of its own for sockets."""
    host, port = words.get("host", ""), words.get("port", "")
    exact = host if host and "," not in host and not host.startswith(("/", "@")) else "*"
    return ":".join((_escaped(exact), port if port.isdecimal() else "*", "*", _escaped(words.get("user") or "*"), "PASSWORD"))


def _in_airflow(connection: str) -> str:
    return f"; in Airflow it is Connection {connection}'s" if connection else ""


def _escaped(text: str) -> str:
    return text if text == "*" else re.sub(r"([\\:])", r"\\\1", text)
