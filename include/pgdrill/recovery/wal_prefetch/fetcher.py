"""The way of one file into the spool: by the reader, else by the tool.

Where neither can, the error says whose fault it is.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError, Unreachable
from pgdrill.postgres.wal import Segment, read_history
from pgdrill.recovery.wal_prefetch.order import Order
from pgdrill.recovery.wal_prefetch.page_check import Damaged
from pgdrill.recovery.wal_prefetch.reader import Reader
from pgdrill.recovery.wal_prefetch.tablespaces import Barred
from pgdrill.recovery.wal_prefetch.tool import Tool, no_room
from pgdrill.recovery.wal_prefetch.writer import Writer, pieces_of
from pgdrill.repository.asked_again import Absent, Given, asked_again
from pgdrill.repository.decoders import Undecodable

logger = logging.getLogger(__name__)

By = Literal["reader", "tool"]


class NoRoom(Exception):
    """The spool's disk is full."""


class Fetcher:
    """Both ways to a file.

    What the reader cannot make sense of, the tool may: it is what a real recovery would use.
    """

    def __init__(self, order: Order, reader: Reader, tool: Tool, writer: Writer) -> None:
        self.order, self.reader, self.tool, self.writer = order, reader, tool, writer

    def segment(self, segment: Segment, *copies: Path) -> tuple[Path, By]:
        """Fetch a segment; return its temporary file and who fetched it.

        ``copies`` are made only of what the reader read.

        Raises :class:`Absent`, :class:`NoRoom` or a :class:`PgdrillError`.
        """
        trouble: Exception | None = None
        if self.order.readable:
            try:
                return self.reader.segment(segment, *copies)[0], "reader"
            except Barred:
                raise
            except (Undecodable, Damaged, CouldNotVerify) as error:
                trouble = error
                logger.warning(
                    "%s: %s; trying %s",
                    self.reader.key_of(segment.name),
                    error,
                    self.order.tool.name,
                )
            except OSError as error:
                raise self._full(error) from None
        return self.by_tool(segment, trouble), "tool"

    def together(self, segments: list[Segment], deliver: Callable[[Segment, Path], None]) -> None:
        """Fetch many segments with one process of the tool.

        What it left out, or got wrong, is not delivered and no error.
        """
        with self.tool.fetched_together(segments) as folder:
            for segment in segments:
                file = folder / segment.name
                if not file.exists():
                    continue
                try:
                    temporary = self.writer.write(segment, pieces_of(file))
                except (Damaged, Barred, OSError) as error:
                    logger.warning("%s: %s", segment.name, error)
                    continue
                file.unlink()
                deliver(segment, temporary)

    def history(self, name: str) -> bytes:
        """Fetch a timeline's history by the tool and by the reader, and compare them.

        Raises :class:`Absent` only where the tool says so, else a :class:`PgdrillError`.
        """
        return self._again(name, lambda: self._history(name))

    def _history(self, name: str) -> bytes:
        try:
            with self.tool.fetched(name) as file:
                content = file.read_bytes()
        except Absent:
            if self._read_history(name):
                raise differs(
                    name,
                    self.reader.key_of(name),
                    f"{self.order.tool.name} says there is no such file",
                ) from None
            raise
        read = self._read_history(name)
        if read is not None and read != content:
            raise differs(
                name,
                self.reader.key_of(name),
                f"{len(content)} other bytes from {self.order.tool.name}",
            )
        try:
            read_history(content)
        except ValueError:
            raise damaged(
                name, self.reader.key_of(name), "no line of a timeline's history"
            ) from None
        return content

    def _read_history(self, name: str) -> bytes | None:
        """Return what the reader reads of a history, or None where it cannot tell."""
        if not self.order.readable:
            return None
        try:
            return self.reader.history(name)
        except (Absent, Undecodable, CouldNotVerify) as error:
            logger.info("%s: not read: %s", name, error)
            return None

    def other(self, name: str) -> Path:
        """Fetch a file that is neither segment nor history; return the temporary file.

        Such a file is a backup's history, or half a segment.
        """
        with self.tool.fetched(name) as file:
            size = file.stat().st_size
            if not 0 < size <= self.order.segment_bytes:
                raise damaged(
                    name,
                    self.reader.key_of(name),
                    f"{size} bytes",
                    f"1 to {self.order.segment_bytes} bytes",
                )
            return file.rename(self.writer.folder / name)

    def by_tool(self, segment: Segment, trouble: Exception | None = None) -> Path:
        """Fetch a segment by the tool; return its temporary file.

        ``trouble``: why the reader could not. Raises the same as :meth:`segment`.
        """
        return self._again(segment.name, lambda: self._by_tool(segment, trouble))

    def _again(self, name: str, ask: Callable[[], Given]) -> Given:
        names = re.compile(self.order.names)
        return asked_again(ask, self.reader.storage, self.order.key(name), names, time.sleep)

    def _by_tool(self, segment: Segment, trouble: Exception | None) -> Path:
        thing, tool = self.reader.key_of(segment.name), self.order.tool.name
        try:
            with self.tool.fetched(segment.name) as file:
                return self.writer.write(segment, pieces_of(file))
        except Damaged as error:
            raise damaged(
                segment.name, thing, f"{error.found} (from {tool})", error.expected
            ) from None
        except OSError as error:
            raise self._full(error) from None
        except PgdrillError as error:
            if no_room(error):
                raise NoRoom(str(error)) from None
            if error.problem.reason == "corrupt-part" and trouble is None:
                raise damaged(segment.name, thing, f"{tool}: {error.problem.found}") from None
            if (
                trouble is None
                or isinstance(trouble, CouldNotVerify)
                or isinstance(error, Unreachable)
            ):
                raise
            found = trouble.found if isinstance(trouble, Damaged) else str(trouble)
            raise damaged(segment.name, thing, f"{found}; {tool}: {error.problem.found}") from None

    def _full(self, error: OSError) -> Exception:
        return NoRoom(str(error)) if no_room(error) else error


def damaged(
    name: str, thing: str, found: str, expected: str = "an undamaged WAL segment"
) -> BackupFault:
    """Return the error for an archived file that cannot be recovered from."""
    return BackupFault(
        "wal-damaged",
        f"{name} in {thing}",
        found=found,
        expected=expected,
        hint=(
            "nothing after it can be restored: take a base backup now, then find out what changes"
            " the repository"
        ),
    )


def differs(name: str, thing: str, found: str) -> BackupFault:
    """Return the error for a tool that fetches other bytes than are in the repository."""
    return BackupFault(
        "wal-differs",
        f"{name} in {thing}",
        found=found,
        expected="the same file by both ways",
        hint=(
            "do not trust this tool's restore_command: try its other versions, and drill with"
            ' wal_fetch = "tool"'
        ),
    )


def spool_full(spool: Path, found: str) -> CouldNotVerify:
    """Return the error for a disk with no room for the one segment that recovery waits for."""
    return CouldNotVerify(
        "no-space",
        str(spool),
        found=found,
        expected="room for a WAL segment",
        hint="make room, or set drill.work_directory to a larger disk",
    )
