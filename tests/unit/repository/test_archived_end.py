"""The measured RPO: read from pg_waldump's lines, and never flattered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pgdrill.postgres.binaries import Binaries
from pgdrill.postgres.wal import Segment, parse_lsn
from pgdrill.repository.archived_end import ArchivedEnd, all_archived, lost_seconds, read_segment

NOW = datetime(2026, 11, 20, 11, tzinfo=UTC)
SEGMENT = Segment(1, 3)

LINE = (
    "rmgr: {0:<11} len (rec/tot):     34/    34, tx: {1:>10}, lsn: 0/030{2:05X}, prev 0/03000028,"
    " desc: {3}\n"
)
COMMIT = "COMMIT 2026-11-20 10:59:0{}.250000 UTC"


def read(tmp_path: Path, *records: tuple[str, int, str]) -> ArchivedEnd | None:
    """What a segment with these records ends with, by a pg_waldump that prints them."""
    program = tmp_path / "pg_waldump"
    text = "".join(
        LINE.format(kind, xid, 0x100 * (n + 1), what) for n, (kind, xid, what) in enumerate(records)
    )
    (tmp_path / "lines").write_text(text)
    program.write_text(
        f"#!/bin/sh\ncat {tmp_path}/lines\necho 'pg_waldump: error: breaks off' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    return read_segment(Binaries(tmp_path), tmp_path / "segment", SEGMENT)


def test_a_segment_tells_its_last_record_commit_and_transaction(tmp_path: Path) -> None:
    end = read(
        tmp_path,
        ("Heap", 745, "INSERT off: 1"),
        ("Transaction", 745, COMMIT.format(1)),
        ("Transaction", 746, COMMIT.format(2)),
        ("XLOG", 0, "SWITCH"),
    )
    assert end == ArchivedEnd(SEGMENT, parse_lsn("0/3000400"), NOW - timedelta(seconds=57.75), 746)


def test_a_transaction_whose_commit_is_not_there_has_not_ended(tmp_path: Path) -> None:
    end = read(tmp_path, ("Transaction", 745, COMMIT.format(1)), ("Heap", 746, "INSERT off: 1"))
    assert end
    assert end.newest_xid == 745
    assert not all_archived(end, next_xid=747)  # its commit would be lost


def test_subtransactions_and_aborts_end_too(tmp_path: Path) -> None:
    end = read(tmp_path, ("Transaction", 745, COMMIT.format(1) + "; subxacts: 746 747"))
    assert end
    assert end.newest_xid == 747
    end = read(tmp_path, ("Transaction", 748, "ABORT 2026-11-20 10:59:03.000000 UTC"))
    assert end
    assert (end.newest_xid, end.last_commit_at) == (748, None)


def test_running_transactions_say_what_has_ended(tmp_path: Path) -> None:
    end = read(
        tmp_path,
        ("Standby", 0, "RUNNING_XACTS nextXid 751 latestCompletedXid 750 oldestRunningXid 751"),
    )
    assert end
    assert end.newest_xid == 750


def test_a_segment_that_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def end(xid: int) -> ArchivedEnd:
    return ArchivedEnd(SEGMENT, 1, NOW, xid)


def test_what_ended_since_is_told_by_the_next_number_of_which_wal_has_the_low_bits() -> None:
    assert all_archived(end(745), 746)
    assert not all_archived(end(745), 747)
    assert all_archived(end(745), (3 << 32) + 746)
    assert not all_archived(end(745), (3 << 32) + 800)


def test_work_is_lost_since_the_first_commit_that_was_not_archived() -> None:
    assert lost_seconds(NOW - timedelta(seconds=2), NOW) == 2
    assert lost_seconds(None, NOW) == 0, "none was made"
    assert lost_seconds(NOW + timedelta(seconds=5), NOW) == 0, "made after the drill began"
