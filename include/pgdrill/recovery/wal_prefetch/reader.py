"""A reader of archived WAL in the repository that needs no tool."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pgdrill.postgres.wal import LONGEST_HISTORY, Segment
from pgdrill.recovery.wal_prefetch.order import Order
from pgdrill.recovery.wal_prefetch.writer import Writer
from pgdrill.repository.asked_again import Absent
from pgdrill.repository.decoders import DECODERS, Undecodable, decoded
from pgdrill.repository.object_store import Storage


class Reader:
    """A reader of the repository's objects.

    It makes as many requests at once as it has callers, and decodes as many objects at once as
    there are cores.
    """

    def __init__(
        self, order: Order, storage: Storage, writer: Writer, decoding: threading.Semaphore
    ) -> None:
        self.order, self.storage, self.writer = order, storage, writer
        self._decoding = decoding
        self._suffix = order.suffix
        self._names = re.compile(order.names)
        self._lock = threading.Lock()
        self.read_bytes = 0

    def segment(self, segment: Segment, *copies: Path) -> tuple[Path, str]:
        """Fetch, check and write a segment; return its temporary file and its object's key.

        Raises :class:`Absent`, :class:`Undecodable`,
        :class:`pgdrill.recovery.wal_prefetch.page_check.Damaged`, storage errors, OSError.
        """
        key, suffix, chunks = self._open(segment.name)
        first = next(chunks, b"")  # the wait for the store's answer is over before a core is taken
        if not first:
            raise Undecodable("an empty object")
        with self._decoding:
            pieces = decoded(self._counted(itertools.chain([first], chunks)), suffix)
            return self.writer.write(segment, pieces, *copies), key

    def history(self, name: str) -> bytes:
        """Read the content of a timeline's history file."""
        _, suffix, chunks = self._open(name)
        content = b""
        for piece in decoded(self._counted(chunks), suffix):
            content += piece
            if len(content) > LONGEST_HISTORY:
                raise Undecodable(f"more than {LONGEST_HISTORY} bytes of a history")
        return content

    def key_of(self, name: str) -> str:
        """Return where a file is, or would be, for an error's text."""
        suffix = self._suffix if self.order.keys.exact else ""
        return f"{self.storage.url}/{self.order.key(name)}{suffix}"

    def _open(self, name: str) -> tuple[str, str, Iterator[bytes]]:
        """Open an object: first with the suffix that the last one had, then with the others.

        Where its key is not known exactly, it is looked for. Return key, suffix and content.

        Raises :class:`Absent` where it has none of them.
        """
        base, likely = self.order.key(name), self._suffix
        if not self.order.keys.exact:
            return self._open_listed(name, base)
        for suffix in (likely, *(other for other in DECODERS if other != likely)):
            chunks = self.storage.chunks(base + suffix)
            if chunks is not None:
                if not name.endswith(".history"):
                    self._suffix = suffix
                return base + suffix, suffix, chunks
        raise Absent(name)

    def _open_listed(self, name: str, base: str) -> tuple[str, str, Iterator[bytes]]:
        key = self.storage.find(base, self._names)
        chunks = self.storage.chunks(key) if key else None
        if key is None or chunks is None:
            raise Absent(name)
        suffix = PurePosixPath(key).suffix
        return key, suffix if suffix in DECODERS else "", chunks

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            with self._lock:
                self.read_bytes += len(chunk)
            yield chunk
