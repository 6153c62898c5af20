"""What a cluster is known to have had besides base backups: dumps, WAL, and retention's own memory.

Where that is not seen any more, it is the looking that failed, or something was lost; base backups
are in :mod:`pgdrill.reports.known_backups`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pgdrill.access import Access
from pgdrill.errors import Problem, as_could_not_verify
from pgdrill.logical import store as dump_store
from pgdrill.logical.manifest import DUMP_ID
from pgdrill.postgres.wal import parse_lsn
from pgdrill.reports.known_backups import Known, missing, recorded
from pgdrill.reports.model import Report
from pgdrill.repository.ledger import FOLDER, read_ledger
from pgdrill.repository.prune_runs import deleted
from pgdrill.repository.wal_ranges import Wal

# only of one that was finished
DUMP_REPORT_KEY = re.compile(rf"({DUMP_ID.pattern})/drill-[A-Za-z0-9_-]+\.json")


def lost_dumps(access: Access, there: Collection[str]) -> list[Known]:
    """Return the dumps that are known and not among those that are ``there``.

    They are known by the reports of their restores: those beside them, and this host's.
    """
    known = {
        match[1]: Known(match[1], "a report of it")
        for key in access.dumps.sizes()
        if (match := DUMP_REPORT_KEY.fullmatch(key))
    }
    known |= {
        one.dump_id: Known(one.dump_id, f"restored by drill {one.drill_id}", one.started_at)
        for one in dump_store.local_reports(access)
    }
    lost = known.keys() - set(there)
    if lost:
        lost -= {*read_ledger(access.reports).forgotten, *deleted(access.reports, "delete-dump")}
    return [known[name] for name in sorted(lost)]


def missing_wal(url: str, wal: Wal, backups: bool, reports: Sequence[Report]) -> list[Problem]:
    """Return the problem of WAL that is known and not there.

    There is no WAL at all beside base backups, or an archive that ends before what a drill has
    replayed from it.
    """
    if backups and not wal.count:
        return [_no_wal(url, "no segment", "those that every base backup needs itself")]
    replayed = [
        one
        for one in reports
        if one.verdict == "passed" and one.restored and one.restored.recovered_timeline
    ]
    newest = max(replayed, key=lambda one: one.started_at, default=None)
    if newest is None or newest.restored is None:
        return []
    line, end = newest.restored.recovered_timeline, parse_lsn(newest.restored.reached_lsn)
    # which may be behind: production was restored to an earlier time
    later = any(run.timeline > line for run in wal.runs)
    if later or any(
        run.timeline == line and run.last >= wal.segment_of(max(end - 1, 0)) for run in wal.runs
    ):
        return []
    last = max((run.last for run in wal.on(line)), default=None)
    found = (
        f"segments of timeline {line} up to {wal.name((line, last))}"
        if last is not None
        else f"no segment of timeline {line}"
    )
    return [
        _no_wal(
            url,
            found,
            f"WAL up to {newest.restored.reached_lsn}, which drill {newest.drill_id} replayed on"
            f" {newest.started_at:%Y-%m-%d %H:%M} UTC",
        )
    ]


def _no_wal(url: str, found: str, expected: str) -> Problem:
    return Problem(
        "wal-missing",
        f"archived WAL in {url}",
        found,
        expected,
        "check prefix, bucket, region and keys, and what deletes there; if it is lost, take a base"
        " backup now",
    )


def nothing_there(url: str) -> Problem:
    """Return the problem of a repository without even a first base backup.

    The repository is another one, or nothing was ever backed up.
    """
    return Problem(
        "no-backups",
        f"{url}",
        "no base backup, and no dump",
        "at least one",
        "take the first one with `pgdrill backup`; if there should be some, check prefix, bucket,"
        " region and keys",
    )


def check_dumps(access: Access, there: Collection[str]) -> None:
    """Raise where a listing lacks dumps that are known."""
    for problem in missing("dump", access.dumps.url, lost_dumps(access, there), len(there)):
        raise as_could_not_verify(problem)


def no_memory(access: Access, backups: Collection[str]) -> bool:
    """Return whether retention remembers nothing, and base backups are there without a record.

    pgdrill has no record of them: its memory was perhaps lost.
    """
    return (
        bool(backups)
        and not access.reports.sizes(f"{FOLDER}/")
        and bool(set(backups) - recorded(access).keys())
    )
