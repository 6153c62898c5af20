"""The process that fetches ahead: threads that fill the spool, and one that listens to recovery.

Recovery's side (``spool.sh``) writes ``took NAME`` and ``want NAME`` into the FIFO ``asked``; a ``want`` is answered
in the FIFO ``answers`` with ``NAME here``, ``NAME absent`` (the tool's own word), ``NAME tool`` (ask the tool) or
``NAME stop``. The drill's side is told by JSON lines on stdout, and ends this process by a line, or an end, on stdin.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pgdrill.errors import PgdrillError
from pgdrill.postgres.wal import HISTORY_NAME, SEGMENT_NAME, Segment
from pgdrill.process import Stopped
from pgdrill.storage import Storage
from pgdrill.walfetch.fetcher import Fetcher, NoRoom, spool_full
from pgdrill.walfetch.files import Writer
from pgdrill.walfetch.order import Order
from pgdrill.walfetch.pages import Origin
from pgdrill.walfetch.reader import Absent, Reader
from pgdrill.walfetch.sampling import Sampling
from pgdrill.walfetch.tool import Tool
from pgdrill.walfetch.window import Window

logger = logging.getLogger(__name__)

REQUESTS_AT_ONCE = 8  # a store's answer takes longer than decoding it
BULK_SEGMENTS = 16  # for one process of the tool; many enough that its start does not count
ABSENT_SECONDS = 60.0  # as long the tool's word for "no such history" holds
TELL_SECONDS = 0.5
STDIN = 0
SWITCH_SECONDS = 0.0005  # the thread that answers recovery must not wait for those that fetch


@dataclass(slots=True)
class Counts:
    """What the report says of it. ``waited_seconds``: recovery's, for files that were not there yet."""

    segments: int = 0
    by_reader: int = 0
    by_tool: int = 0
    compared: int = 0
    read_bytes: int = 0
    waited_seconds: float = 0.0


@dataclass(slots=True)
class Asked:
    """The file that recovery waits for."""

    name: str
    since: float


class Prefetcher:
    """Everything of one order."""

    def __init__(self, order: Order, asked: int, answers: int, environment: dict[str, str]) -> None:
        spool = Path(order.spool)
        self.order, self.spool = order, spool
        self._asked_fd, self._answers_fd = asked, answers
        storage = Storage.open(order.url, environment, endpoint_url=order.endpoint_url, region=order.region)
        self.writer = Writer(spool, Origin(order.system_identifier, order.major_version, order.timelines), order.sparse)
        self.reader = Reader(order, storage, self.writer, threading.Semaphore(len(os.sched_getaffinity(0))))
        self.tool = Tool(order, spool / "tool")
        self.fetcher = Fetcher(order, self.reader, self.tool, self.writer)
        self.sampling = Sampling(self.tool, spool / "samples", self._halt)
        self.window = Window(order.first, order.last, order.ahead_segments)
        self.counts = Counts()
        self._changed = threading.Condition()
        self._ready: dict[int, Segment] = {}
        self._histories: dict[str, bytes | float] = {}  # content, or when the tool said that there is none
        self._asking: Asked | None = None
        self._halted = False
        self._over = False

    def run(self) -> None:
        """Serve until the drill has heard enough."""
        workers = REQUESTS_AT_ONCE if self.order.readable else len(os.sched_getaffinity(0))
        for _ in range(workers):
            threading.Thread(target=self._work, daemon=True).start()
        ahead = [f"{self.order.timeline + 1:08X}.history"]  # recovery looks for a free timeline at its end
        if self.order.timeline > 1:
            ahead.insert(0, f"{self.order.timeline:08X}.history")
        for name in ahead:
            threading.Thread(target=self._history, args=(name,), daemon=True).start()
        self._listen()
        with self._changed:
            self._over = True
        self.sampling.settle()
        self._tell({"counts": self._figures()})

    # --- the thread that listens ---

    def _listen(self) -> None:
        told, rest = "", b""
        while True:
            readable, _, _ = select.select([self._asked_fd, STDIN], [], [], TELL_SECONDS)
            if STDIN in readable:
                return
            if self._asked_fd in readable:
                *lines, rest = (rest + os.read(self._asked_fd, 65536)).split(b"\n")
                for line in lines:
                    verb, _, name = line.decode(errors="replace").partition(" ")
                    self._heard(verb, name)
            figures = self._figures()
            if json.dumps(figures) != told:
                told = json.dumps(figures)
                self._tell({"counts": figures})

    def _heard(self, verb: str, name: str) -> None:
        segment = Segment.parse(name, self.order.segment_bytes) if SEGMENT_NAME.fullmatch(name) else None
        with self._changed:
            if verb == "took" and segment:
                self._ready.pop(segment.number, None)
                self.window.taken(segment.number)
                self._changed.notify_all()
            if verb != "want":
                return
            self._asking = Asked(name, time.monotonic())
            if self._halted:
                self._answer("stop")
            elif HISTORY_NAME.fullmatch(name):
                threading.Thread(target=self._history, args=(name,), daemon=True).start()
            elif segment is None or segment not in self.order.choices(segment.number):
                self._answer("tool")
            else:
                self._want(segment)

    def _want(self, segment: Segment) -> None:
        number, there = segment.number, self._ready.get(segment.number)
        if there and not (self.spool / there.name).exists():
            self._ready.pop(number)  # taken without a word
            self.window.ready.discard(number)
            there = None
        self.window.wanted(number)
        if there:
            self._answer("here" if there == segment else "tool")
        self._changed.notify_all()

    def _answer(self, word: str) -> None:
        """Answer what is asked, under the lock."""
        if self._asking is None:
            return
        self.counts.waited_seconds += time.monotonic() - self._asking.since
        try:
            os.write(self._answers_fd, f"{self._asking.name} {word}\n".encode())
        except BlockingIOError:  # full of answers that nobody read: there is something to wake up with
            logger.warning("nobody reads the answers")
        self._asking = None

    def _is_asked(self, number: int) -> bool:
        name = self._asking.name if self._asking else ""
        return bool(SEGMENT_NAME.fullmatch(name)) and Segment.parse(name, self.order.segment_bytes).number == number

    # --- the threads that fetch ---

    def _work(self) -> None:
        bulk = not self.order.readable and self.tool.can_bulk
        while True:
            with self._changed:
                while self._halted or self._over or not (numbers := self.window.next(BULK_SEGMENTS if bulk else 1)):
                    self._changed.wait()
                alone = self._is_asked(numbers[0]) or numbers[0] == self.order.first
                for number in numbers[1:] if alone else ():
                    self.window.busy.discard(number)
                numbers = numbers[:1] if alone else numbers
                self._changed.notify_all()
            if len(numbers) > 1:
                try:
                    self._together(numbers)
                except OSError:
                    logger.exception("fetching %d segments together", len(numbers))
            for number in numbers:
                if number in self.window.busy:
                    self._one(number)

    def _together(self, numbers: list[int]) -> None:
        segments = [self.order.choices(number) for number in numbers]
        same = [choices[0] for choices in segments if len(choices) == 1 and choices[0].timeline == segments[0][0].timeline]
        if len(same) == len(numbers):  # else one by one: a timeline ends among them
            self.fetcher.together(same, lambda segment, temporary: self._deliver(segment, temporary, "tool"))

    def _one(self, number: int) -> None:
        sample = self.order.readable and self.sampling.chosen(self.order, number)
        try:
            for segment in self.order.choices(number):
                copies = (self.sampling.copy_of(segment.name),) if sample else ()
                try:
                    temporary, by = self.fetcher.segment(segment, *copies)
                except Absent:
                    continue
                if sample and by == "reader":
                    self.sampling.compare(segment.name, self.reader.key_of(segment.name))
                    sample = False
                self._deliver(segment, temporary, by)
                return
            self._undelivered(number, None)
        except NoRoom as error:
            self._no_room(number, str(error))
        except PgdrillError as error:
            self._undelivered(number, error)
        except Stopped:
            self._undelivered(number, None)
        except Exception:  # unforeseen: the tool, run by recovery itself, has the last word
            logger.exception("fetching %s", self.order.choices(number)[0].name)
            self._undelivered(number, None)
        finally:
            if sample:
                self.sampling.forget(number)

    def _deliver(self, segment: Segment, temporary: Path, by: str) -> None:
        with self._changed:
            if self._halted or self._over:
                temporary.unlink()
                return
            self.writer.deliver(temporary, segment.name)
            self._ready[segment.number] = segment
            self.window.done(segment.number, ready=True)
            self.counts.segments += 1
            if by == "reader":
                self.counts.by_reader += 1
            else:
                self.counts.by_tool += 1
            if self._is_asked(segment.number):
                # A file of the other timeline, where one ends, is what recovery asks for next.
                self._answer("here" if self._asking and self._asking.name == segment.name else "tool")
            self._changed.notify_all()

    def _undelivered(self, number: int, error: PgdrillError | None) -> None:
        """None: there is no such file, as far as the reader knows. The last word on that is the tool's."""
        with self._changed:
            self.window.done(number, ready=False)
            if not self._is_asked(number):
                return  # recovery may never get that far; if it does, it is tried again
            if error is None:
                self._answer("tool")
            else:
                self._fault(error)
                self._answer("stop")

    def _no_room(self, number: int, found: str) -> None:
        with self._changed:
            if not self._is_asked(number) and number != self.window.position:
                self.window.postpone(number)
                logger.info("no room for more than %d segments ahead: %s", self.window.ahead, found)
                return
            further = [other for other in sorted(self._ready, reverse=True) if other != number]
            if further:
                last = self._ready.pop(further[0])
                self.window.ready.discard(last.number)
                (self.spool / last.name).unlink(missing_ok=True)
                self.window.postpone(last.number)
                self.window.busy.discard(number)  # and again
                self._changed.notify_all()
                return
        self._undelivered(number, spool_full(self.spool, found))

    def _history(self, name: str) -> None:
        with self._changed:
            known = self._histories.get(name)
        answer = "here"
        try:
            content = self._history_content(name, known)
            temporary = self.spool / f"{name}.tmp"
            temporary.write_bytes(content)
            temporary.rename(self.spool / name)
        except Absent:
            answer = "absent"
        except (PgdrillError, OSError) as error:
            answer = "stop" if isinstance(error, PgdrillError) else "tool"
            with self._changed:
                if isinstance(error, PgdrillError) and self._asking and self._asking.name == name:
                    self._fault(error)
        with self._changed:
            if self._asking and self._asking.name == name:
                self._answer(answer)

    def _history_content(self, name: str, known: bytes | float | None) -> bytes:
        if isinstance(known, float) and time.monotonic() - known < ABSENT_SECONDS:
            raise Absent(name)
        if isinstance(known, bytes):
            return known
        try:
            found = self.fetcher.history(name)
        except Absent:
            with self._changed:
                self._histories[name] = time.monotonic()
            raise
        with self._changed:
            self._histories[name] = found
        return found

    # --- what the drill is told ---

    def _halt(self, error: PgdrillError) -> None:
        """The tool and the repository disagree: nothing more is delivered, and what lies ready is taken away."""
        with self._changed:
            self._halted = True
            for segment in self._ready.values():
                (self.spool / segment.name).unlink(missing_ok=True)
            self._fault(error)
            self._answer("stop")

    def _fault(self, error: PgdrillError) -> None:
        self._tell({"fault": {"kind": type(error).__name__, **asdict(error.problem)}})

    def _figures(self) -> dict[str, Any]:
        with self._changed:
            self.counts.compared = self.sampling.compared
            self.counts.read_bytes = self.reader.read_bytes
            return asdict(self.counts)

    @staticmethod
    def _tell(what: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()
