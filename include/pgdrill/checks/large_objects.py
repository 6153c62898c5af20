"""Large objects named by their numbers where a digest says that some differ.

Production and the copy are asked which of them do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome
from pgdrill.errors import CouldNotVerify

logger = logging.getLogger(__name__)

NAMED = 5
OBJECTS, CONTENT = "pg_catalog.pg_largeobject_metadata", "pg_catalog.pg_largeobject"
EACH = {
    CONTENT: (
        "SELECT loid::int8, bit_xor(('x' || left(md5(pageno || ':' || encode(data, 'hex')),"
        " 16))::bit(64)::int8)::text || ':' || count(*) FROM pg_catalog.pg_largeobject GROUP BY 1"
    ),
    OBJECTS: (
        "SELECT oid::int8, lomowner || ' ' || coalesce(lomacl::text, '') FROM"
        " pg_catalog.pg_largeobject_metadata"
    ),
}


def told_once(
    context: Context, database: str, restored: psycopg.Connection, outcomes: list[Outcome]
) -> Iterator[Outcome]:
    """Yield the outcomes of a database's tables; of large objects that differ there is one.

    They stand in two catalogs, and what was unlinked is missing in both. The one that is told holds
    the numbers of all that differ, where production tells them.
    """
    failed = {
        name: outcome
        for outcome in outcomes
        if outcome.status == "fail" and (name := outcome.thing.removeprefix(f"{database}.")) in EACH
    }
    yield from (outcome for outcome in outcomes if outcome not in failed.values())
    if not failed:
        return
    first, *others = (failed[name] for name in (OBJECTS, CONTENT) if name in failed)
    told = _numbers(context, database, restored, [EACH[name] for name in failed])
    if not told:
        told = "; ".join(f"their content: {one.value}, wanted {one.threshold}" for one in others)
    yield replace(
        first,
        message="; ".join(filter(None, (first.message, told))),
        proved=any(one.proved for one in failed.values()),
    )


def _numbers(
    context: Context, database: str, restored: psycopg.Connection, queries: list[str]
) -> str:
    """Return in words which large objects differ; empty where production does not tell."""
    lost, changed, come = set[int](), set[int](), set[int]()
    if context.production_now is None:
        return ""
    try:
        with context.production_now(database) as production:
            for query in queries:
                there, here = _each(production, query), _each(restored, query)
                lost |= there.keys() - here.keys()
                come |= here.keys() - there.keys()
                changed |= {
                    number for number in there.keys() & here.keys() if there[number] != here[number]
                }
    except (CouldNotVerify, psycopg.Error) as error:
        logger.info("which large objects differ is not known: %s", type(error).__name__)
        return ""
    told = [
        f"{what} {_list(sorted(numbers))}"
        for what, numbers in (
            ("missing", lost),
            ("changed", changed - lost - come),
            ("not on production now", come),
        )
        if numbers
    ]
    return f"large objects {', '.join(told)}" if told else ""


def _each(connection: psycopg.Connection, query: str) -> dict[int, str]:
    return dict(connection.execute(sql.SQL(query)).fetchall())


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:NAMED])) + (
        f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    )
