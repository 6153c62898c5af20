"""A stretch of archived WAL as ``pg_waldump`` prints it, some segments at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from pgdrill.postgres.wal import Segment
from pgdrill.postgres.waldump import dump_range
from pgdrill.repository.restorable_window import Line
from pgdrill.repository.wal_files import WalReader

# segments read by one pg_waldump; the next ones begin with the last of them, for a record may lie
# in both
AT_ONCE = 8


def records(
    wal: WalReader, line: Line, start_lsn: int, end_lsn: int, kind: str, *, seconds: float
) -> Iterator[tuple[str, bool]]:
    """Yield the records of a kind, and whether what was read for them is whole.

    A kind is a resource manager's name.

    The last ones are none and not whole where a segment is not there, or the time is over.
    """
    until = time.monotonic() + seconds
    for batch in _batches(wal, line, start_lsn, end_lsn):
        if batch is None or time.monotonic() > until:
            yield "", False
            return
        yield dump_range(wal.binaries, batch[0], batch[-1], f"--rmgr={kind}")


def _batches(
    wal: WalReader, line: Line, start_lsn: int, end_lsn: int
) -> Iterator[list[Path] | None]:
    """Yield files of segments that follow one another on one timeline.

    None where one is not there, or was not wanted any more.
    """
    files: list[Path] = []
    try:
        for choices in line.files(start_lsn, end_lsn - 1):
            file = _fetched(wal, choices)
            if file is None:
                yield None
                return
            if files and file.name[:8] != files[-1].name[:8]:
                yield files
                _forget(files)
                files = []
            files.append(file)
            if len(files) > AT_ONCE:
                yield files
                _forget(files[:-1])
                files = files[-1:]
        if files:
            yield files
    finally:
        _forget(files)


def _fetched(wal: WalReader, choices: tuple[Segment, ...]) -> Path | None:
    return next((file for one in choices if (file := wal.fetch(one.name))), None)


def _forget(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
