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
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pgdrill.errors import PgdrillError
from pgdrill.postgres.wal import HISTORY_NAME, SEGMENT_NAME, Segment
from pgdrill.process import Stopped
from pgdrill.storage import Storage
from pgdrill.tuning import cores
from pgdrill.walfetch.desk import Desk
from pgdrill.walfetch.fetcher import Fetcher, NoRoom
from pgdrill.walfetch.files import Writer, deliver
from pgdrill.walfetch.histories import Histories
from pgdrill.walfetch.order import Order
from pgdrill.walfetch.pages import Origin
from pgdrill.walfetch.reader import Absent, Reader
from pgdrill.walfetch.sampling import Sampling
from pgdrill.walfetch.tool import Tool

logger = logging.getLogger(__name__)

REQUESTS_AT_ONCE = 8  # a store's answer takes longer than decoding it
BULK_SEGMENTS = 16  # for one process of the tool: many enough that its start does not count
TELL_SECONDS = 0.5
STDIN = 0


class Prefetcher:
    """Everything of one order."""

    def __init__(self, order: Order, asked: int, answers: int, environment: Mapping[str, str]) -> None:
        spool = Path(order.spool)
        self.order, self.spool, self._asked = order, spool, asked
        storage = Storage.open(order.url, environment, endpoint_url=order.endpoint_url, region=order.region)
        writer = Writer(spool, Origin(order.system_identifier, order.major_version, order.timelines), order.sparse)
        self.desk = Desk(order, answers, tell)
        self.reader = Reader(order, storage, writer, threading.Semaphore(cores()))
        self.tool = Tool(order, spool / "tool")
        self.fetcher = Fetcher(order, self.reader, self.tool, writer)
        self.histories = Histories(self.fetcher)
        self.sampling = Sampling(self.tool, spool / "samples", self.desk.halt)
        self._bulk = BULK_SEGMENTS if self.tool.can_bulk and not order.readable else 1

    def run(self) -> None:
        """Serve until the drill has heard enough; what is being compared then is compared to its end."""
        for _ in range(REQUESTS_AT_ONCE if self.order.readable else cores()):
            threading.Thread(target=self._work, daemon=True).start()
        for name in self.histories.expected:
            self._begin_history(name)
        self._listen()
        self.desk.close()
        self.sampling.settle()
        tell({"counts": self._figures()})

    def _listen(self) -> None:
        rest, told_at = b"", 0.0
        while True:
            readable, _, _ = select.select([self._asked, STDIN], [], [], TELL_SECONDS)
            if STDIN in readable:
                return
            if self._asked in readable:
                *lines, rest = (rest + os.read(self._asked, 65536)).split(b"\n")
                for line in lines:
                    verb, _, name = line.decode(errors="replace").partition(" ")
                    self._heard(verb, name)
            if time.monotonic() - told_at > TELL_SECONDS:
                told_at = time.monotonic()
                tell({"counts": self._figures()})

    def _heard(self, verb: str, name: str) -> None:
        segment = Segment.parse(name, self.order.segment_bytes) if SEGMENT_NAME.fullmatch(name) else None
        if verb == "took" and segment:
            self.desk.took(segment)
        elif verb == "want":
            self.desk.want(name, segment)
            if HISTORY_NAME.fullmatch(name):
                self._begin_history(name)
            elif segment is None:
                self.desk.answer(name, "tool")

    def _work(self) -> None:
        while True:
            numbers = self.desk.work(self._bulk)
            try:
                if len(numbers) > 1:
                    self._together(numbers)
            except (OSError, Stopped) as error:
                logger.warning("fetching %d segments together: %s", len(numbers), error)
            for number in numbers:  # what that left out, too
                if self.desk.in_work(number):
                    self._one(number)

    def _together(self, numbers: list[int]) -> None:
        choices = [self.order.choices(number) for number in numbers]
        timelines = {segment.timeline for segments in choices for segment in segments}
        if len(timelines) == 1:  # else one by one: a timeline ends among them
            segments = [segments[0] for segments in choices]
            self.fetcher.together(segments, lambda segment, file: self.desk.delivered(segment, file, "tool"))

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
                self.desk.delivered(segment, temporary, by)
                return
            self.desk.undelivered(number, None)
        except NoRoom as error:
            self.desk.no_room(number, str(error))
        except PgdrillError as error:
            self.desk.undelivered(number, error)
        except Stopped:
            self.desk.undelivered(number, None)
        except Exception:  # unforeseen: the tool, run by recovery itself, has the last word
            logger.exception("fetching %s", self.order.choices(number)[0].name)
            self.desk.undelivered(number, None)
        finally:
            if sample:
                self.sampling.forget(number)

    def _begin_history(self, name: str) -> None:
        threading.Thread(target=self._history, args=(name,), daemon=True).start()

    def _history(self, name: str) -> None:
        try:
            content = self.histories.content(name)
            temporary = self.spool / f"{name}.tmp"
            temporary.write_bytes(content)
            deliver(temporary, self.spool / name)
        except Absent:
            self.desk.answer(name, "absent")
        except PgdrillError as error:
            self.desk.answer(name, "stop", error)
        except (OSError, Stopped) as error:
            logger.warning("%s: %s", name, error)
            self.desk.answer(name, "tool")
        else:
            self.desk.answer(name, "here")

    def _figures(self) -> dict[str, Any]:
        return {**asdict(self.desk.counts), "compared": self.sampling.compared, "read_bytes": self.reader.read_bytes}


def tell(what: dict[str, Any]) -> None:
    """A line for the drill."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
