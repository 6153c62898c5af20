"""Records of new tablespaces are found wherever they lie, and nothing else is taken for one."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgdrill.postgres.wal import Segment
from pgdrill.recovery.wal_prefetch.page_check import MAGIC, Origin
from pgdrill.recovery.wal_prefetch.tablespaces import Barred, TablespaceWatch
from pgdrill.recovery.wal_prefetch.writer import Writer
from tests.unit.recovery.wal_prefetch.test_order import order as an_order
from tests.walpages import MAJOR, SYSTEM

SIZE = 2**20
START = 5 * SIZE
SHORT, LONG = 24, 40


class Wal:
    """WAL written record by record, as PostgreSQL lays it out: pages with headers, records at
    multiples of eight.
    """

    def __init__(self, page_bytes: int = 8192) -> None:
        self.page_bytes = page_bytes
        self.content = bytearray()
        self.previous = START - 64
        self.left = 0  # bytes of a record that goes on

    @property
    def lsn(self) -> int:
        return START + len(self.content)

    def _page(self) -> None:
        first = self.lsn % SIZE == 0
        info = (2 if first else 0) | (1 if self.left else 0)
        self.content += struct.pack("=HHIQII", MAGIC[MAJOR], info, 1, self.lsn, self.left, 0)
        if first:
            self.content += struct.pack("=QII", SYSTEM, SIZE, self.page_bytes)

    def add(self, body: bytes, manager: int, info: int) -> int:
        """A record; gives its LSN."""
        if not len(self.content) % self.page_bytes:
            self._page()
        lsn = self.lsn
        record = (
            struct.pack(
                "=IIQBBxxI", 24 + len(body), 7, self.previous, info, manager, random.getrandbits(32)
            )
            + body
        )
        self.previous, self.left = lsn, len(record)
        while record:
            if not len(self.content) % self.page_bytes:
                self._page()
            room = self.page_bytes - len(self.content) % self.page_bytes
            self.content += record[:room]
            record = record[room:]
            self.left = len(record)
        self.content += bytes(-len(self.content) % 8)
        return lsn

    def fill_to(self, offset: int) -> None:
        """Other records until the next one begins there: a multiple of eight that no page's header
        covers.
        """
        while (gap := offset - len(self.content)) > 0:
            if not len(self.content) % self.page_bytes:
                self._page()
                continue
            page_left = self.page_bytes - len(self.content) % self.page_bytes
            length = min(gap, 4000, page_left)
            if 0 < gap - length < 24 or (gap > length and 0 < page_left - length < 24):
                length -= 48
            if length < 24:  # over the page's end, header and all
                after = SHORT if (len(self.content) + page_left) % SIZE else LONG
                self.add(bytes(min(gap - after - 24, 48)), 10, 0)
                continue
            self.add(bytes(length - 24), 10, 0)
        assert len(self.content) == offset, (len(self.content), offset)

    def segments(self) -> list[tuple[Segment, bytes]]:
        """Whole ones."""
        padded = bytes(self.content) + bytes(-len(self.content) % SIZE)
        return [
            (Segment(1, START // SIZE + n, SIZE), padded[n * SIZE : (n + 1) * SIZE])
            for n in range(len(padded) // SIZE)
        ]


def creation(path: str, oid: int = 16400) -> bytes:
    data = struct.pack("=I", oid) + path.encode() + b"\0"
    head = bytes([255, len(data)]) if len(data) < 256 else b"\xfe" + struct.pack("=I", len(data))
    return head + data


def written(
    wal: Wal, tmp_path: Path, *, backwards: bool = False, **ordered: object
) -> tuple[dict[int, bytes], list[int]]:
    """What is delivered of each segment, and where WAL was cut; a segment that is refused is
    None."""
    order = an_order(
        **{
            "segment_bytes": SIZE,
            "start_lsn": START,
            "stop_lsn": None,
            "timeline": 1,
            "history": (),
            **ordered,
        }
    )
    cuts: list[int] = []
    watch = TablespaceWatch(order, lambda lsn, _, __: cuts.append(lsn))
    writer = Writer(tmp_path, Origin(SYSTEM, MAJOR, frozenset({1})), sparse=True, watch=watch)
    found: dict[int, bytes] = {}
    for segment, content in reversed(wal.segments()) if backwards else wal.segments():
        cut = random.Random(len(content)).randrange(1, SIZE)
        try:
            found[segment.number] = writer.write(
                segment, [content[:cut], content[cut:]]
            ).read_bytes()
        except Barred as error:
            assert error.problem.reason == "tablespace-not-in-backup"
    return found, cuts


# Around the middle of a page, its end, and a segment's end: the header whole, split, or the last
# word before the end.
PLACES = [
    4096,
    *(8192 - 8 * n for n in range(1, 9)),
    8192 + SHORT,
    *(SIZE - 8 * n for n in range(1, 12)),
    SIZE + LONG,
    SIZE + 8192 + SHORT,
]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("length", [9, 1000])
def test_a_record_is_found_wherever_it_begins(
    tmp_path: Path, place: int, length: int, backwards: bool
) -> None:
    wal = Wal()
    wal.fill_to(place)
    lsn = wal.add(creation("/" + "x" * length), 5, 0)
    for _ in range(600):
        wal.add(bytes(4000), 10, 0)
    found, cuts = written(wal, tmp_path, backwards=backwards)
    assert set(cuts) == {lsn}
    for segment, content in wal.segments():
        here = segment.start_lsn <= lsn < segment.start_lsn + SIZE
        # the record's header goes on in this one, and the other is there already
        if segment.number not in found:
            assert segment.start_lsn - 24 < lsn < segment.start_lsn
            assert not backwards
        elif here and segment.number + 1 in found:
            cut = lsn - segment.start_lsn
            assert found[segment.number] == content[:cut] + bytes(SIZE - cut)
        else:
            assert found[segment.number] == content


def test_what_is_made_in_place_dropped_before_the_backup_or_beyond_the_target_is_no_obstacle(
    tmp_path: Path,
) -> None:
    wal = Wal()
    wal.add(creation("/before"), 5, 0)
    start = wal.lsn
    wal.add(creation(""), 5, 0)
    wal.add(struct.pack("=I", 16400), 5, 0x10)
    stop = wal.add(bytes(50), 10, 0)
    wal.add(creation("/beyond"), 5, 0)
    assert written(wal, tmp_path, start_lsn=start, stop_lsn=stop)[1] == []
    assert len(written(wal, tmp_path, start_lsn=start)[1]) == 1
    # recovery may replay one record more
    assert len(written(wal, tmp_path, start_lsn=start, stop_lsn=stop + 1)[1]) == 1
    assert len(written(wal, tmp_path, stop_lsn=stop)[1]) == 1


def test_an_origin_and_a_transaction_before_the_data_hide_nothing(tmp_path: Path) -> None:
    wal = Wal()
    wal.add(b"\xfd\x01\x00\xfc\x07\x00\x00\x00" + creation(""), 5, 0)
    # flags in the lower half
    lsn = wal.add(b"\xfd\x01\x00\xfc\x07\x00\x00\x00" + creation("/fast"), 5, 3)
    assert written(wal, tmp_path)[1] == [lsn]


def test_rows_that_look_like_such_a_record_are_only_rows(tmp_path: Path) -> None:
    wal = Wal()
    for _ in range(2000):
        forged = struct.pack("=IIQBBxxI", 60, 7, wal.previous, 0, 5, 0) + creation("/fast")
        wal.add(bytes(8) + forged + bytes(-len(forged) % 8) + forged, 10, 0)
    assert written(wal, tmp_path)[1] == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3000),
            st.sampled_from([0, 4, 5, 10, 11]),
            st.sampled_from([0, 1, 0x10, 0x20]),
        ),
        min_size=1,
        max_size=400,
    ),
    st.sampled_from([1024, 8192, 65536]),
    st.booleans(),
)
def test_the_first_is_found_among_any_others(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[int, int, int]],
    page_bytes: int,
    backwards: bool,
) -> None:
    wal, wanted = Wal(page_bytes), []
    for length, manager, info in records:
        made = (manager, info & 0xF0) == (5, 0)
        lsn = wal.add(
            creation("/" + "y" * (length % 1000)) if made else bytes([length % 256]) * length,
            manager,
            info,
        )
        wanted += [lsn] if made else []
    _, cuts = written(wal, tmp_path_factory.mktemp("wal"), backwards=backwards)
    assert min(cuts, default=None) == min(wanted, default=None)
    assert set(cuts) <= set(wanted)
