"""Tablespaces that WAL makes: replay must not make them.

It would link the restored cluster to the very folder that production uses. The path stands in the
record and no setting maps it, so what is delivered ends before such a record: a target before it is
reached, any other is not, and the drill then says why.

Looking for such a record is a comparison of every eighth byte. What looks like one is made sure of
from the header of its page, which says where the page's first record begins: recovery itself goes
by nothing else.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgdrill.errors import CouldNotVerify
from pgdrill.postgres.wal import Segment, format_lsn
from pgdrill.recovery.wal_prefetch.order import Order

RM_TABLESPACE, CREATE, INFO_MASK = 5, 0x00, 0xF0  # access/rmgrlist.h, commands/tablespace.h
WORD = 8  # records begin at multiples of it
SHORT_HEADER, LONG_HEADER = 24, 40  # of pages
# length, transaction, previous record, info, resource manager, checksum
RECORD = struct.Struct("=IIQBBxxI")
# The word of a header that holds info and resource manager, and the masks of their bytes.
KIND_MASK, KIND = (
    np.uint64(int.from_bytes(bytes([*two, 0, 0, 0, 0, 0, 0]), sys.byteorder))
    for two in ((INFO_MASK, 255), (CREATE, RM_TABLESPACE))
)
CONTINUED, LONG = 0x0001, 0x0002  # XLP_FIRST_IS_CONTRECORD, XLP_LONG_HEADER
DATA_SHORT, DATA_LONG, ORIGIN, TOPLEVEL_XID = 255, 254, 253, 252  # access/xlogrecord.h
LONGEST_BYTES = 2048  # of such a record: a path has up to 1024
EDGES_KEPT = 64  # more than may lie ready: recovery may go back

Words = NDArray[np.uint64]


class Barred(CouldNotVerify):
    """WAL that must not be replayed here."""


@dataclass(frozen=True, slots=True)
class Created:
    """The record of a new tablespace. ``path`` None: it goes on where we cannot see it."""

    lsn: int
    previous_lsn: int
    oid: int
    path: str | None


@dataclass(slots=True)
class Scan:
    """A search through one segment for what may be such a record.

    It looks at the pages in use, piece by piece, in order.
    """

    segment: Segment
    page_bytes: int = 0
    candidates: list[int] = field(default_factory=list)
    first_page: bytes = b""
    last_page: bytes = b""
    seen_bytes: int = 0
    # two words with which a header may begin
    tail: Words = field(default_factory=lambda: np.empty(0, np.uint64))
    tail_addresses: list[int] = field(default_factory=list)

    def look(self, pages: memoryview, page_bytes: int) -> None:
        """Look at whole pages."""
        if not len(pages):
            return
        if not self.seen_bytes:
            self.page_bytes, self.first_page = page_bytes, bytes(pages[:page_bytes])
        self.last_page = bytes(pages[-page_bytes:])
        skipped = 0 if self.seen_bytes else (LONG_HEADER - SHORT_HEADER) // WORD
        words = (
            np.frombuffer(pages, np.uint64)
            .reshape(-1, page_bytes // WORD)[:, SHORT_HEADER // WORD :]
            .reshape(-1)
        )
        where, each = self.segment.start_lsn + self.seen_bytes, (page_bytes - SHORT_HEADER) // WORD
        joined, before = np.concatenate([self.tail, words[skipped:]]), len(self.tail)

        def address(index: int) -> int:
            if index < before:
                return self.tail_addresses[index]
            page, word = divmod(index - before + skipped, each)
            return where + page * page_bytes + SHORT_HEADER + word * WORD

        self.candidates += [
            lsn for index, previous in headers(joined) if previous < (lsn := address(index))
        ]
        self.tail_addresses = [
            address(index) for index in range(max(0, len(joined) - 2), len(joined))
        ]
        self.tail = joined[-2:].copy()
        self.seen_bytes += len(pages)

    @property
    def full(self) -> bool:
        """True if its last page is in use, so that a record may go on in the next segment."""
        return self.seen_bytes == self.segment.size_bytes


def headers(words: Words) -> Iterator[tuple[int, int]]:
    """Yield where a header of the kind may stand, and the previous record's LSN by its word.

    ``words`` are records' bytes, without the pages' headers.
    """
    for index in np.flatnonzero((words[2:] & KIND_MASK) == KIND):
        yield int(index), int(words[index + 1])


def created(content: bytes, start_lsn: int, page_bytes: int, lsn: int) -> Created | None:
    """Return the record at ``lsn``, or None if none of the kind begins there.

    ``content``: the page with its beginning and what follows.
    """
    page, place = content[:page_bytes], lsn - start_lsn
    at, continued = _payload(page)
    if at + continued > place or not _begins(page, at + -(-continued // WORD) * WORD, place):
        return None
    record = _following(content, place, page_bytes)
    length, _, previous, info, manager, _ = RECORD.unpack_from(record)
    if (manager, info & INFO_MASK) != (RM_TABLESPACE, CREATE):
        return None
    data = _main_data(record[RECORD.size : length])
    if len(record) < length or len(data) < 4:
        return Created(lsn, previous, 0, None)
    (oid,) = struct.unpack_from("=I", data)
    return Created(lsn, previous, oid, data[4:].split(b"\0")[0].decode(errors="replace"))


def _payload(page: bytes) -> tuple[int, int]:
    """Return where a page's records begin, and how many bytes end a record from before."""
    info, remaining = struct.unpack_from("=H", page, 2)[0], struct.unpack_from("=I", page, 16)[0]
    return LONG_HEADER if info & LONG else SHORT_HEADER, remaining if info & CONTINUED else 0


def _begins(page: bytes, at: int, place: int) -> bool:
    """Return whether one record after the other, from ``at`` on, leads to ``place``."""
    while at < place:
        length = struct.unpack_from("=I", page, at)[0]
        if length < RECORD.size:
            return False  # the end of WAL, or of its segment
        at += -(-length // WORD) * WORD
    return at == place


def _following(content: bytes, place: int, page_bytes: int) -> bytes:
    """Return the records' bytes from there on, as far as they are known."""
    found = content[place:page_bytes]
    for start in range(page_bytes, len(content), page_bytes):
        page = content[start : start + page_bytes]
        if len(page) > LONG_HEADER:
            found += page[_payload(page)[0] :]
    return found


def _main_data(blocks: bytes) -> bytes:
    """Return what a record without pages carries, behind the headers that say how much."""
    at = 0
    while at < len(blocks):
        kind = blocks[at]
        if kind == DATA_SHORT:
            return blocks[at + 2 :]
        if kind == DATA_LONG:
            return blocks[at + 5 :]
        if kind not in (ORIGIN, TOPLEVEL_XID):
            break
        at += 3 if kind == ORIGIN else 5
    return b""


class TablespaceWatch:
    """A watch that cuts segments before a record that makes a tablespace.

    It knows the edges of the segments before, for a record's header may begin in one and go on in
    the next.

    ``tell`` is given the place of a cut, its segment, and the error that it is where recovery
    wanted to go further.
    """

    def __init__(self, order: Order, tell: Callable[[int, Segment, Barred], None]) -> None:
        self.order, self._tell = order, tell
        self._lock = threading.Lock()
        self._edges: OrderedDict[int, Scan] = OrderedDict()

    def cut(self, scan: Scan, file: Path) -> None:
        """Cut a segment before the first record that would make a tablespace elsewhere.

        ``file`` is the segment's content. Raises :class:`Barred` where that record begins in the
        segment before, which may be delivered already.
        """
        segment = scan.segment
        with self._lock:
            self._edges[segment.number] = scan
            self._edges.move_to_end(segment.number)
            while len(self._edges) > self.order.ahead_segments + EDGES_KEPT:
                self._edges.popitem(last=False)
            before, after = (self._edges.get(segment.number + n) for n in (-1, 1))
        for record in self._split(before, scan):
            raise self._told(segment, record)
        for record in (*self._whole(scan, file), *self._split(scan, after)):
            self._told(segment, record)
            for size_bytes in (record.lsn - segment.start_lsn, segment.size_bytes):
                os.truncate(file, size_bytes)
            return

    def _whole(self, scan: Scan, file: Path) -> Iterator[Created]:
        """Yield the records whose header lies in the segment, in order."""
        with file.open("rb") as opened:
            for lsn in scan.candidates:
                start = lsn - lsn % scan.page_bytes
                opened.seek(start - scan.segment.start_lsn)
                record = created(
                    opened.read(2 * scan.page_bytes + LONGEST_BYTES), start, scan.page_bytes, lsn
                )
                if record and self._matters(record):
                    yield record

    def _split(self, one: Scan | None, other: Scan | None) -> Iterator[Created]:
        """Yield the records whose header begins in one segment and ends in the next."""
        if one is None or other is None or not one.full:
            return
        words = np.frombuffer(other.first_page, np.uint64)[LONG_HEADER // WORD :][:2]
        start = one.segment.start_lsn + one.segment.size_bytes - one.page_bytes
        for index, previous in headers(np.concatenate([one.tail, words])):
            lsn = one.tail_addresses[index]
            record = (
                created(one.last_page + other.first_page, start, one.page_bytes, lsn)
                if previous < lsn
                else None
            )
            if record and self._matters(record):
                yield record

    def _matters(self, record: Created) -> bool:
        """Return whether a record is replayed and its tablespace is not in place.

        One in place is below the data directory itself.
        """
        beyond = self.order.stop_lsn is not None and record.previous_lsn >= self.order.stop_lsn
        return record.path != "" and record.lsn >= self.order.start_lsn and not beyond

    def _told(self, segment: Segment, record: Created) -> Barred:
        error = Barred(
            "tablespace-not-in-backup",
            f"WAL segment {segment.name}",
            found=(
                f"tablespace {record.oid} made in {record.path!r} at {format_lsn(record.lsn)},"
                " after the base backup began"
            ),
            expected=(
                "only tablespaces that the base backup holds: replay would link the restored"
                " cluster to that very folder"
            ),
            hint=(
                "take a base backup now, and drill that one; this one can be drilled to targets"
                " before that LSN"
            ),
        )
        self._tell(record.lsn, segment, error)
        return error
