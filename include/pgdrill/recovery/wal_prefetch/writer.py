"""A writer of files for the spool: elsewhere, and checked on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path

from pgdrill.postgres.wal import Segment
from pgdrill.recovery.wal_prefetch.page_check import ALIGNMENT, Origin, PageCheck
from pgdrill.recovery.wal_prefetch.tablespaces import Scan, TablespaceWatch
from pgdrill.repository.decoders import aligned

CHUNK_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Writer:
    """A writer of segments into a folder.

    ``sparse`` leaves a hole where a segment ends in zeros.
    """

    folder: Path
    origin: Origin
    sparse: bool
    watch: TablespaceWatch
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def write(self, segment: Segment, pieces: Iterable[bytes], *copies: Path) -> Path:
        """Check and write a segment, to further places too; return the temporary file.

        Raises :class:`pgdrill.recovery.wal_prefetch.page_check.Damaged`,
        :class:`pgdrill.recovery.wal_prefetch.tablespaces.Barred`, what ``pieces`` raises, and
        OSError; nothing is left then.
        """
        temporary = self.folder / f"{segment.name}.{next(self._numbers)}"
        check, scan = PageCheck(segment, self.origin), Scan(segment)
        targets = [temporary, *copies]
        try:
            files = [target.open("wb", buffering=0) for target in targets]
            try:
                for piece in aligned(pieces, ALIGNMENT):
                    used = check.used_bytes(piece)
                    scan.look(piece[:used], check.page_bytes)
                    for file in files:
                        write_all(file, piece[:used] if self.sparse else piece)
                check.finish()
                for file in files:
                    file.truncate(segment.size_bytes)
            finally:
                for file in files:
                    file.close()
            self.watch.cut(scan, temporary)
        except BaseException:
            for target in targets:
                target.unlink(missing_ok=True)
            raise
        return temporary


def write_all(file: RawIOBase, data: memoryview) -> None:
    """Write everything.

    A disk that fills up first takes a part without a word, and only then refuses.
    """
    while data:
        data = data[file.write(data) :]


def pieces_of(file: Path) -> Iterator[bytes]:
    """Yield a file's content."""
    with file.open("rb", buffering=0) as opened:
        while piece := opened.read(CHUNK_BYTES):
            yield piece


def same_content(one: Path, other: Path) -> bool:
    """Return whether two files are equal, byte for byte."""
    if one.stat().st_size != other.stat().st_size:
        return False
    return all(a == b for a, b in zip(pieces_of(one), pieces_of(other), strict=True))
