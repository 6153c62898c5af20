"""The parts that all questions about files, pages and indexes share.

They are the relations, a transaction to ask in, and the way to one answer for each.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome
from pgdrill.checks.cut import Server
from pgdrill.postgres.roles import without_event_triggers
from pgdrill.postgres.server_words import words_of
from pgdrill.postgres.session import SYSTEM_PATH, catalogs_only

SHOWN = 20
TINY_PAGES = 64
TOGETHER = 50
PREWARM = ("regclass", "text", "text", "bigint", "bigint")  # what pg_prewarm takes
# SQLSTATE classes of errors that say nothing of the data: not supported, no right or no such
# function, out of memory, disk or locks, locked, cancelled (a crash that a damaged page causes has
# no SQLSTATE).
NO_DAMAGE = ("0A", "42", "53", "55", "57")


def shown(schema: str, relation: str) -> str:
    """Return SQL for a relation's name as a person says it, whatever the search path.

    ``schema`` is the alias of a row of pg_namespace, ``relation`` that of a row of pg_class.
    """
    return (
        f"CASE WHEN {schema}.nspname IN ('public', 'pg_catalog') THEN"
        f" quote_ident({relation}.relname) ELSE quote_ident({schema}.nspname) || '.' ||"
        f" quote_ident({relation}.relname) END"
    )


# How many pages a shared relation has is noted in the database that it was last vacuumed from, and
# is old in all others.
RELATIONS = """
SELECT c.oid::int8, {name} || coalesce(' of ' || {owner}, ''), n.nspname, c.relname,
       c.relkind::text, coalesce(m.amname, ''),
       CASE WHEN c.relisshared THEN 0 ELSE c.relpages END,
       coalesce(i.indisvalid AND i.indisready AND i.indislive, true)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am m ON m.oid = c.relam
LEFT JOIN pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_class o ON o.reltoastrelid = coalesce(i.indrelid, c.oid) AND o.reltoastrelid <> 0
LEFT JOIN pg_namespace p ON p.oid = o.relnamespace
WHERE c.relkind IN ('r', 'm', 't', 'i', 'S') AND c.relpersistence = 'p'
ORDER BY 2
""".replace("{name}", shown("n", "c")).replace("{owner}", shown("p", "o"))

QUIET = "UPDATE pg_catalog.pg_event_trigger SET evtenabled = 'D'"
EXTENSION = """
SELECT n.nspname, e.extversion, ARRAY(
    SELECT p.proname || '(' || oidvectortypes(p.proargtypes) || ')'
    FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
    WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
      AND d.refobjid = e.oid AND d.deptype = 'e'
      AND p.pronamespace = e.extnamespace)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = %s
"""


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation with storage. ``usable`` is false for an invalid index."""

    oid: int
    name: str
    schema: str
    plain: str
    kind: str
    method: str
    pages: int
    usable: bool


@contextlib.contextmanager
def opened(context: Context, database: str) -> Iterator[psycopg.Connection]:
    """Yield a connection in a transaction that is never committed.

    On a cluster of our own it is writable and the superuser's. It is for the catalogs, and for
    functions that evaluate nothing.
    """
    connect = context.prepare or context.connect
    # closed without a commit: rolled back
    with contextlib.closing(connect(database)) as connection:
        connection.autocommit = False
        if context.prepare:
            connection.read_only = False
            connection.execute("SET LOCAL ignore_checksum_failure = off")
        connection.execute(f"SET LOCAL search_path = {SYSTEM_PATH}")
        _limit(context, connection)
        yield connection


@contextlib.contextmanager
def asking(
    context: Context, database: str, lent: str = ""
) -> Iterator[tuple[psycopg.Connection, sql.Composable | None]]:
    """Yield a connection for what evaluates users' expressions, in a transaction never committed.

    Its role is the one that asks. ``lent`` are statements that it may have run with a superuser's
    rights, by calling the function whose name is yielded beside it. On a cluster that is not ours
    there is no such function. The function lies among another session's temporary objects, and goes
    with it.
    """
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(contextlib.closing(context.connect(database)))
        connection.autocommit = False
        function: sql.Composable | None = None
        if context.prepare and lent:
            connection.read_only = False
            owner = stack.enter_context(contextlib.closing(context.prepare(database)))
            # with damaged catalogs what can be asked without it is asked
            with contextlib.suppress(psycopg.Error):
                function = _lend(owner, connection.info.user, lent)
        _limit(context, connection)
        yield connection, function


def _lend(owner: psycopg.Connection, role: str, statements: str) -> sql.Composable:
    """Make a function that runs the statements with the owner's rights, and return its name.

    Nobody but ``role`` may call it, and in it nothing but the catalogs is found.
    """
    name = f"pgdrill_{secrets.token_hex(8)}"
    owner.autocommit = True
    owner.execute(
        f"SET search_path = {SYSTEM_PATH}; SET default_transaction_read_only = off; SET"
        " check_function_bodies = off"
    )
    names = {
        "f": sql.Identifier(name),
        "role": sql.Identifier(role),
        "path": sql.SQL(SYSTEM_PATH),
        "statements": sql.SQL(statements),
    }
    with without_event_triggers(owner):
        owner.execute(
            sql.SQL(
                "CREATE FUNCTION pg_temp.{f}(oid) RETURNS void LANGUAGE sql SECURITY DEFINER SET"
                " search_path = {path} AS $lent$ {statements} $lent$; REVOKE ALL ON FUNCTION"
                " pg_temp.{f} FROM PUBLIC; GRANT EXECUTE ON FUNCTION pg_temp.{f} TO {role}"
            ).format(**names)
        )
    row = owner.execute(
        "SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()"
    ).fetchone()
    return sql.Identifier(row[0] if row else "pg_temp", name)


def _limit(context: Context, connection: psycopg.Connection) -> None:
    limit = int(context.cluster.drill.statement_timeout_seconds * 1000)
    connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(limit)))
    connection.execute("SET LOCAL row_security = off")


def relations(connection: psycopg.Connection) -> list[Relation]:
    with catalogs_only(connection):
        return [Relation(*row) for row in connection.execute(RELATIONS).fetchall()]


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension that is to be had, and the functions that are its own."""

    schema: str
    version: tuple[int, ...]
    members: frozenset[str]

    def call(self, function: str, *kinds: str) -> sql.Identifier | None:
        """Return the name of the extension's function of that name and those types.

        It is nobody else's function. None where the extension's version has none.
        """
        return (
            sql.Identifier(self.schema, function)
            if f"{function}({', '.join(kinds)})" in self.members
            else None
        )


def made_extension(context: Context, connection: psycopg.Connection, name: str) -> Extension | None:
    """Return an extension, made for this transaction where that is allowed.

    None if it is not to be had.
    """
    if context.prepare:
        with contextlib.suppress(psycopg.Error), connection.transaction():
            connection.execute(make(name))
    return find_extension(connection, name)


def make(extension: str) -> str:
    """Return SQL that makes an extension where there is none, while no event trigger acts.

    Its schema has a name that nobody can have taken.
    """
    schema = f"pgdrill_{secrets.token_hex(8)}"
    return (
        f"{QUIET}; CREATE SCHEMA {schema}; CREATE EXTENSION IF NOT EXISTS {extension} SCHEMA"
        f" {schema}"
    )


def find_extension(connection: psycopg.Connection, name: str) -> Extension | None:
    """Return an extension of this database; None if it is not there.

    Call its functions with values of exactly their types: others' functions of that name, for
    similar types, may stand beside them.
    """
    with catalogs_only(connection):
        row = connection.execute(EXTENSION, (name,)).fetchone()
    return (
        Extension(
            row[0],
            tuple(int(part) for part in row[1].split(".") if part.isdigit()),
            frozenset(row[2]),
        )
        if row
        else None
    )


def without(context: Context, database: str, extension: str) -> Outcome:
    why = (
        "cannot be created here: install PostgreSQL's contrib package"
        if context.prepare
        else ("is not installed there, and a cluster that pgdrill did not restore is not changed")
    )
    return Outcome("skip", database, message=f"the extension {extension} {why}")


def each(
    context: Context,
    connection: psycopg.Connection,
    database: str,
    relations: list[Relation],
    good: str,
    ask: Callable[[Relation], Outcome | None],
    sound: Callable[[list[Relation]], bool] | None = None,
) -> Iterator[Outcome]:
    """Ask of every relation; yield an answer for each damaged one, and one for all that are whole.

    ``ask`` gives None for a whole relation. Most relations are tiny and whole: with ``sound``,
    those of one access method are asked of many at a time, and one by one where it says no.
    """
    server = Server.of(context, database, connection)
    asked = _Asked(connection, database, ask)
    for some in _batches(relations) if sound else [[relation] for relation in relations]:
        if not (sound and len(some) > 1 and asked.all_sound(some, sound)):
            asked.each(some)
        if connection.closed:
            names = (
                some[0].name if len(some) == 1 else f"one of {', '.join(one.name for one in some)}"
            )
            asked.found.append(server.session_ended(f"reading {names}", by_order=asked.terminated))
            break
    found = asked.found
    yield from _shown(database, found)
    whole = len(relations) - len(found)
    if not connection.closed and whole:
        yield Outcome("pass", f"{database}: {whole} relations", whole, good)


@dataclass(slots=True)
class _Asked:
    """What relations were asked in one session, and what was ``found``; ``terminated``: by
    somebody's order.
    """

    connection: psycopg.Connection
    database: str
    ask: Callable[[Relation], Outcome | None]
    found: list[Outcome] = field(default_factory=list)
    terminated: bool = False

    def all_sound(self, some: list[Relation], sound: Callable[[list[Relation]], bool]) -> bool:
        """Whether all are known to be whole. An error is no yes; which of them it is about, each
        one tells.
        """
        try:
            with self.connection.transaction():
                return sound(some)
        except psycopg.Error as error:
            self.terminated = self.terminated or isinstance(error, psycopg.errors.AdminShutdown)
            return False

    def each(self, some: list[Relation]) -> None:
        """Ask one after another, as long as the session lives."""
        for relation in some:
            if self.connection.closed:
                return
            try:
                with self.connection.transaction():
                    answer = self.ask(relation)
            except psycopg.Error as error:
                if self.connection.closed:  # whose fault that is, the session's end tells
                    self.terminated = isinstance(error, psycopg.errors.AdminShutdown)
                    return
                answer = error_outcome(f"{self.database}.{relation.name}", error)
            if answer:
                self.found.append(answer)


def _batches(relations: list[Relation]) -> Iterator[list[Relation]]:
    """Yield large relations alone, and tiny ones of one method together."""
    yield from ([one] for one in relations if one.pages > TINY_PAGES)
    tiny = sorted((one for one in relations if one.pages <= TINY_PAGES), key=lambda one: one.method)
    for _, alike in itertools.groupby(tiny, key=lambda one: one.method):
        rest = list(alike)
        while rest:
            yield rest[:TOGETHER]
            rest = rest[TOGETHER:]


def _shown(database: str, found: list[Outcome]) -> Iterator[Outcome]:
    found = sorted(found, key=lambda outcome: outcome.status != "fail")
    yield from found[:SHOWN]
    if rest := found[SHOWN:]:
        yield Outcome(rest[0].status, database, len(rest), "0", "more relations")


def error_outcome(thing: str, error: psycopg.Error) -> Outcome:
    """Return the outcome for an error, in the server's own words without their details.

    The details may hold values.
    """
    return Outcome(
        "skip" if (error.sqlstate or "")[:2] in NO_DAMAGE else "fail",
        thing,
        type(error).__name__,
        "no error",
        words_of(error)[:300],
    )
