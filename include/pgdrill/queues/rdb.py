"""The first and the last bytes of an RDB file: who wrote it, when, and whether it has an end.

What is in between only a server can tell, by loading it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

MAGIC = re.compile(rb"(REDIS[0-9]{4}|VALKEY[0-9]{3})")
MAGIC_BYTES = 9
AUX, FUNCTION_AUX, EOF = 0xFA, 0xF7, 0xFF
MOST_AUX, AUX_BYTES = 64, 4096  # of an honest file there are about ten short ones
CHECKSUM_BYTES = 8  # after the end since version 5


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself in front. ``at``: when it was begun, by its server's clock."""

    magic: str
    version: int
    fields: dict[str, str]

    @property
    def at(self) -> datetime | None:
        """The instant that the file is of; None where it does not tell."""
        text = self.fields.get("ctime", "")
        return datetime.fromtimestamp(int(text), UTC) if re.fullmatch("[0-9]{1,11}", text) else None


def read_header(file: Path) -> Header:
    """Read the header. Raises ValueError for what is no RDB file."""
    with file.open("rb") as source:
        magic = source.read(MAGIC_BYTES)
        if not MAGIC.fullmatch(magic):
            raise ValueError("it does not begin as an RDB file does")
        return Header(magic.decode(), int(magic.lstrip(b"REDISVALKEY")), dict(_fields(source)))


def check_end(file: Path) -> bool:
    """Return whether the file bears a checksum. Raises ValueError where it has no end.

    The checksum itself is the loading server's to compare.
    """
    if file.stat().st_size < MAGIC_BYTES + 1 + CHECKSUM_BYTES:
        raise ValueError(f"{file.stat().st_size} bytes: no whole RDB file")
    with file.open("rb") as source:
        source.seek(-1 - CHECKSUM_BYTES, os.SEEK_END)
        end = source.read()
    if end[0] != EOF:
        raise ValueError("it does not end as an RDB file does: it is cut short, or changed")
    return any(end[1:])


def _fields(source: IO[bytes]) -> Iterator[tuple[str, str]]:
    for _ in range(MOST_AUX):
        code = source.read(1)
        if code != bytes((AUX,)):
            return
        yield _string(source), _string(source)


def _string(source: IO[bytes]) -> str:
    """Read a short string as RDB writes it: its length before it, or a small number."""
    first = source.read(1)
    if not first:
        raise ValueError("it ends in its header")
    kind, rest = first[0] >> 6, first[0] & 0x3F
    if kind == 3 and rest < 3:
        return str(int.from_bytes(_exactly(source, 1 << rest), "little", signed=True))
    if kind == 0:
        length = rest
    elif kind == 1:
        length = rest << 8 | _exactly(source, 1)[0]
    else:
        raise ValueError("a field of its header is too long")
    if length > AUX_BYTES:
        raise ValueError("a field of its header is too long")
    return _exactly(source, length).decode(errors="replace")


def _exactly(source: IO[bytes], length: int) -> bytes:
    found = source.read(length)
    if len(found) != length:
        raise ValueError("it ends in its header")
    return found
