"""Comparing with the baseline. Whatever prevents it is told, and is never a pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psycopg

from pgdrill.baseline import Baseline, DatabaseState, every_database
from pgdrill.checks.base import Context, Outcome
from pgdrill.postgres.session import SYSTEM_PATH

Ask = Callable[[psycopg.Connection, str, DatabaseState], Iterator[Outcome]]


def each_database(
    context: Context, what: str, ask: Ask, *, rows: bool = False
) -> Iterator[Outcome]:
    """Ask of every recorded database's catalogs, or of its ``rows``, and yield the answers.

    A database that is missing is a failure, unless production dropped it.
    """
    if (baseline := comparable(context)) is None:
        yield Outcome("skip", what, message=why_not(context))
        return
    there = databases_there(context)
    for name, state in baseline.databases.items():
        if name in there:
            with reading(context, name, rows=rows) as connection:
                yield from ask(connection, name, state)
        elif baseline.database_forms_later is None or name in baseline.database_forms_later:
            yield Outcome("fail", name, "no such database", f"{what} as recorded")


@contextlib.contextmanager
def reading(context: Context, database: str, *, rows: bool = True) -> Iterator[psycopg.Connection]:
    """Yield a session for a database's rows, or for its catalogs.

    Its search path is the system's alone, as on production, so that nobody's function fits better.
    """
    with (context.connect if rows else context.system)(database) as connection:
        connection.execute(f"SET search_path = {SYSTEM_PATH}")
        yield connection


def comparable(context: Context) -> Baseline | None:
    """Return the baseline, if the restored server can be compared with it."""
    return None if why_not(context) else context.baseline


def why_not(context: Context) -> str:
    """Return the reason why there is nothing to compare with; empty if there is."""
    if context.baseline is None:
        return "no baseline to compare with"
    recorded = context.baseline.major_version
    with context.system() as connection:
        row = connection.execute("SHOW server_version").fetchone()
    found = str(row[0]).split(".", maxsplit=1)[0] if row else ""
    return (
        ""
        if found == recorded
        else f"the baseline is of PostgreSQL {recorded}, the server of {found}: not comparable"
    )


def databases_there(context: Context) -> set[str]:
    """Return the databases that the restored server has and lets in."""
    with context.system() as connection:
        return set(every_database(connection))
