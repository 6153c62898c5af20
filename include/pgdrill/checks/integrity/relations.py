"""What every question about files, pages and indexes shares: the relations, a transaction to ask in, one answer for each."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome

SHOWN = 20
TINY_PAGES = 64
TOGETHER = 50
# SQLSTATE classes of errors that say nothing of the data: not supported, no right or no such function, out of
# memory, disk or locks, locked, cancelled (a crash that a damaged page causes has no SQLSTATE).
NO_DAMAGE = ("0A", "42", "53", "55", "57")

# How many pages a shared relation has is noted in the database that it was last vacuumed from, and is old in all others.
RELATIONS = """
SELECT c.oid::int8, c.oid::regclass || coalesce(' of ' || o.oid::regclass, ''), c.relkind::text, coalesce(m.amname, ''),
       CASE WHEN c.relisshared THEN 0 ELSE c.relpages END, coalesce(i.indisvalid AND i.indisready AND i.indislive, true)
FROM pg_class c
LEFT JOIN pg_am m ON m.oid = c.relam
LEFT JOIN pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_class o ON o.reltoastrelid = coalesce(i.indrelid, c.oid) AND o.reltoastrelid <> 0
WHERE c.relkind IN ('r', 'm', 't', 'i', 'S') AND c.relpersistence = 'p'
ORDER BY 2
"""


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation with storage. ``usable`` is false for an invalid index."""

    oid: int
    name: str
    kind: str
    method: str
    pages: int
    usable: bool


@contextlib.contextmanager
def opened(context: Context, database: str) -> Iterator[psycopg.Connection]:
    """A transaction that is never committed, writable where the cluster is ours."""
    connect = context.prepare or context.connect
    with contextlib.closing(connect(database)) as connection:  # closed without a commit: rolled back
        connection.autocommit = False
        if context.prepare:
            connection.read_only = False
            # No event trigger of the restored database acts on what we create.
            connection.execute("SET LOCAL session_replication_role = replica")
            connection.execute("SET LOCAL ignore_checksum_failure = off")
        limit = int(context.cluster.drill.statement_timeout_seconds * 1000)
        connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(limit)))
        connection.execute("SET LOCAL row_security = off")
        yield connection


def relations(connection: psycopg.Connection) -> list[Relation]:
    return [Relation(*row) for row in connection.execute(RELATIONS).fetchall()]


def find_extension(context: Context, connection: psycopg.Connection, name: str) -> tuple[str, tuple[int, ...]] | None:
    """Schema and version of an extension, made for this transaction where that is allowed; None: not to be had."""
    if context.prepare:
        with contextlib.suppress(psycopg.Error), connection.transaction():
            connection.execute("CREATE SCHEMA IF NOT EXISTS pgdrill_scratch")
            connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA pgdrill_scratch").format(sql.Identifier(name)))
    row = connection.execute(
        "SELECT n.nspname, e.extversion FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = %s",
        (name,),
    ).fetchone()
    return (row[0], tuple(int(part) for part in row[1].split(".") if part.isdigit())) if row else None


def without(context: Context, database: str, extension: str) -> Outcome:
    why = "cannot be created here: install PostgreSQL's contrib package" if context.prepare else (
        "is not installed there, and a cluster that pgdrill did not restore is not changed"
    )  # fmt: skip
    return Outcome("skip", database, message=f"the extension {extension} {why}")


def each(
    connection: psycopg.Connection, database: str, relations: list[Relation], good: str,
    ask: Callable[[Relation], Outcome | None], sound: Callable[[list[Relation]], bool] | None = None,
) -> Iterator[Outcome]:  # fmt: skip
    """Ask of every relation: an answer for each damaged one, and one for all that are whole (``ask`` gives None).

    Most relations are tiny and whole: with ``sound``, those of one access method are asked of many at a time, and one by one
    where it says no.
    """
    found: list[Outcome] = []
    for some in _batches(relations) if sound else [[relation] for relation in relations]:
        if sound and len(some) > 1 and _is_true(connection, lambda some=some: sound(some)):  # type: ignore[misc]
            continue
        for relation in [] if connection.closed else some:
            try:
                with connection.transaction():
                    answer = ask(relation)
            except psycopg.Error as error:
                answer = error_outcome(f"{database}.{relation.name}", error)
            if answer:
                found.append(answer)
            if connection.closed:
                break
        if connection.closed:
            names = some[0].name if len(some) == 1 else f"one of {', '.join(one.name for one in some)}"
            found.append(Outcome("fail", database, "the server ended", "a server that goes on", f"while reading {names}; the rest was not checked"))
            break
    yield from _shown(database, found)
    whole = len(relations) - len(found)
    if not connection.closed and whole:
        yield Outcome("pass", f"{database}: {whole} relations", whole, good)


def _batches(relations: list[Relation]) -> Iterator[list[Relation]]:
    """Large relations alone, tiny ones of a method together."""
    yield from ([one] for one in relations if one.pages > TINY_PAGES)
    tiny = sorted((one for one in relations if one.pages <= TINY_PAGES), key=lambda one: one.method)
    for _, alike in itertools.groupby(tiny, key=lambda one: one.method):
        rest = list(alike)
        while rest:
            yield rest[:TOGETHER]
            rest = rest[TOGETHER:]


def _is_true(connection: psycopg.Connection, ask: Callable[[], bool]) -> bool:
    """An error is no yes; which of them it is about, each one tells."""
    try:
        with connection.transaction():
            return ask()
    except psycopg.Error:
        return False


def _shown(database: str, found: list[Outcome]) -> Iterator[Outcome]:
    found = sorted(found, key=lambda outcome: outcome.status != "fail")
    yield from found[:SHOWN]
    if rest := found[SHOWN:]:
        yield Outcome(rest[0].status, database, len(rest), "0", "more relations")


def error_outcome(thing: str, error: psycopg.Error) -> Outcome:
    """The server's own words, without their details: those may hold values."""
    words = error.diag.message_primary or str(error).strip().partition("\n")[0]
    return Outcome("skip" if (error.sqlstate or "")[:2] in NO_DAMAGE else "fail", thing, type(error).__name__, "no error", words[:300])
