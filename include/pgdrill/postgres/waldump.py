"""WAL segments read with PostgreSQL's own ``pg_waldump``."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pgdrill.postgres.binaries import QUICK_SECONDS, Binaries
from pgdrill.postgres.wal import parse_lsn

# The first time in the line is the transaction's; a replicated one goes on with its origin's.
ENDED = re.compile(
    r"lsn: ([0-9A-F]+/[0-9A-F]+),.*desc: (?:COMMIT|ABORT)(?:_PREPARED)? .*?(\d{4}-\d\d-\d\d"
    r" \d\d:\d\d:\d\d(?:\.\d+)?) UTC"
)
COMMIT = re.compile(
    r"lsn: ([0-9A-F]+/[0-9A-F]+),.*desc: COMMIT(?:_PREPARED)? .*?(\d{4}-\d\d-\d\d"
    r" \d\d:\d\d:\d\d(?:\.\d+)?) UTC"
)


@dataclass(frozen=True, slots=True, order=True)
class EndedTransaction:
    """A commit or an abort: the records at which recovery to a time can stop.

    ``at`` is by the server's clock.
    """

    lsn: int
    at: datetime


def dump(binaries: Binaries, file: Path, *words: str) -> str:
    """Return what ``pg_waldump`` prints of a segment file, times in UTC.

    Empty for one that cannot be read.
    """
    # Ends with an error where a segment breaks off in a record that goes on in the next: what it
    # printed stands.
    return _run(binaries, *words, str(file)).stdout


def dump_range(binaries: Binaries, first: Path, last: Path, *words: str) -> tuple[str, bool]:
    """Return what ``pg_waldump`` prints of segments that follow one another in one folder.

    Return, too, whether none of it is damaged.
    """
    done = _run(binaries, *words, str(first), last.name)
    return done.stdout, "error in WAL record" not in done.stderr


def _run(binaries: Binaries, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binaries.path("pg_waldump"), *words],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=QUICK_SECONDS,
        env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )


def ended_transactions(binaries: Binaries, file: Path) -> list[EndedTransaction]:
    """Return the transactions that end in a segment, in the order of WAL."""
    return ends_in(dump(binaries, file, "--rmgr=Transaction"))


def ends_in(text: str) -> list[EndedTransaction]:
    """Return the transactions that end in what ``pg_waldump`` printed."""
    return _parsed(ENDED.findall(text))


def commits(text: str) -> list[EndedTransaction]:
    """Return the transactions that commit in what ``pg_waldump`` printed."""
    return _parsed(COMMIT.findall(text))


def _parsed(found: list[tuple[str, str]]) -> list[EndedTransaction]:
    return [
        EndedTransaction(parse_lsn(lsn), datetime.fromisoformat(at).replace(tzinfo=UTC))
        for lsn, at in found
    ]
