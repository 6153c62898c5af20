"""PostgreSQL's page checksums (storage/checksum_impl.h), of many pages at a time.

32 sums run side by side through a page, which is what makes it quick in C, and here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PAGE_BYTES = 8192  # the sums' layout depends on it; clusters with other pages are left to their server
SUMS = 32
PRIME = np.uint32(16777619)
SEEDS = np.array([
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
], dtype=np.uint32)  # fmt: skip
CHECKSUM = 4  # of the header's 16-bit fields: flags, lower, upper, special follow
KNOWN_FLAGS = 0x0007


def sound(content: bytes | memoryview, first_block: int) -> bool:
    """Would the server read all of these pages (8192 bytes each) without an error? ``first_block``: of the relation's fork.

    As its PageIsVerified: a page of nothing but zeros is new; any other has its checksum and a header that makes sense.
    """
    pages = np.frombuffer(content, dtype=np.uint32).reshape(-1, PAGE_BYTES // 4)
    used = pages.any(axis=1)
    blocks = np.nonzero(used)[0] + first_block
    pages = pages if used.all() else pages[used]
    heads = pages[:, :6].copy().view(np.uint16)
    stored, flags, lower, upper, special = (heads[:, CHECKSUM + n].astype(np.int64) for n in range(5))
    sensible = (flags & ~KNOWN_FLAGS == 0) & (lower <= upper) & (upper <= special) & (special <= PAGE_BYTES) & (special % 8 == 0)
    return bool((sensible & (stored == checksums(pages, blocks))).all())


def checksums(pages: npt.NDArray[np.uint32], blocks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What each page (pages x 2048) ought to have in its header as the block of that number."""
    rows = pages.reshape(len(pages), PAGE_BYTES // 4 // SUMS, SUMS)
    sums = np.broadcast_to(SEEDS, (len(pages), SUMS)).copy()
    for row in range(rows.shape[1]):
        value = rows[:, row]
        if row == 0:  # the checksum itself counts as zero
            value = value.copy()
            value.view(np.uint16)[:, CHECKSUM] = 0
        sums = _mixed(sums ^ value)
    for _ in range(2):
        sums = _mixed(sums)
    folded = np.bitwise_xor.reduce(sums, axis=1).astype(np.int64) ^ blocks
    return np.asarray(folded % 65535 + 1)


def _mixed(sums: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return sums * PRIME ^ sums >> np.uint32(17)
