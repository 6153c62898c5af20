"""Proof of the tool's own path.

It fetches some segments as well, and they are compared byte for byte.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pgdrill.errors import PgdrillError
from pgdrill.host.process import Stopped
from pgdrill.host.tuning import cores
from pgdrill.recovery.wal_prefetch.fetcher import differs
from pgdrill.recovery.wal_prefetch.order import Order
from pgdrill.recovery.wal_prefetch.tool import Tool
from pgdrill.recovery.wal_prefetch.writer import same_content
from pgdrill.repository.asked_again import Absent

TRIES = 2  # a connection that breaks once is no difference


class Sampling:
    """Comparisons in the background. ``halt`` is called with what is wrong."""

    def __init__(self, tool: Tool, folder: Path, halt: Callable[[PgdrillError], None]) -> None:
        self.tool, self.folder, self._halt = tool, folder, halt
        self.compared = 0
        self._threads = cores()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="sample")
        self._lock = threading.Lock()
        self._waiting = 0
        self._begun: set[int] = set()
        folder.mkdir(mode=0o700, parents=True)

    def chosen(self, order: Order, number: int) -> bool:
        """Return whether this segment is one to compare, and is so for the first time.

        Recovery may want it again. A tool that is too slow for its share is asked for fewer; the
        first and the last are always compared.
        """
        with self._lock:
            if number in self._begun or not order.is_sample(number):
                return False
            if self._waiting >= self._threads and number not in (order.first, order.last):
                return False
            self._begun.add(number)
        return True

    def forget(self, number: int) -> None:
        """Forget that a segment was chosen: it was not read after all."""
        with self._lock:
            self._begun.discard(number)

    def copy_of(self, name: str) -> Path:
        """Return where the copy to compare with is written."""
        return self.folder / name

    def compare(self, name: str, thing: str) -> None:
        """Fetch with the tool and compare with the copy, later."""
        with self._lock:
            self._waiting += 1
        self._pool.submit(self._compare, name, thing)

    def settle(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(wait=True)

    def _compare(self, name: str, thing: str) -> None:
        copy = self.copy_of(name)
        try:
            for attempt in range(1, TRIES + 1):
                try:
                    with self.tool.fetched(name, patient=True) as file:
                        if not same_content(file, copy):
                            self._halt(
                                differs(
                                    name,
                                    thing,
                                    f"{file.stat().st_size} other bytes from"
                                    f" {self.tool.order.tool.name}",
                                )
                            )
                        break
                except Absent:
                    self._halt(
                        differs(
                            name, thing, f"{self.tool.order.tool.name} says there is no such file"
                        )
                    )
                    break
                except PgdrillError as error:
                    if attempt == TRIES:
                        self._halt(error)
                except Stopped:
                    return
            with self._lock:
                self.compared += 1
        finally:
            copy.unlink(missing_ok=True)
            with self._lock:
                self._waiting -= 1
