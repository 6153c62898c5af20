"""Sessions that end in the middle of an answer: cut on their way, or by a server that crashed.

A proxy, a network or somebody's order may cut a session, and that says nothing of the data. A
server that crashes over a table's rows is damage. The two are told apart by the server's
checkpointer, which only a server that starts anew has another one of.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

import psycopg

from pgdrill.checks.base import Context, Outcome
from pgdrill.errors import CouldNotVerify

RETURN_SECONDS = 30.0  # for a server that recovers from a crash
POLL_SECONDS = 0.1  # no event tells that it lets in again
NOW = "SELECT pg_catalog.clock_timestamp()"
# A role without pg_read_all_stats sees no checkpointer, and learns of no crash.
STARTED = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity
               WHERE backend_type = 'checkpointer' AND backend_start > %s),
       pg_catalog.clock_timestamp()
"""


@dataclass
class Server:
    """The restored server's life: whether it started anew ``since`` then, by its own clock."""

    context: Context
    database: str
    since: datetime

    @classmethod
    def of(cls, context: Context, database: str, connection: psycopg.Connection) -> Server:
        """Begin to watch the server that the connection leads to."""
        [(now,)] = connection.execute(NOW).fetchall()
        return cls(context, database, now)

    def crashed(self) -> bool:
        """Return True if the server has started anew since, or does not let in any more."""
        ends = time.monotonic() + RETURN_SECONDS
        while (asked := self._started()) is None:
            if time.monotonic() > ends:
                return True
            time.sleep(POLL_SECONDS)
        anew, self.since = asked
        return anew

    def session_ended(self, doing: str, *, by_order: bool = False) -> Outcome:
        """Return the outcome for a session that ended, and took all that was left to ask with it.

        One that was terminated, or cut on its way, says nothing of the data: code that stands on a
        table may outlive every timeout. A server that crashes over it does.
        """
        left = f"while {doing}; the rest was not checked"
        if by_order:
            return Outcome(
                "skip", self.database, message=f"the session was ended by an order {left}"
            )
        if not self.crashed():
            return Outcome("skip", self.database, message=f"the session was cut {left}")
        return Outcome("fail", self.database, "the server ended", "a server that goes on", left)

    def _started(self) -> tuple[bool, datetime] | None:
        """Return whether it started anew, and its clock; None while it lets nobody in."""
        try:
            with self.context.system(self.database) as connection:
                [(anew, now)] = connection.execute(STARTED, (self.since,)).fetchall()
                return anew, now
        except (psycopg.Error, CouldNotVerify):
            return None
