"""A running server's answers to what its configuration in ``dr.toml`` needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg

ASKED = {
    "data_directory": "SELECT setting FROM pg_settings WHERE name = 'data_directory'",
    "system_identifier": "SELECT system_identifier::text FROM pg_control_system()",
    # the role that initdb made
    "superuser": "SELECT rolname FROM pg_roles WHERE oid = 10 AND rolsuper",
}
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"


@dataclass(frozen=True, slots=True)
class SelfDescription:
    """A server in its own words; empty where the role that asked may not read it."""

    major_version: int
    data_directory: Path | None
    system_identifier: int | None
    superuser: str
    databases: tuple[str, ...]
    host: str
    port: int
    user: str
    database: str


def describe(connection: psycopg.Connection) -> SelfDescription:
    """Ask a server of itself. Nothing is written, and an answer that is refused is left empty."""
    told = {name: _answer(connection, query) for name, query in ASKED.items()}
    info = connection.info
    return SelfDescription(
        major_version=info.server_version // 10000,
        data_directory=Path(told["data_directory"]) if told["data_directory"] else None,
        system_identifier=int(told["system_identifier"]) if told["system_identifier"] else None,
        superuser=told["superuser"],
        databases=tuple(str(name) for (name,) in connection.execute(DATABASES)),
        host=info.host,
        port=info.port,
        user=info.user,
        database=info.dbname,
    )


def _answer(connection: psycopg.Connection, query: str) -> str:
    try:
        row = connection.execute(query).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return ""
    return str(row[0]) if row and row[0] else ""
