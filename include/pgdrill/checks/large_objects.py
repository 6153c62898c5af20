"""Large objects named by their numbers where a digest says that some differ.

Production and the copy are asked which of them do.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome
from pgdrill.errors import CouldNotVerify

logger = logging.getLogger(__name__)

NAMED = 5
EACH = {
    "pg_catalog.pg_largeobject": (
        "SELECT loid::int8, bit_xor(('x' || left(md5(pageno || ':' || encode(data, 'hex')),"
        " 16))::bit(64)::int8)::text || ':' || count(*) FROM pg_catalog.pg_largeobject GROUP BY 1"
    ),
    "pg_catalog.pg_largeobject_metadata": (
        "SELECT oid::int8, lomowner || ' ' || coalesce(lomacl::text, '') FROM"
        " pg_catalog.pg_largeobject_metadata"
    ),
}


def by_number(
    context: Context, database: str, restored: psycopg.Connection, outcome: Outcome
) -> Outcome:
    """Return the outcome with the numbers of the large objects that differ.

    An outcome that is no failure, or is not about a table of large objects, is returned as it is.
    """
    query = EACH.get(outcome.thing.removeprefix(f"{database}."))
    if query is None or outcome.status != "fail" or context.production_now is None:
        return outcome
    try:
        with context.production_now(database) as production:
            there, here = _each(production, query), _each(restored, query)
    except (CouldNotVerify, psycopg.Error) as error:
        logger.info("which large objects differ is not known: %s", type(error).__name__)
        return outcome
    lost, come = sorted(there.keys() - here.keys()), sorted(here.keys() - there.keys())
    changed = sorted(
        number for number in there.keys() & here.keys() if there[number] != here[number]
    )
    told = [
        f"{what} {_list(numbers)}"
        for what, numbers in (
            ("missing", lost),
            ("changed", changed),
            ("not on production now", come),
        )
        if numbers
    ]
    return replace(
        outcome,
        message="; ".join(
            filter(None, (outcome.message, f"large objects {', '.join(told)}" if told else ""))
        ),
    )


def _each(connection: psycopg.Connection, query: str) -> dict[int, str]:
    return dict(connection.execute(sql.SQL(query)).fetchall())


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:NAMED])) + (
        f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    )
