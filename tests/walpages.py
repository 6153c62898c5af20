"""WAL segments made by hand: real page headers, content that means nothing."""

from __future__ import annotations

import random
import struct

from pgdrill.postgres.wal import Segment
from pgdrill.recovery.wal_prefetch.page_check import MAGIC

PAGE = 8192
SYSTEM = 7412345678901234567
MAJOR = 18


def segment_bytes(
    segment: Segment,
    used_pages: int = 3,
    *,
    timelines: dict[int, int] | None = None,
    system: int = SYSTEM,
    seed: int = 0,
) -> bytes:
    """A segment with that many pages in use and zeros behind them; ``timelines`` says from which
    page on which one.
    """
    content, timeline = random.Random(seed), segment.timeline
    pages = []
    for number in range(used_pages):
        timeline = (timelines or {}).get(number, timeline)
        address = segment.start_lsn + number * PAGE
        header = struct.pack("=HHIQII", MAGIC[MAJOR], 0 if number else 2, timeline, address, 0, 0)
        if not number:
            header += struct.pack("=QII", system, segment.size_bytes, PAGE)
        pages.append(header + content.randbytes(PAGE - len(header)))
    return b"".join(pages) + bytes(segment.size_bytes - used_pages * PAGE)
