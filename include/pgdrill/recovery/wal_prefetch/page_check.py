"""A check of WAL before it is delivered.

Every page's header is checked, as recovery itself would, and that nothing follows the end. Records'
checksums are left to recovery, which computes every one of them anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgdrill.postgres.wal import Segment, format_lsn

# XLOG_PAGE_MAGIC of each major version (access/xlog_internal.h).
MAGIC = {13: 0xD106, 14: 0xD10D, 15: 0xD110, 16: 0xD113, 17: 0xD116, 18: 0xD118}
LONG_HEADER, ALL_FLAGS = 0x0002, 0x000F
PAGE_SIZES = tuple(1 << n for n in range(10, 17))
ALIGNMENT = PAGE_SIZES[-1]  # pieces of a segment that are multiples of this hold whole pages
LONG = np.dtype(
    [
        ("magic", "u2"),
        ("info", "u2"),
        ("timeline", "u4"),
        ("address", "u8"),
        ("remaining", "u4"),
        ("padding", "u4"),
        ("system", "u8"),
        ("segment_bytes", "u4"),
        ("page_bytes", "u4"),
    ]
)


class Damaged(Exception):
    """A segment is not what it should be: ``found`` and ``expected`` are for an error's text."""

    def __init__(self, found: str, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(f"found {found}; expected {expected}")


@dataclass(frozen=True, slots=True)
class Origin:
    """The cluster that the WAL has to be of."""

    system_identifier: int
    major_version: int
    timelines: frozenset[int]  # those on the way to the recovery target; empty: not known


class PageCheck:
    """A check of one segment, piece by piece, in order.

    Every piece but the last is a multiple of :data:`ALIGNMENT`.
    """

    def __init__(self, segment: Segment, origin: Origin) -> None:
        self.segment, self.origin = segment, origin
        self.seen_bytes = 0
        self._ended = False  # an empty page was seen: after a switch the rest of a segment is zeros
        self._timeline = 0
        self._magic, self.page_bytes = 0, 0

    def used_bytes(self, piece: bytes | memoryview) -> int:
        """Check a piece; return how many bytes of it are pages in use. The rest are zeros.

        Raises :class:`Damaged`.
        """
        where = self.segment.start_lsn + self.seen_bytes
        if len(piece) % PAGE_SIZES[0]:
            raise Damaged(f"{self.seen_bytes + len(piece)} bytes", f"{self.segment.size_bytes}")
        if not self.seen_bytes:
            self._first(piece)
        if len(piece) % self.page_bytes:
            raise Damaged(f"{self.seen_bytes + len(piece)} bytes", f"{self.segment.size_bytes}")
        self.seen_bytes += len(piece)
        if self.seen_bytes > self.segment.size_bytes:
            raise Damaged(
                f"more than {self.segment.size_bytes} bytes", f"{self.segment.size_bytes}"
            )
        if not np.bitwise_or.reduce(np.frombuffer(piece, np.uint64)):
            self._ended = True
            return 0
        pages = np.frombuffer(piece, self._header())
        used = int(np.argmin(pages["magic"] != 0)) if not pages["magic"].all() else len(pages)
        if self._ended and used:
            raise Damaged(
                f"a page at {format_lsn(where)} after the segment's end", "zeros up to its end"
            )
        if np.any(np.frombuffer(piece, np.uint64)[used * self.page_bytes // 8 :]):
            raise Damaged(
                f"no page header at {format_lsn(where + used * self.page_bytes)}, but content"
                " behind it",
                "pages, or zeros up to the segment's end",
            )
        self._ended = self._ended or used < len(pages)
        self._headers(pages[:used], where)
        return used * self.page_bytes

    def finish(self) -> None:
        """Check that the segment is complete. Raises :class:`Damaged` if it is too short."""
        if self.seen_bytes != self.segment.size_bytes:
            raise Damaged(f"{self.seen_bytes} bytes", f"{self.segment.size_bytes}")

    def _first(self, piece: bytes | memoryview) -> None:
        """Check the long header of the segment's first page."""
        if len(piece) < LONG.itemsize:
            raise Damaged(f"{len(piece)} bytes", f"{self.segment.size_bytes}")
        header = {
            name: int(np.frombuffer(piece, LONG, count=1)[0][name]) for name in LONG.names or ()
        }
        known = MAGIC.get(self.origin.major_version)
        wanted = {
            "magic": known or header["magic"],
            "info": header["info"] | LONG_HEADER,
            "system": self.origin.system_identifier,
            "segment_bytes": self.segment.size_bytes,
            "address": self.segment.start_lsn,
        }
        wrong = [name for name, value in wanted.items() if header[name] != value]
        if header["page_bytes"] not in PAGE_SIZES:
            wrong.append("page_bytes")
        if wrong:
            raise Damaged(
                "a first page with " + ", ".join(f"{name} {header[name]}" for name in wrong),
                ", ".join(f"{name} {wanted.get(name, 8192)}" for name in wrong)
                + f" (PostgreSQL {self.origin.major_version})",
            )
        self._magic, self.page_bytes = header["magic"], header["page_bytes"]

    def _header(self) -> np.dtype[Any]:
        return np.dtype(
            {
                "names": ["magic", "info", "timeline", "address"],
                "formats": ["u2", "u2", "u4", "u8"],
                "offsets": [0, 2, 4, 8],
                "itemsize": self.page_bytes,
            }
        )

    def _headers(self, pages: NDArray[Any], where: int) -> None:
        """Check the headers of pages in use, the first of which lies at ``where``."""
        if not len(pages):
            return
        addresses = np.arange(len(pages), dtype=np.uint64) * np.uint64(self.page_bytes) + np.uint64(
            where
        )
        long = np.zeros(len(pages), bool)
        long[0] = where == self.segment.start_lsn
        known = pages["timeline"] <= self.segment.timeline
        if self.origin.timelines:
            known &= np.isin(pages["timeline"], list(self.origin.timelines))
        ordered = np.diff(pages["timeline"].astype(np.int64), prepend=self._timeline) >= 0
        good = {
            "magic": pages["magic"] == self._magic,
            "address": pages["address"] == addresses,
            "flags": ((pages["info"] & LONG_HEADER) != 0) == long,
            "info": (pages["info"] & ~np.uint16(ALL_FLAGS)) == 0,
            "timeline": known & ordered,
        }
        for name, right in good.items():
            if not right.all():
                bad = int(np.argmin(right))
                value = int(pages["info" if name == "flags" else name][bad])
                raise Damaged(
                    f"a page at {format_lsn(int(addresses[bad]))} whose header has {name}"
                    f" {value:#x}",
                    "the header of that page of this cluster's WAL",
                )
        self._timeline = int(pages["timeline"][-1])
