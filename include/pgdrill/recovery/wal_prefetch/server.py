"""The process that fetches ahead: threads that fill the spool, and one that listens to recovery.

Recovery's side (``spool.sh``) writes ``took NAME`` and ``want NAME`` into the FIFO ``asked``; a
``want`` is answered in the FIFO ``answers`` with ``NAME here``, ``NAME absent`` (the tool's own
word) or ``NAME stop``. Whatever runs in the restored server may write there as well, and into the
spool: this process has the keys, and takes from there nothing but names of WAL files. The drill's
side is told by JSON lines on stdout, and ends this process by a line, or an end, on stdin.
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

from pgdrill.errors import CouldNotVerify, PgdrillError
from pgdrill.host.process import Stopped
from pgdrill.host.tuning import cores
from pgdrill.postgres.wal import ASKED_NAME, HISTORY_NAME, SEGMENT_NAME, Segment
from pgdrill.recovery.wal_prefetch.fetcher import Fetcher, NoRoom, spool_full
from pgdrill.recovery.wal_prefetch.histories import Histories
from pgdrill.recovery.wal_prefetch.lines import Lines
from pgdrill.recovery.wal_prefetch.order import Order
from pgdrill.recovery.wal_prefetch.page_check import Origin
from pgdrill.recovery.wal_prefetch.reader import Reader
from pgdrill.recovery.wal_prefetch.spool import Spool
from pgdrill.recovery.wal_prefetch.state import Desk
from pgdrill.recovery.wal_prefetch.tablespaces import Barred, TablespaceWatch
from pgdrill.recovery.wal_prefetch.tool import Tool
from pgdrill.recovery.wal_prefetch.tool_comparison import Sampling
from pgdrill.recovery.wal_prefetch.writer import Writer
from pgdrill.repository.asked_again import Absent
from pgdrill.repository.object_store import Storage

logger = logging.getLogger(__name__)

REQUESTS_AT_ONCE = 8  # a store's answer takes longer than decoding it
BULK_SEGMENTS = 16  # for one process of the tool: many enough that its start does not count
TELL_SECONDS = 0.5
STDIN = 0


class Prefetcher:
    """The prefetcher of one order.

    ``asked``, ``answers`` and ``spool`` are descriptors that were opened before the server's start.
    """

    def __init__(
        self, order: Order, asked: int, answers: int, spool: int, environment: Mapping[str, str]
    ) -> None:
        incoming = Path(order.incoming)
        self.order, self._asked, self._incoming = order, asked, incoming
        self.spool = Spool(Path(order.spool), spool, order.owner)
        storage = Storage.open(
            order.url, environment, endpoint_url=order.endpoint_url, region=order.region
        )
        origin = Origin(order.system_identifier, order.major_version, order.timelines)
        writer = Writer(incoming, origin, order.sparse, TablespaceWatch(order, tell_barred))
        self.desk = Desk(order, self.spool, answers, tell)
        self.reader = Reader(order, storage, writer, threading.Semaphore(cores()))
        self.tool = Tool(order, incoming / "tool")
        self.fetcher = Fetcher(order, self.reader, self.tool, writer)
        self.histories = Histories(self.fetcher)
        self.sampling = Sampling(self.tool, incoming / "samples", self.desk.halt)
        self._bulk = BULK_SEGMENTS if self.tool.can_bulk and not order.readable else 1

    def run(self) -> None:
        """Serve until the drill has heard enough. A comparison that has begun is finished."""
        for _ in range(REQUESTS_AT_ONCE if self.order.readable else cores()):
            threading.Thread(target=self._work, daemon=True).start()
        threading.Thread(target=self._errands, daemon=True).start()
        for name in self.histories.expected if self.order.ahead_segments else ():
            threading.Thread(target=self._errand, args=(name,), daemon=True).start()
        self._listen()
        self.desk.close()
        self.sampling.settle()
        tell({"counts": self._figures()})

    def _listen(self) -> None:
        lines, told_at = Lines(), 0.0
        while True:
            readable, _, _ = select.select([self._asked, STDIN], [], [], TELL_SECONDS)
            if STDIN in readable:
                return
            if self._asked in readable:
                for line in lines.feed(os.read(self._asked, 65536)):
                    verb, _, name = line.partition(" ")
                    self._heard(verb, name)
            if time.monotonic() - told_at > TELL_SECONDS:
                told_at = time.monotonic()
                tell({"counts": self._figures()})

    def _heard(self, verb: str, name: str) -> None:
        segment = (
            Segment.parse(name, self.order.segment_bytes) if SEGMENT_NAME.fullmatch(name) else None
        )
        if not ASKED_NAME.fullmatch(name) or (segment and segment.name != name):
            if verb == "want":
                self.desk.refuse(name)
        elif verb == "took" and segment:
            self.desk.took(segment)
        elif verb == "want":
            self.desk.want(name, segment)

    def _work(self) -> None:
        while True:
            numbers = self.desk.work(self._bulk)
            try:
                if len(numbers) > 1:
                    self._together(numbers)
            except (OSError, Barred, Stopped) as error:
                logger.warning("fetching %d segments together: %s", len(numbers), error)
            for number in numbers:  # what that left out, too
                if self.desk.in_work(number):
                    self._one(number)

    def _together(self, numbers: list[int]) -> None:
        choices = [self.order.choices(number) for number in numbers]
        timelines = {segment.timeline for segments in choices for segment in segments}
        if len(timelines) == 1:  # else one by one: a timeline ends among them
            segments = [segments[0] for segments in choices]
            self.fetcher.together(
                segments, lambda segment, file: self.desk.delivered(segment, file, "tool")
            )

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
        except Exception:  # unforeseen: the tool has the last word
            logger.exception("fetching %s", self.order.choices(number)[0].name)
            self.desk.undelivered(number, None)
        finally:
            if sample:
                self.sampling.forget(number)

    def _errands(self) -> None:
        while True:
            self._errand(self.desk.errand())

    def _errand(self, name: str) -> None:
        """Fetch what only the tool can get, and answer."""
        try:
            self._fetch(name)
        except Absent:
            self.desk.answer(name, "absent")
        except NoRoom as error:
            self.desk.answer(name, "stop", spool_full(self._incoming, str(error)))
        except PgdrillError as error:
            self.desk.answer(name, "stop", error)
        except Stopped:
            self.desk.answer(name, "stop")
        except Exception as error:  # unforeseen, for instance what somebody did to the spool
            logger.exception("fetching %s", name)
            self.desk.answer(name, "stop", not_delivered(name, self.spool, error))
        else:
            self.desk.answer(name, "here")

    def _fetch(self, name: str) -> None:
        """Fetch a file by the tool, into the spool."""
        if SEGMENT_NAME.fullmatch(name):
            segment = Segment.parse(name, self.order.segment_bytes)
            self.desk.delivered(segment, self.fetcher.by_tool(segment), "tool")
        elif HISTORY_NAME.fullmatch(name):
            temporary = self._incoming / f"{name}.{threading.get_ident()}"
            temporary.write_bytes(self.histories.content(name))
            self.spool.place(temporary, name)
        else:
            self.spool.place(self.fetcher.other(name), name)

    def _figures(self) -> dict[str, Any]:
        return {
            **asdict(self.desk.counts),
            "compared": self.sampling.compared,
            "read_bytes": self.reader.read_bytes,
        }


def tell_barred(lsn: int, segment: Segment, error: Barred) -> None:
    """Tell the drill where WAL was cut. It is an error only if recovery wanted to go further."""
    tell(
        {
            "barred": {
                "lsn": lsn,
                "segment": segment.name,
                "kind": type(error).__name__,
                **asdict(error.problem),
            }
        }
    )


def tell(what: dict[str, Any]) -> None:
    """Write a line for the drill."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def not_delivered(name: str, spool: Spool, error: Exception) -> CouldNotVerify:
    """Return the error for a file that was or could be fetched, and did not get into the spool."""
    return CouldNotVerify(
        "not-delivered",
        f"{name} for {spool.folder}",
        found=f"{type(error).__name__}: {error}",
        expected="the file in the spool",
        hint=(
            "read the task's log above this line; look for whatever else changes the drill's folder"
        ),
    )
