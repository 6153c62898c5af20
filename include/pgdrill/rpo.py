"""The measured RPO: what would be lost if production died now.

Counted from the last transaction in the newest segment that has reached the repository *by itself*, before the drill
asks for a WAL switch, which would flatter the figure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pgdrill.access import Access
from pgdrill.postgres.wal import Segment, parse_lsn
from pgdrill.process import Runner
from pgdrill.waldump import dump
from pgdrill.walfiles import fetch_wal_file

LOOK_BACK = 4  # segments: a switch on a quiet server leaves some without a commit
COMMIT = re.compile(r"desc: COMMIT(?:_PREPARED)? .*?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")
# Only what has ended counts: a transaction whose commit is not archived yet is lost, whatever of it has been.
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


def archived_end(access: Access, runner: Runner, folder: Path) -> ArchivedEnd | None:
    """Fetch the newest archived segment with the tool and read it in ``folder`` with ``pg_waldump``; None if there is none.

    If it holds no commit, the ones before it say when the last one was.
    """
    names = [name for name in access.tool.wal(access.repository) if not name.endswith(".history")]
    end: ArchivedEnd | None = None
    for segment in sorted(map(Segment.parse, names), reverse=True)[:LOOK_BACK]:
        file = fetch_wal_file(access, runner, segment.name, folder)
        found = read_segment(access, file, segment) if file else None
        if file:
            file.unlink()
        if found is None:
            break
        end = replace(end, last_commit_at=found.last_commit_at) if end else found
        if end.last_commit_at:
            break
    return end


def read_segment(access: Access, file: Path, segment: Segment) -> ArchivedEnd | None:
    """The last record, commit and transaction number of a segment file."""
    text = dump(access, file)
    positions = LSN.findall(text)
    if not positions:
        return None
    commits = COMMIT.findall(text)
    numbers = [int(n) for n in LATEST_ENDED.findall(text)]
    for number, rest in ENDED.findall(text):
        below = SUBTRANSACTIONS.search(rest)
        numbers += [int(number), *(int(n) for n in (below[1].split() if below else ()))]
    last = datetime.fromisoformat(commits[-1]).replace(tzinfo=UTC) if commits else None
    return ArchivedEnd(segment, parse_lsn(positions[-1]), last, max(numbers, default=0))


def measured_rpo_seconds(end: ArchivedEnd | None, now: datetime, next_xid: int) -> float | None:
    """Seconds of lost work if production died at ``now``; 0 where nothing was written since, None where unknown.

    ``now`` is by the server's clock, as commit times are. ``next_xid`` is production's next transaction number then (32
    low bits are compared, as WAL holds them).
    """
    if end is None:
        return None
    if (next_xid - 1) & 0xFFFFFFFF <= end.newest_xid:
        return 0.0
    if end.last_commit_at is None:
        return None
    return max(0.0, (now - end.last_commit_at).total_seconds())
