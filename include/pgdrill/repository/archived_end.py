"""The measured RPO: what would be lost if production died now.

Lost is what was committed and is not in the repository. What reached it *by itself* is told by its
listing at the drill's start, before the drill asks for a WAL switch, which would flatter the
figure. When the first commit after that was made is read later, from the WAL that was archived
meanwhile: on a quiet server it may be minutes after the last one before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pgdrill.postgres.binaries import Binaries
from pgdrill.postgres.wal import Segment, parse_lsn
from pgdrill.postgres.waldump import EndedTransaction, commits, dump
from pgdrill.repository.restorable_window import Line
from pgdrill.repository.wal_files import WalReader

LOOK_BACK = 4  # segments: a switch on a quiet server leaves some without a commit
# Only what has ended counts: a transaction whose commit is not archived yet is lost, whatever of it
# has been.
ENDED = re.compile(r"tx:\s+(\d+),.*desc: (?:COMMIT|ABORT)(.*)")
SUBTRANSACTIONS = re.compile(r"subxacts: ([\d ]+)")
LATEST_ENDED = re.compile(r"latestCompletedXid (\d+)")
LSN = re.compile(r"lsn: ([0-9A-F]+/[0-9A-F]+),")


@dataclass(frozen=True, slots=True)
class ArchivedEnd:
    """What the newest archived segment ends with."""

    segment: Segment
    last_record_lsn: int
    last_commit_at: datetime | None
    newest_xid: int


def archived_end(wal: WalReader, listed: Iterable[str], line: Line) -> ArchivedEnd | None:
    """Fetch the newest segment of a line that was ``listed`` and read it with ``pg_waldump``.

    None if there is none.

    If it holds no commit, the ones before it say when the last one was.
    """
    end: ArchivedEnd | None = None
    for segment in line.newest(listed, LOOK_BACK):
        file = wal.fetch(segment.name)
        found = read_segment(wal.binaries, file, segment) if file else None
        if file:
            file.unlink()
        if found is None:
            break
        end = replace(end, last_commit_at=found.last_commit_at) if end else found
        if end.last_commit_at:
            break
    return end


def read_segment(binaries: Binaries, file: Path, segment: Segment) -> ArchivedEnd | None:
    """Read the last record, commit and transaction number of a segment file."""
    text = dump(binaries, file)
    positions = LSN.findall(text)
    if not positions:
        return None
    numbers = [int(n) for n in LATEST_ENDED.findall(text)]
    for number, rest in ENDED.findall(text):
        below = SUBTRANSACTIONS.search(rest)
        numbers += [int(number), *(int(n) for n in (below[1].split() if below else ()))]
    made = commits(text)
    return ArchivedEnd(
        segment, parse_lsn(positions[-1]), made[-1].at if made else None, max(numbers, default=0)
    )


def all_archived(end: ArchivedEnd, next_xid: int) -> bool:
    """Return whether production has ended no transaction since.

    ``next_xid`` is its next number (WAL holds the low 32 bits).
    """
    return (next_xid - 1) & 0xFFFFFFFF <= end.newest_xid


def first_commit_after(
    wal: WalReader, line: Line, end: ArchivedEnd, until_lsn: int
) -> EndedTransaction | None:
    """Find the first commit behind the end, up to a position that is archived by now.

    None if there is none.

    Raises LookupError where a segment in between is not there, or cannot be read.
    """
    for choices in line.files(end.last_record_lsn, until_lsn - 1):
        if choices[0].number == end.segment.number and end.segment in choices:
            continue  # read to its last record
        for made in _commits_of(wal, choices):
            if made.lsn > end.last_record_lsn:
                return made
    return None


def _commits_of(wal: WalReader, choices: Iterable[Segment]) -> list[EndedTransaction]:
    for segment in choices:
        if file := wal.fetch(segment.name):
            text = dump(wal.binaries, file)
            file.unlink()
            return commits(text)
    raise LookupError(f"{choices} cannot be read")


def lost_seconds(committed_at: datetime | None, now: datetime) -> float:
    """Return the seconds of lost work if production had died at ``now``.

    ``committed_at``: when the first lost commit was made; both are by the server's clock.
    """
    return max(0.0, (now - committed_at).total_seconds()) if committed_at else 0.0
