"""Asking, before a query is made of a table of production, whose functions it would run.

The table is locked first, as any reader locks it, so that nobody can put a view in its place or
alter it. Then the catalogs are asked, on a connection of their own: a snapshot would show them as
they were, and the planner sees them as they are. That lock lets indexes and statistics be added, so
each statement looks again, right before it is planned.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pgdrill.postgres.foreign_code import changing, foreign_code, hold

OID = (
    "SELECT c.oid::int8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE"
    " n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'm')"
)
PATIENCE_SECONDS = 2.0
POLL_SECONDS = 0.05  # no event tells of another session's locks
ADDED = """
SELECT ARRAY(SELECT indexrelid FROM pg_index WHERE indrelid = %(table)s ORDER BY 1)::text
       || ARRAY(SELECT oid FROM pg_statistic_ext WHERE stxrelid = %(table)s ORDER BY 1)::text
"""


class RunsCode(Exception):
    """A query would run somebody's function; the words say whose."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Asks whose functions queries of a table would run."""

    # an autocommit connection to the server that another connection reads in a transaction
    catalogs: psycopg.Connection
    _known: dict[int, str] = field(default_factory=dict)

    def why_not(self, reading: psycopg.Connection, schema: str, table: str, oid: int) -> str:
        """Return in words whose function a query of the table would run; empty if nobody's.

        Holds the table until the transaction ends. Raises ``UndefinedTable`` where another relation
        has that name by now.
        """
        hold(reading, schema, table)
        found = self.catalogs.execute(OID, (schema, table)).fetchone()
        if found is None or found[0] != oid:
            raise psycopg.errors.UndefinedTable(f"{schema}.{table} is another relation now")
        self._known[oid] = self._added(oid)
        return self._asked(oid)

    def _asked(self, oid: int) -> str:
        """Ask for a table's foreign code; whoever is changing the table gets a moment to end."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while changing(self.catalogs, [oid]) and time.monotonic() < ends:
            time.sleep(POLL_SECONDS)
        return foreign_code(self.catalogs, [oid]).get(oid, "")

    @contextlib.contextmanager
    def watching(self, reading: psycopg.Connection, oid: int) -> Iterator[None]:
        """Have statements inside this block look first whether anything was added to the table.

        This is for every statement on the connection ``reading``. Raises :class:`RunsCode` instead
        of making a query that would run somebody's function.
        """

        def look() -> None:
            if changing(self.catalogs, [oid]) or self._added(oid) != self._known.get(oid):
                self._known[oid] = self._added(oid)
                if why := self._asked(oid):
                    raise RunsCode(why)

        factory, reading.cursor_factory = reading.cursor_factory, _looking(look)
        try:
            yield
        finally:
            reading.cursor_factory = factory

    def _added(self, oid: int) -> str:
        row = self.catalogs.execute(ADDED, {"table": oid}).fetchone()
        return str(row[0]) if row else ""


def _looking(look: Callable[[], None]) -> type[psycopg.Cursor[Any]]:
    class Looking(psycopg.Cursor[Any]):
        def execute(self, *args: Any, **more: Any) -> Looking:
            look()
            return super().execute(*args, **more)

        def copy(self, *args: Any, **more: Any) -> Any:
            look()
            return super().copy(*args, **more)

    return Looking
