"""Tables whose code outlived a timeout: they are asked once, and by no other check after that.

Each question would cost the whole timeout once more, and the grace of one that refuses to be
cancelled. A table on which nobody's code stands is asked again: one question may take long, and the
next may not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg

from pgdrill.postgres.foreign_code import foreign_code

if TYPE_CHECKING:
    from pgdrill.checks.base import Context

WORDS = "not asked again: code that stands on it outlived drill.statement_timeout_seconds"
# A question is cancelled for its time, or its session terminated when that did not help. Another
# table's code in the same session may end it as well.
ENDED = (psycopg.errors.QueryCanceled, psycopg.errors.AdminShutdown)


class NotAskedAgain(psycopg.errors.QueryCanceled):
    """Raised instead of asking a table whose code would outlive the question, too."""


@contextlib.contextmanager
def asked_once(context: Context, database: str, table: int) -> Iterator[None]:
    """Ask a table (by oid) inside this block, and note it if that takes too long.

    Raises :class:`NotAskedAgain` where it took too long before.
    """
    if (database, table) in context.cache.outlived:
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
            context.cache.outlived.add((database, table))
