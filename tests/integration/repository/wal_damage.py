"""WAL as bytes: page and record headers of an archived segment, to be broken one by one.

The defects are those of PostgreSQL's ``src/test/recovery/t/039_end_of_wal.pl``: recovery takes each
of them for the end of WAL and, without a recovery target, would start a server that lacks
everything behind it.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lz4.frame

from pgdrill.postgres.binaries import Binaries, as_ordinary_user
from pgdrill.postgres.wal import Segment, parse_lsn

PAGE = 8192
PAGE_HEADER = struct.Struct("<HHIQI")  # xlp_magic, xlp_info, xlp_tli, xlp_pageaddr, xlp_rem_len
RECORD_HEADER = struct.Struct("<IIQBBxxI")  # xl_tot_len, xl_xid, xl_prev, xl_info, xl_rmid, xl_crc
NOOP = 0x20  # XLOG_NOOP
DATA_LONG = 254  # XLR_BLOCK_ID_DATA_LONG
FIRST_IS_CONTRECORD = 0x0001
RECORD = re.compile(r"rmgr: (\S+) .*lsn: ([0-9A-F/]+), prev ([0-9A-F/]+), desc: (\S+)")


def unpacked(file: Path) -> bytes:
    """An archived segment or part as it was before compression."""
    return lz4.frame.decompress(file.read_bytes())


def pack(file: Path, content: bytes) -> None:
    """Write it back, whole as far as the tool can tell."""
    file.write_bytes(lz4.frame.compress(content, content_checksum=True))


def crc32c(data: bytes) -> int:
    """WAL's checksum (Castagnoli)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@dataclass
class Wal:
    """A segment's bytes and a record in it, from which on they are overwritten; everything before
    stays good.
    """

    content: bytearray
    segment: Segment
    record: int  # offset of the record's header
    previous: int  # LSN of the record before it

    @property
    def page(self) -> int:
        """Offset of the page after the record's."""
        return (self.record // PAGE + 1) * PAGE

    def put_record(self, *, total: int, previous: int | None = None, crc: int = 0) -> None:
        """A record's header, on to the next page if it does not fit."""
        header = RECORD_HEADER.pack(
            total, 0, self.previous if previous is None else previous, NOOP, 0, crc
        )
        self.put(self.record, header[: self.page - self.record])

    def put_page(
        self,
        *,
        magic: int | None = None,
        info: int = FIRST_IS_CONTRECORD,
        address: int | None = None,
        rest: int,
    ) -> None:
        """The next page's header; ``rest`` is how much of the record it says to hold."""
        right, _, timeline, here, _ = PAGE_HEADER.unpack_from(self.content, self.page - PAGE)
        self.put(
            self.page,
            PAGE_HEADER.pack(
                right if magic is None else magic,
                info,
                timeline,
                here + PAGE if address is None else address,
                rest,
            ),
        )

    def put(self, offset: int, data: bytes) -> None:
        """Overwrite."""
        self.content[offset : offset + len(data)] = data

    def split_header(self) -> None:
        """Fill the page with a good record that does nothing, so that the next one's header does
        not fit on it.
        """
        space = self.page - self.record - 16
        data = (
            bytes((DATA_LONG,))
            + struct.pack("<I", space - RECORD_HEADER.size - 5)
            + bytes(space - RECORD_HEADER.size - 5)
        )
        header = RECORD_HEADER.pack(space, 0, self.previous, NOOP, 0, 0)
        self.put(
            self.record,
            RECORD_HEADER.pack(space, 0, self.previous, NOOP, 0, crc32c(data + header[:20])) + data,
        )
        self.previous, self.record = self.segment.start_lsn + self.record, self.record + space


def find_record(
    content: bytes, segment: Segment, binaries: Binaries, folder: Path, kind: str
) -> Wal:
    """The last record of a kind (``XLOG/RESTORE_POINT``) in a segment: barman-cloud begins one with
    a restore point of its own.
    """
    file = folder / segment.name
    file.write_bytes(content)
    file.chmod(0o644)
    done = subprocess.run(
        [*as_ordinary_user(), binaries.path("pg_waldump"), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )  # its exit code tells of the record that goes on in the next segment
    file.unlink()
    for manager, lsn, previous, what in reversed(RECORD.findall(done.stdout)):
        if f"{manager}/{what}" == kind:
            return Wal(
                bytearray(content), segment, parse_lsn(lsn) - segment.start_lsn, parse_lsn(previous)
            )
    raise LookupError(f"no {kind} in {segment.name}: {done.stderr}")


Defect = Callable[[Wal], None]
TWO_PAGES = 2 * PAGE


def _over_two_pages(wal: Wal) -> int:
    """A record with a good header that goes on over the next page; how much of it lies there."""
    wal.put_record(total=TWO_PAGES)
    return TWO_PAGES - (wal.page - wal.record)


def _zero_length(wal: Wal) -> None:
    wal.put(wal.record, bytes(RECORD_HEADER.size))


def _short_length(wal: Wal) -> None:
    wal.put_record(total=RECORD_HEADER.size - 1)


def _wrong_previous(wal: Wal) -> None:
    wal.put_record(total=TWO_PAGES, previous=0xDEADBEEF)


def _wrong_crc(wal: Wal) -> None:
    wal.put_record(total=RECORD_HEADER.size, crc=0xBADF00D)


def _zero_page(wal: Wal) -> None:
    _over_two_pages(wal)
    wal.put(wal.page, bytes(PAGE))


def _wrong_magic(wal: Wal) -> None:
    rest = _over_two_pages(wal)
    wal.put_page(magic=0xCAFE, rest=rest)


def _recycled_page(wal: Wal) -> None:
    rest = _over_two_pages(wal)
    wal.put_page(address=0xBAAAAAAA, rest=rest)


def _wrong_info(wal: Wal) -> None:
    rest = _over_two_pages(wal)
    wal.put_page(info=0x1234, rest=rest)


def _no_continuation(wal: Wal) -> None:
    _over_two_pages(wal)
    wal.put_page(info=0, rest=0)


def _wrong_rest(wal: Wal) -> None:
    _over_two_pages(wal)
    wal.put_page(rest=123456)


def _split(defect: Defect) -> Defect:
    def apply(wal: Wal) -> None:
        wal.split_header()
        defect(wal)

    return apply


# What is broken, and what PostgreSQL says before it takes it for the end of WAL.
END_OF_WAL: dict[str, tuple[Defect, str]] = {
    "a record of length zero": (_zero_length, "invalid record length"),
    "a record shorter than its header": (_short_length, "invalid record length"),
    "a record that follows another one": (_wrong_previous, "incorrect prev-link"),
    "a record with a wrong checksum": (_wrong_crc, "incorrect resource manager data checksum"),
    "a next page of zeros": (_zero_page, "invalid magic number 0000"),
    "a next page of another magic": (_wrong_magic, "invalid magic number CAFE"),
    "a next page that was recycled": (_recycled_page, "unexpected pageaddr"),
    "a next page with unknown flags": (_wrong_info, "invalid info bits 1234"),
    "a next page that begins afresh": (_no_continuation, "there is no contrecord flag"),
    "a next page that continues another record": (_wrong_rest, "invalid contrecord length"),
    "a split header before zeros": (_split(_zero_page), "invalid magic number 0000"),
    "a split header before a recycled page": (_split(_recycled_page), "unexpected pageaddr"),
    "a split header before unknown flags": (_split(_wrong_info), "invalid info bits 1234"),
}
