"""Kinds of damage to bytes, drawn by a seeded generator, and the page checksum that makes some of
them look right.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import numpy as np

PAGE = 8192
FNV_PRIME = np.uint32(16777619)
# checksumBaseOffsets of PostgreSQL's src/include/storage/checksum_impl.h
OFFSETS = np.array(
    [
        0x5B1F36E9,
        0xB8525960,
        0x02AB50AA,
        0x1DE66D2A,
        0x79FF467A,
        0x9BB9F8A3,
        0x217E7CD2,
        0x83E13D2C,
        0xF8D4474F,
        0xE39EB970,
        0x42C6AE16,
        0x993216FA,
        0x7B093B5D,
        0x98DAFF3C,
        0xF718902A,
        0x0B1C9CDB,
        0xE58F764B,
        0x187636BC,
        0x5D7B3BB1,
        0xE73DE7DE,
        0x92BEC979,
        0xCCA6C0B2,
        0x304A0979,
        0x85AA43D4,
        0x783125BB,
        0x6CA8EAA2,
        0xE407EAC6,
        0x4B5CFC3E,
        0x9FBF8C76,
        0x15CA20BE,
        0xF2CA9FD3,
        0x959BD756,
    ],
    dtype=np.uint32,
)


def checksum(page: bytes, block: int) -> int:
    """``pg_checksum_page``: what the page ought to have in bytes 8 and 9 as block ``block`` of its
    relation.
    """
    words = np.frombuffer(page[:8] + b"\0\0" + page[10:], dtype="<u4").reshape(-1, OFFSETS.size)
    sums = OFFSETS.copy()
    for row in (*words, np.zeros_like(sums), np.zeros_like(sums)):
        mixed = sums ^ row
        sums = mixed * FNV_PRIME ^ mixed >> np.uint32(17)
    return (int(np.bitwise_xor.reduce(sums)) ^ block) % 65535 + 1


def signed(page: bytes, block: int) -> bytes:
    """The page with a right checksum; a page of zeros has none."""
    return (
        page[:8] + struct.pack("<H", checksum(page, block)) + page[10:]
        if page.strip(b"\0")
        else page
    )


def _blocks(data: bytes, size: int) -> int:
    return len(data) // size


def flip(chance: random.Random, data: bytes, size: int) -> bytes | None:
    """One bit."""
    if not data:
        return None
    place = chance.randrange(len(data))
    return data[:place] + bytes((data[place] ^ 1 << chance.randrange(8),)) + data[place + 1 :]


def cut(chance: random.Random, data: bytes, size: int) -> bytes | None:
    """Shortened, on no boundary."""
    return data[: chance.randrange(len(data))] if data else None


def cut_on_boundary(chance: random.Random, data: bytes, size: int) -> bytes | None:
    """Shortened by whole blocks."""
    return data[: chance.randrange(_blocks(data, size)) * size] if _blocks(data, size) else None


def swap(chance: random.Random, data: bytes, size: int) -> bytes | None:
    """Two blocks, each in the other's place."""
    if _blocks(data, size) < 2:
        return None
    a, b = sorted(chance.sample(range(_blocks(data, size)), 2))
    first, second = data[a * size : (a + 1) * size], data[b * size : (b + 1) * size]
    return (
        data[: a * size] + second + data[(a + 1) * size : b * size] + first + data[(b + 1) * size :]
    )


def zero(chance: random.Random, data: bytes, size: int) -> bytes | None:
    """A block of zeros: written never, or trimmed away."""
    if not _blocks(data, size):
        return None
    at = chance.randrange(_blocks(data, size)) * size
    return data[:at] + bytes(size) + data[at + size :]


def repeat(chance: random.Random, data: bytes, size: int) -> bytes | None:
    """A block overwritten by its neighbour: a misdirected write."""
    if _blocks(data, size) < 2:
        return None
    a, b = chance.sample(range(_blocks(data, size)), 2)
    return data[: a * size] + data[b * size : (b + 1) * size] + data[(a + 1) * size :]


Kind = Callable[[random.Random, bytes, int], bytes | None]
KINDS: dict[str, Kind] = {
    "bit flipped": flip,
    "cut": cut,
    "cut on a boundary": cut_on_boundary,
    "blocks swapped": swap,
    "block of zeros": zero,
    "block of another place": repeat,
}


def sign_changed(before: bytes, after: bytes) -> bytes:
    """Right checksums on every page that is not as it was."""
    pages = [after[at : at + PAGE] for at in range(0, len(after), PAGE)]
    return b"".join(
        signed(page, block)
        if len(page) == PAGE and page != before[block * PAGE : (block + 1) * PAGE]
        else page
        for block, page in enumerate(pages)
    )
