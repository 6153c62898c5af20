"""The rights that jobs need on production, each with the statement that grants it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

FUNCTIONS = {
    "pg_backup_start(text, boolean)": "base backups begin with it",
    "pg_backup_stop(boolean)": "base backups end with it",
    "pg_switch_wal()": "the last WAL of a backup or baseline is archived at once",
    "pg_create_restore_point(text)": "drills recover to a point that they set",
}
MEMBERSHIPS = {
    "pg_read_all_data": "rows are counted and compared",
    "pg_monitor": "settings, sizes and the state of archiving are read",
}
BYPASSRLS = "rows that row security hides are counted, too"


@dataclass(frozen=True, slots=True)
class Right:
    """One right of the role that asks."""

    name: str
    why: str
    held: bool
    statement: str  # grants it; rights on functions belong to the database that it is run in


def rights(connection: psycopg.Connection) -> Iterator[Right]:
    """Yield every right that pgdrill needs, and whether this connection's role has it here.

    Rights on functions are asked in this database.
    """
    role = sql.Identifier(connection.info.user)

    def grant(words: str) -> str:
        return sql.SQL(words + " {}").format(role).as_string(connection)

    for name, why in MEMBERSHIPS.items():
        held = _one(connection, "SELECT pg_has_role(current_user, %s, 'USAGE')", name)
        yield Right(name, why, held, grant(f"GRANT {name} TO"))
    held = _one(
        connection, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    )
    yield Right("BYPASSRLS", BYPASSRLS, held, f"{grant('ALTER ROLE')} BYPASSRLS")
    for name, why in FUNCTIONS.items():
        held = _one(
            connection, "SELECT has_function_privilege('pg_catalog.' || %s, 'EXECUTE')", name
        )
        yield Right(name, why, held, grant(f"GRANT EXECUTE ON FUNCTION pg_catalog.{name} TO"))


def _one(connection: psycopg.Connection, query: str, *values: str) -> bool:
    row = connection.execute(query, values).fetchone()
    return bool(row and row[0])
