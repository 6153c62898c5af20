"""Sessions that end in the middle of an answer: cut on their way, or by a server that crashed.

A proxy, a network or somebody's order may cut a session, and that says nothing of the data. A
server that crashes over a table's rows is damage. The two are told apart by the server's
checkpointer, which only a server that starts anew has another one of.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import psycopg

from pgdrill.checks.base import Context
from pgdrill.errors import CouldNotVerify

RETURN_SECONDS = 30.0  # for a server that recovers from a crash
POLL_SECONDS = 0.1  # no event tells that it lets in again
STARTED = (
    "SELECT pid, backend_start::text FROM pg_catalog.pg_stat_activity WHERE backend_type ="
    " 'checkpointer'"
)
Life = tuple[object, ...]  # empty for a role without pg_read_all_stats, which cannot see it


@dataclass
class Server:
    """The restored server's life, as it was when the asking began."""

    context: Context
    database: str
    began: Life | None = field(init=False)

    def __post_init__(self) -> None:
        self.began = self._life()

    def crashed(self) -> bool:
        """Return True if the server has started anew since, or does not let in any more."""
        ends = time.monotonic() + RETURN_SECONDS
        while (now := self._life()) is None:
            if time.monotonic() > ends:
                return True
            time.sleep(POLL_SECONDS)
        changed, self.began = now != self.began, now
        return changed

    def _life(self) -> Life | None:
        """Return what tells one life of the server from another; None while it lets nobody in."""
        try:
            with self.context.system(self.database) as connection:
                return connection.execute(STARTED).fetchone() or ()
        except (psycopg.Error, CouldNotVerify):
            return None
