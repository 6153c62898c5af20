"""The meeting point of recovery and the threads that fetch.

It knows what lies ready, what is asked for, and what is answered.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pgdrill.errors import CouldNotVerify, PgdrillError
from pgdrill.postgres.wal import Segment
from pgdrill.recovery.wal_prefetch.fetcher import By, spool_full
from pgdrill.recovery.wal_prefetch.order import Order
from pgdrill.recovery.wal_prefetch.spool import Spool
from pgdrill.recovery.wal_prefetch.window import Window

logger = logging.getLogger(__name__)

SPARE_READY = 8  # beyond what may lie ready: recovery that goes back finds what it left


@dataclass(slots=True)
class Counts:
    """Figures for the report.

    ``waited_seconds``: how long recovery waited for files that were not there yet;
    ``reading_seconds``: how long at least one file was on its way.
    """

    segments: int = 0
    by_reader: int = 0
    by_tool: int = 0
    waited_seconds: float = 0.0
    reading_seconds: float = 0.0
    reading_cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """The file that recovery waits for; ``segment`` None: another kind of file."""

    name: str
    segment: Segment | None
    since: float


class Desk:
    """All state of a prefetcher, behind one lock. ``tell`` is given what the drill has to know."""

    def __init__(
        self, order: Order, spool: Spool, answers: int, tell: Callable[[dict[str, Any]], None]
    ) -> None:
        self.order, self.spool = order, spool
        self.counts = Counts()
        self._answers, self._tell = answers, tell
        self._window = Window(order.first, order.last, order.ahead_segments)
        self._changed = threading.Condition()
        self._ready: dict[int, Segment] = {}
        self._asked: Asked | None = None
        self._errand = ""
        self._unread = self._refused = False
        self._halted = self._over = False
        self._busy_since: float | None = None
        self._cpu = time.process_time()

    # --- recovery ---

    def took(self, segment: Segment) -> None:
        """Note that recovery has this segment now, or says so."""
        with self._changed:
            for there in (self._ready.pop(segment.number, segment), segment):
                self.spool.remove(there.name)
            self._window.taken(segment.number)
            self._changed.notify_all()

    def want(self, name: str, segment: Segment | None) -> None:
        """Note that recovery waits for this file. The tool is sent for what is no segment."""
        with self._changed:
            self._asked = Asked(name, segment, time.monotonic())
            if self._halted:
                self._say("stop")
            elif segment:
                self._want(segment)
            else:
                self._send()

    def refuse(self, name: str) -> None:
        """Stop recovery for a request that it never makes: somebody else does."""
        with self._changed:
            self._asked = Asked(name, None, time.monotonic())
            if not self._refused:
                self._fault(
                    CouldNotVerify(
                        "strange-request",
                        f"the restored server in {self.spool.folder.parent}",
                        found=f"a request for {name!r}",
                        expected="requests for WAL alone",
                        hint=(
                            "look for code in the cluster that acts by itself, and at its"
                            " server's log"
                        ),
                    )
                )
            self._refused = True
            self._say("stop")

    def answer(self, name: str, word: str, error: PgdrillError | None = None) -> None:
        """Answer if that is what recovery waits for.

        An error that stops it is told to the drill first.
        """
        with self._changed:
            if self._asked and self._asked.name == name:
                if error:
                    self._fault(error)
                self._say(word)

    def halt(self, error: PgdrillError) -> None:
        """Deliver nothing more, for the tool and the repository disagree.

        What lies ready is taken away.
        """
        with self._changed:
            self._halted = True
            for segment in self._ready.values():
                self.spool.remove(segment.name)
            self._fault(error)
            self._say("stop")

    def close(self) -> None:
        """Let nothing more be fetched."""
        with self._changed:
            self._over = True

    # --- the threads that fetch ---

    def errand(self) -> str:
        """Wait for a file that only the tool can get, and return its name."""
        with self._changed:
            while self._halted or self._over or not self._errand:
                self._changed.wait()
            name, self._errand = self._errand, ""
            return name

    def work(self, most: int) -> list[int]:
        """Wait for something to fetch: neighbours, up to ``most``.

        The one that recovery needs next comes alone.
        """
        with self._changed:
            while self._halted or self._over or not (numbers := self._window.next(most)):
                self._changed.wait()
            self._time()
            if numbers[0] in (self.order.first, self._waits_for()):
                self._window.busy.difference_update(numbers[1:])
                self._changed.notify_all()
                return numbers[:1]
            return numbers

    def in_work(self, number: int) -> bool:
        """Return whether a segment is begun and neither delivered nor given up."""
        with self._changed:
            return number in self._window.busy

    def delivered(self, segment: Segment, temporary: Path, by: By) -> None:
        """Give a whole file its name: from now on recovery takes it."""
        with self._changed:
            if self._halted or self._over:
                temporary.unlink()
                return
            self.spool.place(temporary, segment.name)
            self._ready[segment.number] = segment
            self._keep_within(segment.number)
            self._window.done(segment.number, ready=True)
            self._time()
            self.counts.segments += 1
            self.counts.by_reader += by == "reader"
            self.counts.by_tool += by == "tool"
            if self._waits_for() == segment.number:
                self._say_of(segment)
            self._changed.notify_all()

    def undelivered(self, number: int, error: PgdrillError | None) -> None:
        """Note that a segment is not to be had.

        ``error`` None: there is no such file, as far as the reader knows; the tool has the last
        word.
        """
        with self._changed:
            self._window.done(number, ready=False)
            self._time()
            if self._waits_for() != number:
                return  # recovery may never get that far; if it does, it is tried again
            if error:
                self._fault(error)
                self._say("stop")
            else:
                self._send()

    def no_room(self, number: int, found: str) -> None:
        """Keep less ready, for the disk is full.

        It is an error only if not even this one fits, and recovery needs it.
        """
        with self._changed:
            if number not in (self._waits_for(), self._window.position):
                self._window.postpone(number)
                return
            furthest = max((other for other in self._ready if other != number), default=None)
            if furthest is not None:
                self._drop(furthest)
                self._window.postpone(furthest)
                self._window.busy.discard(number)  # and again
                self._changed.notify_all()
                return
        self.undelivered(number, spool_full(self.spool.folder, found))

    # --- under the lock ---

    def _time(self) -> None:
        """Count the seconds since the last time, if any segment was on its way in them."""
        now = time.monotonic()
        if self._busy_since is not None:
            self.counts.reading_seconds += now - self._busy_since
            self.counts.reading_cpu_seconds = time.process_time() - self._cpu
        self._busy_since = now if self._window.busy else None

    def _want(self, segment: Segment) -> None:
        number, there = segment.number, self._ready.get(segment.number)
        if segment not in self.order.choices(number):
            self._send()
            return
        if there and not self.spool.holds(there.name):
            self._ready.pop(number)  # taken without a word
            self._window.ready.discard(number)
            there = None
        self._window.wanted(number)
        if there:
            self._say_of(there)
        self._changed.notify_all()

    def _waits_for(self) -> int | None:
        return self._asked.segment.number if self._asked and self._asked.segment else None

    def _say_of(self, there: Segment) -> None:
        """Answer that a segment is here, or send the tool where recovery waits for another file.

        Where a timeline ends, the file of the other one may be there: recovery asks for that next.
        """
        if self._asked and self._asked.name == there.name:
            self._say("here")
        else:
            self._send()

    def _send(self) -> None:
        """Have the tool fetch what recovery waits for."""
        self._errand = self._asked.name if self._asked else ""
        self._changed.notify_all()

    def _keep_within(self, number: int) -> None:
        """Drop the furthest segments beyond what may lie ready, but not this one.

        Somebody who asks for one segment after the other and takes none could fill the disk.
        """
        while len(self._ready) > self.order.ahead_segments + SPARE_READY:
            self._drop(max(other for other in self._ready if other != number))

    def _drop(self, number: int) -> None:
        self.spool.remove(self._ready.pop(number).name)
        self._window.ready.discard(number)

    def _say(self, word: str) -> None:
        if self._asked is None:
            return
        self.counts.waited_seconds += time.monotonic() - self._asked.since
        try:
            os.write(self._answers, f"{self._asked.name} {word}\n".encode())
        except BlockingIOError:  # full of answers that nobody read
            if not self._unread:
                logger.warning("nobody reads the answers")
            self._unread = True
        self._asked = None

    def _fault(self, error: PgdrillError) -> None:
        self._tell({"fault": {"kind": type(error).__name__, **asdict(error.problem)}})
