"""Tables whose code outlived a timeout: asked once, and by no other check after that.

Each question would cost the whole timeout once more, and the grace of one that refuses to be
cancelled. A table on which nobody's code stands is asked again: one question may take long, and the
next may not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg

from pgdrill.checks.base import Context
from pgdrill.postgres.foreign_code import foreign_code

KEY = "outlived"
WORDS = "not asked again: code that stands on it outlived drill.statement_timeout_seconds"
# Cancelled for its time, or terminated when that did not help; and another's code in the same
# session may end it as well.
ENDED = (psycopg.errors.QueryCanceled, psycopg.errors.AdminShutdown)


class NotAskedAgain(psycopg.errors.QueryCanceled):
    """Instead of a question to a table whose code would outlive it, too."""


@contextlib.contextmanager
def asked_once(context: Context, database: str, table: int) -> Iterator[None]:
    """While inside, a table (by oid) is asked; raises :class:`NotAskedAgain` instead where that
    took too long before.
    """
    known: set[tuple[str, int]] = context.memo.setdefault(KEY, set())
    if (database, table) in known:
        raise NotAskedAgain(WORDS)
    try:
        yield
    except ENDED:
        note(context, database, table)
        raise


def note(context: Context, database: str, table: int) -> None:
    """Remember that a question to this table was ended, if somebody's code stands on it."""
    with contextlib.suppress(psycopg.Error), context.system(database) as connection:
        if foreign_code(connection, [table]):
            context.memo.setdefault(KEY, set()).add((database, table))
