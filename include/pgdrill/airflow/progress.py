"""A long step's progress in the task's log: a line now and then instead of silence."""

from __future__ import annotations

import logging
import time
from typing import Any

EVERY_SECONDS = 30.0


class ProgressLog:
    """Called by the library about once a second with what it does, bytes done and bytes in all (0:
    not known).
    """

    def __init__(self, logger: logging.Logger | Any, every_seconds: float = EVERY_SECONDS) -> None:
        self.logger = logger
        self.every_seconds = every_seconds
        self._started = self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Log if the last line is old enough."""
        now = time.monotonic()
        if now - self._last < self.every_seconds:
            return
        self._last = now
        if not done:  # WAL that a tool fetches by itself: of movement is known, of volume not
            self.logger.info("%s goes on after %.0f s", what, now - self._started)
        elif what.startswith("build "):
            self.logger.info(
                "%s: %d of %d rows (%.0f %%)", what, done, total, 100 * done / max(1, total)
            )
        elif total:
            self.logger.info(
                "%s: %.0f of %.0f MB (%.0f %%)", what, done / 1e6, total / 1e6, 100 * done / total
            )
        else:
            self.logger.info("%s: %.0f MB", what, done / 1e6)
