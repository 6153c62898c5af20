"""Keys one by one: read by DUMP from a server, kept in a file, written by RESTORE.

For servers that give no file away, and for every restore into a server that runs. Each payload has
its own checksum and the RDB version, which the server that takes it looks at.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from redis import exceptions as failed

from pgdrill.queues.connection import Client

MAGIC = b"PGDRKEYS1"
PAGE = 500
PAGE_BYTES = 16 * 2**20
ENTRY = struct.Struct("<BIqIQ")  # kind, database, end (ms since the epoch, -1: none), lengths
KEY, FUNCTIONS, END = 1, 2, 255
LONGEST_KEY, LONGEST_VALUE = 512 * 2**20, 2**32
Connect = Callable[[int], Client]  # by the database's number


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value as DUMP gives it; ``expires_ms`` since the epoch, -1: never.

    An entry without a name holds a library of functions.
    """

    database: int
    name: bytes
    value: bytes
    expires_ms: int = -1


def read_keys(connect: Connect, databases: Iterable[int]) -> Iterator[Entry]:
    """Yield every key of some databases, then the functions.

    A key that went meanwhile is left out, one that SCAN gives twice comes twice.
    """
    with connect(0) as client:
        functions = _functions(client)
    if functions:
        yield Entry(0, b"", functions)
    for database in databases:
        with connect(database) as client:
            cursor = None
            while cursor != 0:
                cursor, names = client.scan(cursor or 0, count=PAGE)
                yield from _dumped(client, database, names)


def _dumped(client: Client, database: int, names: list[bytes]) -> Iterator[Entry]:
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.execute_command("PTTL", name)
        pipe.execute_command("DUMP", name)
    at = int(time.time() * 1000)
    answers = pipe.execute() if names else []
    for name, left, value in zip(names, answers[::2], answers[1::2], strict=True):
        if value is not None and left != -2:
            yield Entry(database, name, value, at + int(left) if left >= 0 else -1)


def _functions(client: Client) -> bytes:
    """Return the libraries of functions; none of a server that knows none."""
    try:
        if not client.execute_command("FUNCTION", "LIST"):
            return b""
        return bytes(client.execute_command("FUNCTION", "DUMP"))
    except failed.ResponseError as error:
        if "unknown command" in str(error).lower():  # before 7.0
            return b""
        raise


def write_keys(connect: Connect, entries: Iterable[Entry], *, replace: bool = False) -> int:
    """Write keys into a server, page by page, and return how many.

    Never over another key that is there, unless told to ``replace``. Raises redis' own errors, and
    FileExistsError for a key that somebody else has written meanwhile.
    """
    writer = _Writer(connect, replace)
    try:
        for entry in entries:
            writer.add(entry)
        writer.flush()
    finally:
        writer.close()
    return writer.written


class _Writer:
    def __init__(self, connect: Connect, replace: bool) -> None:
        self.connect, self.words = connect, ("ABSTTL", *(("REPLACE",) if replace else ()))
        self.written, self._bytes = 0, 0
        self._page: list[Entry] = []
        self._clients: dict[int, Client] = {}

    def add(self, entry: Entry) -> None:
        if not entry.name:
            self._client(0).execute_command("FUNCTION", "RESTORE", entry.value, "APPEND")
            return
        if self._page and self._page[0].database != entry.database:
            self.flush()
        self._page.append(entry)
        self._bytes += len(entry.value)
        if len(self._page) >= PAGE or self._bytes >= PAGE_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._page:
            return
        client = self._client(self._page[0].database)
        pipe = client.pipeline(transaction=False)
        for entry in self._page:
            end = max(entry.expires_ms, 0)  # 0: never
            pipe.execute_command("RESTORE", entry.name, end, entry.value, *self.words)
        for entry, answer in zip(self._page, pipe.execute(raise_on_error=False), strict=True):
            if isinstance(answer, Exception):
                self._same(client, entry, answer)
            else:
                self.written += 1
        self._page, self._bytes = [], 0

    def _same(self, client: Client, entry: Entry, answer: Exception) -> None:
        """Raise unless it is only that SCAN gave the key twice."""
        if "BUSYKEY" not in str(answer):
            raise answer
        if client.dump(entry.name) != entry.value:
            raise FileExistsError(entry.name.decode(errors="replace")[:200])

    def _client(self, database: int) -> Client:
        if database not in self._clients:
            self._clients[database] = self.connect(database)
        return self._clients[database]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def save(file: Path, entries: Iterable[Entry]) -> int:
    """Write keys into a file, with an end that tells that it is whole; return how many."""
    count = 0
    with file.open("wb") as sink:
        sink.write(MAGIC)
        for entry in entries:
            kind = KEY if entry.name else FUNCTIONS
            sizes = (len(entry.name), len(entry.value))
            sink.write(ENTRY.pack(kind, entry.database, entry.expires_ms, *sizes))
            sink.write(entry.name)
            sink.write(entry.value)
            count += 1
        sink.write(ENTRY.pack(END, 0, count, 0, 0))
    return count


def load(file: Path) -> Iterator[Entry]:
    """Yield the keys of a file. Raises ValueError where it is none, or not whole."""
    count = 0
    with file.open("rb") as source:
        if source.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin as a file of keys does")
        while True:
            kind, database, end, name, value = ENTRY.unpack(_exactly(source, ENTRY.size))
            if kind == END:
                if end != count or source.read(1):
                    raise ValueError(f"{count} keys, and an end that says {end}")
                return
            if kind not in (KEY, FUNCTIONS) or name > LONGEST_KEY or value > LONGEST_VALUE:
                raise ValueError(f"no key after {count} of them")
            count += 1
            yield Entry(database, _exactly(source, name), _exactly(source, value), end)


def _exactly(source: IO[bytes], length: int) -> bytes:
    found = source.read(length)
    if len(found) != length:
        raise ValueError("it ends in the middle of a key")
    return found
