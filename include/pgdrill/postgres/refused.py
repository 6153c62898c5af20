"""Hints on what to do about a login that a server refuses, told from its own words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pgdrill.host.place import this_user
from pgdrill.postgres.client_files import password_file

DEFAULT_PORT = "5432"
PLAIN = re.compile("[a-z_][a-z0-9_]*")  # needs no quotes
FROM = re.compile(r'for host "(?P<address>[^"]+)"')
NAMED = re.compile(r'(for user|role|, user) "(?P<user>[^"]+)"')
# What the server says -> what to do. {user}: who was refused, {role}: the same as SQL has it;
# {file} and {line}: of the password; {rule}: of pg_hba.conf; {airflow}: where Airflow has it.
HINTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"(peer|ident) authentication failed", re.IGNORECASE),
        (
            "over this socket pg_hba.conf lets {user} in only as the operating system's user of"
            " that name: in server.dsn, `host=localhost user=pgdrill` asks for a password instead;"
            " or put `local all {role} scram-sha-256` above the other lines of pg_hba.conf, then"
            " `SELECT pg_reload_conf()`"
        ),
    ),
    (
        re.compile(
            r"password authentication failed|no password supplied|empty password", re.IGNORECASE
        ),
        (
            "export PGPASSWORD, or put the line `{line}` into {file} (mode 0600){airflow}; a new"
            " one: `ALTER ROLE {role} PASSWORD '…'` (where there is no such role yet: the README's"
            " statements make it)"
        ),
    ),
    (
        re.compile(r'role "[^"]*" does not exist'),
        (
            "let server.dsn name the role (`user=pgdrill`), and create it as the README's"
            " statements do{airflow}"
        ),
    ),
    (
        re.compile(r'database "[^"]*" does not exist'),
        "correct dbname in server.dsn, and server.databases",
    ),
    (
        re.compile(r"pg_hba\.conf rejects connection"),
        (
            "take the `reject` line that fits {user} out of pg_hba.conf, or put one that lets it in"
            " above it, then `SELECT pg_reload_conf()`"
        ),
    ),
    (
        re.compile(r"server does not support SSL"),
        (
            "switch TLS on (`ssl = on` in postgresql.conf, with a certificate), or ask for none:"
            " `sslmode=prefer` in server.dsn"
        ),
    ),
    (
        re.compile(r"no pg_hba\.conf entry.*no encryption"),
        (
            "where the lines of pg_hba.conf are `hostssl`, ask for TLS: `sslmode=require` in"
            " server.dsn; or add the line `{rule}`, then `SELECT pg_reload_conf()`"
        ),
    ),
    (
        re.compile(r"no pg_hba\.conf entry"),
        "add a line to pg_hba.conf, `{rule}`, then `SELECT pg_reload_conf()`",
    ),
    (
        re.compile(""),
        (
            "correct user, password and database of server.dsn (or its Airflow connection), and"
            " pg_hba.conf"
        ),
    ),
)


def hint_of(found: str, words: Mapping[str, str], connection: str = "") -> str:
    """Return the hint for a refusal.

    ``words`` are those that were used, ``connection`` names the Airflow Connection with the
    password.
    """
    user = _user(found, words)
    hint = next(hint for said, hint in HINTS if said.search(found))
    known = {
        "user": user,
        "role": _quoted(user),
        "file": _file(words),
        "line": _line({**words, "user": user}),
        "rule": _rule(found, user),
    }
    return hint.format(**known, airflow=_in_airflow(connection))


def _user(found: str, words: Mapping[str, str]) -> str:
    """Return who was refused.

    PGUSER, a service or the operating system may have named the role.
    """
    named = NAMED.search(found)
    return (
        words.get("user")
        or (named["user"] if named else "")
        or os.environ.get("PGUSER")
        or this_user()
    )


def _quoted(name: str) -> str:
    """Return a name as SQL and pg_hba.conf take it."""
    return name if PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _file(words: Mapping[str, str]) -> str:
    file = password_file(words)
    return (
        "~/.pgpass"
        if file.name == ".pgpass" and not (words.get("passfile") or os.environ.get("PGPASSFILE"))
        else f"{file}"
    )


def _line(words: Mapping[str, str]) -> str:
    """Return the line of ~/.pgpass, for every database: several are entered.

    libpq has names of its own for sockets.
    """
    # a service may name both host and port
    elsewhere = words.get("service") or os.environ.get("PGSERVICE")
    host = words.get("host") or ("" if elsewhere else os.environ.get("PGHOST", ""))
    port = words.get("port") or ("" if elsewhere else os.environ.get("PGPORT", DEFAULT_PORT))
    exact = host if host and "," not in host and not host.startswith(("/", "@")) else "*"
    return ":".join(
        (
            _escaped(exact),
            port if port.isdecimal() else "*",
            "*",
            _escaped(words["user"]),
            "PASSWORD",
        )
    )


def _rule(found: str, user: str) -> str:
    """Return the line of pg_hba.conf for the address that the server saw."""
    seen = FROM.search(found)
    address = seen["address"] if seen else "127.0.0.1"
    if address.startswith("["):
        return f"local all {_quoted(user)} scram-sha-256"
    return f"host all {_quoted(user)} {address}/{128 if ':' in address else 32} scram-sha-256"


def _in_airflow(connection: str) -> str:
    return f"; in Airflow it is Connection {connection}'s" if connection else ""


def _escaped(text: str) -> str:
    return text if text == "*" else re.sub(r"([\\:])", r"\\\1", text)
