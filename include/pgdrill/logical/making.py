"""The making of a dump's definitions, statement by statement, each by whom it can do no harm.

What evaluates nothing and wants a superuser is the superuser's: extensions, functions, types,
operator classes, owners, rights, comments. Everything else is the maker's
(:mod:`pgdrill.logical.hands`): making a table folds the constants of its generated columns and
partition keys, and attaching a partition those of its bounds. Statements go by the protocol that
takes one at a time, so that whoever is chosen by a statement's first words runs no second one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg

from pgdrill.host.process import Runner
from pgdrill.logical.hands import Hands
from pgdrill.logical.sql_split import Statement, split

RESTRICT = re.compile(r"^\\restrict (\w+)$", re.MULTILINE)
OWNER = re.compile(r"ALTER [A-Z ]+? .* OWNER TO (\"(?:[^\"]|\"\")+\"|\w+)$", re.DOTALL)
# The superuser's statements, by their first words. Functions are not called when they are made:
# pg_dump switches the checks of their bodies off.
SUPERUSERS = re.compile(
    r"(CREATE EXTENSION|COMMENT ON|SECURITY LABEL|GRANT|REVOKE|ALTER DEFAULT PRIVILEGES|SET SESSION"
    r" AUTHORIZATION|RESET SESSION|"
    r"CREATE SCHEMA|CREATE (OR REPLACE )?(FUNCTION|PROCEDURE)|CREATE TYPE|CREATE (OR REPLACE"
    r" )?(TRUSTED )?(PROCEDURAL )?LANGUAGE|"
    r"CREATE OPERATOR (CLASS|FAMILY)|ALTER OPERATOR FAMILY|CREATE CAST|CREATE TRANSFORM|CREATE"
    r" (DEFAULT )?CONVERSION|"
    r"CREATE ACCESS METHOD|CREATE TEXT SEARCH|ALTER TEXT SEARCH|CREATE COLLATION|CREATE FOREIGN"
    r" DATA WRAPPER|CREATE SERVER|"
    r"CREATE USER MAPPING)\b"
)
BOTH = re.compile(r"(SET|SELECT PG_CATALOG\.SET_CONFIG)\b")
# Objects of which only a superuser may be the owner: made when roles have got back what they had.
LATER = re.compile(r"ALTER (FOREIGN DATA WRAPPER|EVENT TRIGGER|PUBLICATION|SUBSCRIPTION)\b")


def make(hands: Hands, database: str, script: Path, runner: Runner) -> list[bytes]:
    """Run pg_restore's script of definitions; return the statements that have to wait.

    They wait until superusers are superusers again.

    Raises psycopg's errors as they come.
    """
    later: list[bytes] = []
    with (
        hands.server.connect(database) as superuser,
        hands.make(database) as maker,
        runner.ending(lambda: superuser.cancel_safe(timeout=2.0)),
        runner.ending(lambda: maker.cancel_safe(timeout=2.0)),
    ):
        for one in statements(script.read_bytes()):
            text = one.text.encode("latin-1")
            if LATER.match(one.verb):
                later.append(text)
            elif BOTH.match(one.verb) and not SUPERUSERS.match(one.verb):
                _run(superuser, text)
                _run(maker, text)
            else:
                _run(superuser if is_superusers(one) else maker, text)
    return later


def statements(script: bytes) -> Iterator[Statement]:
    """Yield the statements of a script in any encoding.

    It is read byte by byte, for keywords and quotes are ASCII in all that a server may have.
    """
    text = script.decode("latin-1")
    # psql's own commands, by a word that nothing in between can hold
    if match := RESTRICT.search(text):
        text = text.replace(f"\\restrict {match[1]}\n", "", 1).replace(
            f"\\unrestrict {match[1]}\n", "", 1
        )
    yield from split(text)


def is_superusers(one: Statement) -> bool:
    """Return whether the superuser runs it: it wants one, or may, and evaluates nothing."""
    return bool(SUPERUSERS.match(one.verb) or OWNER.fullmatch(one.bare))


def _run(connection: psycopg.Connection, text: bytes) -> None:
    result = connection.pgconn.exec_params(text, None)
    if result.status not in (
        psycopg.pq.ExecStatus.COMMAND_OK,
        psycopg.pq.ExecStatus.TUPLES_OK,
        psycopg.pq.ExecStatus.EMPTY_QUERY,
    ):
        raise psycopg.errors.error_from_result(result, encoding="utf-8")
