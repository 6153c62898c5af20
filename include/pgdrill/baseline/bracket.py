"""Two snapshots of every database, one right before the restore point and one right after it.

They can be read at leisure. Nobody can read a database at the very instant of a restore point. What
both snapshots see was there; what only the first one sees may have been. Between them lie
milliseconds (with a standby: the time that it takes to replay).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from pgdrill.baseline.database import Looked
from pgdrill.baseline.kept import Place, filled_anew, keep, release
from pgdrill.baseline.production import Production, wait_replayed
from pgdrill.host.process import Runner

logger = logging.getLogger(__name__)

ANNOUNCED_SECONDS = 3.0
POLL_SECONDS = 0.002
# Finds the sessions whose transaction may be committed in WAL already. One that waits for its
# client or for a lock (ours, maybe) is none of them. A prepared one has no session of its own.
COMMITTING = """
SELECT array_agg(pid || ' ' || coalesce(backend_xid::text, 'prepared'))
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND (
  backend_xid IS NOT NULL AND coalesce(state, '') NOT LIKE 'idle%'
    AND wait_event_type IS DISTINCT FROM 'Lock'
  OR state = 'active' AND query ~* '^\\s*commit\\s+prepared')
"""


@dataclass
class Pair:
    """A database's two snapshots, and what holds them."""

    before: psycopg.Connection
    after: psycopg.Connection
    held: contextlib.ExitStack
    kept: list[Place] = field(default_factory=list)

    def release(self) -> None:
        """Let production have the tables that were kept from it."""
        if self.kept:
            release((self.before, self.after))
            self.kept = []


@dataclass
class Bracket:
    """The snapshots by database."""

    production: Production
    looked: Mapping[str, Looked]
    pairs: dict[str, Pair] = field(default_factory=dict)
    # every transaction below had ended before the first snapshot, or had not by the second
    oldest_xid: int = 0
    ended_at: float = 0.0
    _running: str = ""

    def begin(self, primary: psycopg.Connection) -> None:
        """Take the first snapshots.

        Before that, lock the tables that are truncated all the time, so that nobody can truncate
        them any more.
        """
        # On a standby, the process that replays a TRUNCATE would not wait long.
        if not self.production.access.has_standby:
            for name, pair in self.pairs.items():
                self._keep(name, pair)
        self._running = _snapshot(primary)
        self.production.follow(primary)
        for pair in self.pairs.values():
            _snapshot(pair.before)

    def _keep(self, name: str, pair: Pair) -> None:
        with self.production.unless_dropped(name), self.production.connection(name) as connection:
            places = (
                filled_anew(connection, self.looked[name].listed) if name in self.looked else []
            )
        pair.kept = keep((pair.before, pair.after), places)

    def end(self, primary: psycopg.Connection) -> None:
        """Take the second snapshots; the restore point has been made."""
        if self.production.access.has_standby:
            row = primary.execute(
                "SELECT pg_logical_emit_message(true, 'pgdrill', 'baseline')::text"
            ).fetchone()
            with self.production.connection(standby=True) as standby:
                wait_replayed(standby, str(row[0]) if row else "0/0", self.production.runner)
        wait_announced(primary, self.production.runner)
        for pair in self.pairs.values():
            _snapshot(pair.after)
        self.oldest_xid, self.ended_at = (
            settled_below(self._running, _snapshot(primary)),
            time.monotonic(),
        )

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Pair | None]:
        """Yield a database's snapshots, and give them up afterwards.

        None if it was dropped before they were taken.
        """
        pair = self.pairs.pop(name, None)
        if pair is None:
            yield None
            return
        with pair.held:
            yield pair


@contextlib.contextmanager
def bracket(
    production: Production, looked: Mapping[str, Looked], names: Sequence[str]
) -> Iterator[Bracket]:
    """Yield connections for both snapshots, none of which is taken yet."""
    made = Bracket(production, looked)
    with contextlib.ExitStack() as every:
        for name in names:
            with production.unless_dropped(name), contextlib.ExitStack() as held:
                before, after = (held.enter_context(production.snapshot(name)) for _ in range(2))
                made.pairs[name] = Pair(before, after, held.pop_all())
                every.push(made.pairs[name].held)
        yield made


def _snapshot(connection: psycopg.Connection) -> str:
    row = connection.execute("SELECT pg_current_snapshot()::text").fetchone()
    return str(row[0]) if row else ""


def wait_announced(
    primary: psycopg.Connection, runner: Runner, seconds: float = ANNOUNCED_SECONDS
) -> bool:
    """Wait until transactions that may have committed in WAL can be seen, too.

    A commit is written first, flushed to the disk (and to synchronous standbys), and then
    announced. So a restored server may have it though no snapshot of that moment shows it. Return
    False if they are not seen within ``seconds``.
    """
    ends, at_work = time.monotonic() + seconds, _committing(primary)
    while at_work:
        if time.monotonic() > ends:
            logger.warning(
                "%d transactions were at work all the while; what they write is taken for not"
                " committed",
                len(at_work),
            )
            return False
        runner.check()
        time.sleep(POLL_SECONDS)
        at_work &= _committing(primary)
    return True


def _committing(primary: psycopg.Connection) -> set[str]:
    row = primary.execute(COMMITTING).fetchone()
    return set(row[0] or ()) if row else set()


def settled_below(before: str, after: str) -> int:
    """Return the first transaction that may have ended between two snapshots.

    They are given in PostgreSQL's words (``xmin:xmax:running,…``). A snapshot does not name
    subtransactions, but theirs are higher numbers than their transaction's.
    """
    _, newest, running = before.split(":")
    ended = set(filter(None, running.split(","))) - set(after.split(":")[2].split(","))
    return min(map(int, {newest, *ended}))
