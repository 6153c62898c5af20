"""The thread that writes one cluster's heartbeats."""

from __future__ import annotations

import logging
import threading

from pgdrill.access import Access
from pgdrill.baseline.heartbeat import TABLE, keep_beating
from pgdrill.errors import PgdrillError

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 30.0  # what a person has to mend first


def writes_here(access: Access) -> bool:
    """Return whether the heartbeats are ours to write: an application's column is its own."""
    return access.cluster.drill.heartbeat.split(".")[1:2] == [TABLE]


class Beating:
    """Writes heartbeats until it is told to stop, through restarts, failovers and a table that is
    not there yet.
    """

    def __init__(self, access: Access, every_seconds: float) -> None:
        self.access = access
        self.every_seconds = min(every_seconds, access.cluster.drill.heartbeat_seconds)
        self.stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"beat-{access.cluster.name}", daemon=True
        )

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait so long for its end; return whether it has ended."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self.stopped.is_set():
            try:
                keep_beating(self.access, self.every_seconds, self.stopped)
            except PgdrillError as error:
                logger.warning("cluster %s: no heartbeat: %s", self.access.cluster.name, error)
            except Exception:
                logger.exception("cluster %s: a heartbeat broke", self.access.cluster.name)
            self.stopped.wait(AGAIN_SECONDS)
