"""Files of the spool: written beside their place, checked on the way, and there under their name only when whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

from pgdrill.postgres.wal import Segment
from pgdrill.walfetch.decoders import aligned
from pgdrill.walfetch.pages import ALIGNMENT, Origin, PageCheck

CHUNK_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes segments into the spool. ``sparse`` leaves a hole where a segment ends in zeros."""

    spool: Path
    origin: Origin
    sparse: bool

    def write(self, segment: Segment, pieces: Iterable[bytes], *copies: Path) -> Path:
        """Check and write a segment, to further places too; gives the temporary file, not yet under its name.

        Raises :class:`pgdrill.walfetch.pages.Damaged`, what ``pieces`` raises, and OSError; nothing is left then.
        """
        temporary = self.spool / f"{segment.name}.tmp"
        check = PageCheck(segment, self.origin)
        targets = [temporary, *copies]
        try:
            files = [target.open("wb", buffering=0) for target in targets]
            try:
                for piece in aligned(pieces, ALIGNMENT):
                    used = check.used_bytes(piece)
                    for file in files:
                        write_all(file, piece[:used] if self.sparse else piece)
                check.finish()
                for file in files:
                    file.truncate(segment.size_bytes)
            finally:
                for file in files:
                    file.close()
        except BaseException:
            for target in targets:
                target.unlink(missing_ok=True)
            raise
        return temporary



def deliver(temporary: Path, place: Path) -> None:
    """Give a whole file its name. (Not synced: recovery does that when it takes it.)"""
    temporary.rename(place)


def write_all(file: RawIOBase, data: memoryview) -> None:
    """Write everything: a disk that fills up first takes a part without a word, and only then refuses."""
    while data:
        data = data[file.write(data) :]


def pieces_of(file: Path) -> Iterator[bytes]:
    """A file's content."""
    with file.open("rb", buffering=0) as opened:
        while piece := opened.read(CHUNK_BYTES):
            yield piece


def same_content(one: Path, other: Path) -> bool:
    """Whether two files are equal, byte for byte."""
    if one.stat().st_size != other.stat().st_size:
        return False
    return all(a == b for a, b in zip(pieces_of(one), pieces_of(other), strict=True))
