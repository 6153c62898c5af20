"""Timeline histories: recovery asks for them again and again, and they are fetched once."""

from __future__ import annotations

import threading
import time

from pgdrill.recovery.wal_prefetch.fetcher import Fetcher
from pgdrill.repository.asked_again import Absent

ABSENT_SECONDS = 60.0  # as long the tool's word for "no such file" holds
MOST = 1000  # of names remembered: more timelines than any recovery asks for


class Histories:
    """The histories that are known, and those that are absent, by the tool's word."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher = fetcher
        self._lock = threading.Lock()
        self._found: dict[str, bytes] = {}
        self._absent: dict[str, float] = {}

    @property
    def expected(self) -> tuple[str, ...]:
        """The names of the histories that recovery will ask for.

        They are that of the target's timeline, and the next one's: recovery looks for a free number
        at its end.
        """
        timeline = self.fetcher.order.timeline
        return tuple(f"{number:08X}.history" for number in (timeline, timeline + 1) if number > 1)

    def content(self, name: str) -> bytes:
        """Return a history from memory, or fetch it.

        Raises :class:`Absent`, or a :class:`pgdrill.errors.PgdrillError`.
        """
        with self._lock:
            if name in self._found:
                return self._found[name]
            if time.monotonic() - self._absent.get(name, -ABSENT_SECONDS) < ABSENT_SECONDS:
                raise Absent(name)
            if len(self._found) + len(self._absent) >= MOST:
                self._found.clear()
                self._absent.clear()
            try:
                self._found[name] = self.fetcher.history(name)
            except Absent:
                self._absent[name] = time.monotonic()
                raise
            return self._found[name]
