"""The differences of a catalog's object: its columns, what production has, and what came back.

The baseline keeps hashes. Only where one differs, both servers are asked for that object's rows,
production as it is now. Values that may hold anything (texts, expressions, rights) are not
repeated: only that they differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from pgdrill.postgres.catalog_fingerprint import CATALOGS, FIRST_USER_OID, VOLATILE

TOLD = 4  # at most so many differences of one object
SYSTEM = "system"
# Kinds of values that are figures, switches and names. An index's settings are in reloptions.
PLAIN = {"boolean", "smallint", "integer", "bigint", "real", "name", '"char"'}
PLAIN_COLUMNS = {"reloptions", "collversion", "extversion", "attoptions"}
NUMBERED_BY = "oid"

Row = dict[str, Any]


def differing(production: psycopg.Connection, restored: psycopg.Connection, key: str) -> str:
    """Return in words what differs of the object ``catalog:key``; empty where it cannot be told.

    See :mod:`pgdrill.postgres.catalog_fingerprint` for the key.
    """
    name, _, number = key.partition(":")
    try:
        catalog = next(
            (row for row in production.execute(CATALOGS).fetchall() if row[0] == name), None
        )
        if catalog is None:
            return ""
        kinds = {column: kind for column, kind, readable in catalog[4] if readable}
        keys = list(catalog[3])
        there, here = (
            _rows(connection, name, keys, kinds, number) for connection in (production, restored)
        )
    except psycopg.Error:
        return ""
    told = list(_told(name, keys, kinds, there, here))
    return ", ".join(told[:TOLD]) + (f" and {len(told) - TOLD} more" if len(told) > TOLD else "")


def _rows(
    connection: psycopg.Connection, name: str, keys: list[str], kinds: dict[str, str], number: str
) -> dict[str, Row]:
    """Read the rows of the object by their key.

    A relation's columns are one object, and so is all that came with PostgreSQL.
    """
    whole = sql.SQL(" || '.' || ").join(
        sql.SQL("c_.{}::text").format(sql.Identifier(key)) for key in keys
    )
    numbers = [key for key in keys if kinds.get(key) == NUMBERED_BY] or keys[:1]
    first = sql.SQL("greatest({})").format(
        sql.SQL(", ").join(
            sql.SQL("c_.{}::oid::int8").format(sql.Identifier(key)) for key in numbers
        )
    )
    if number == SYSTEM:
        which = sql.SQL("{} < {}").format(first, sql.Literal(FIRST_USER_OID))
    else:
        own = (
            sql.SQL("c_.{}::text").format(sql.Identifier(keys[0]))
            if name == "pg_attribute"
            else whole
        )
        which = sql.SQL("{} = {}").format(own, sql.Literal(number))
    wanted = [column for column in kinds if column not in VOLATILE.get(name, [])]
    query = sql.SQL(
        "SELECT {}, to_jsonb(r_) FROM pg_catalog.{} c_, LATERAL (SELECT {}) r_ WHERE {}"
    ).format(
        whole,
        sql.Identifier(name),
        sql.SQL(", ").join(
            sql.SQL("c_.{}::text").format(sql.Identifier(column)) for column in wanted
        ),
        which,
    )
    return dict(connection.execute(query).fetchall())


def _told(
    name: str, keys: list[str], kinds: dict[str, str], there: dict[str, Row], here: dict[str, Row]
) -> Iterator[str]:
    several = len(there.keys() | here.keys()) > 1
    for key in sorted(there.keys() | here.keys()):
        then, now = there.get(key), here.get(key)
        what = _named(then or now or {}, key) if several else ""
        if then is None or now is None:
            if several:
                yield (
                    f"{what}"
                    f" {'came back and is not on production' if then is None else 'is missing'}"
                )
            continue
        for column in (column for column in then if then[column] != now.get(column)):
            plain = kinds[column] in PLAIN or column in PLAIN_COLUMNS
            values = (
                f": {_value(then[column])} on production now, {_value(now.get(column))} came back"
                if plain
                else " differs"
            )
            yield f"{what}{' ' if what else ''}{column}{values}"


def _named(row: Row, key: str) -> str:
    """Return an object's name from the column that holds it."""
    named = next((str(row[column]) for column in row if column.endswith("name")), key)
    return f"column {named}" if "attname" in row else named


def _value(value: object) -> str:
    return "nothing" if value is None else str(value) or "''"
