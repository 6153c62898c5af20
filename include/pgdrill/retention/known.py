"""The backups, dumps and WAL that a cluster is known to have had.

Where they are not seen any more, it is the looking that failed, or something was lost.

A store that lists nothing (another prefix, region or bucket, a proxy's empty answer) looks like one
in which nothing is to be done. What is known: the records of base backups, retention's ledger and
what it deleted, the newest reports, here and in the store.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pgdrill.access import Access
from pgdrill.baseline import backup_record
from pgdrill.errors import PgdrillError, Problem, as_could_not_verify
from pgdrill.logical import store as dump_store
from pgdrill.logical.manifest import DUMP_ID
from pgdrill.postgres.wal import parse_lsn
from pgdrill.reports import store
from pgdrill.reports.model import Report
from pgdrill.repository.tools.base import BaseBackups
from pgdrill.repository.wal_ranges import Wal
from pgdrill.retention import journal, kept

logger = logging.getLogger(__name__)

RECORD_KEY = re.compile(rf"backups/({backup_record.NAME.pattern})\.json")
# only of one that was finished
DUMP_REPORT_KEY = re.compile(rf"({DUMP_ID.pattern})/drill-[A-Za-z0-9_-]+\.json")
NEWEST_REPORTS = 5
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Known:
    """Something that was there, and from where that is known."""

    name: str
    source: str
    at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.source}{f', {self.at:%Y-%m-%d %H:%M} UTC' if self.at else ''})"


def lost_backups(access: Access, there: Collection[str], *, quick: bool = False) -> list[Known]:
    """Return the base backups that are known and whose names are not ``there``.

    What retention deleted is not lost.

    ``quick``: from the records alone, which is one listing if nothing is lost.
    """
    known = _from_records(access)
    if not quick:
        marked = {
            name: Known(name, "marked in retention's ledger")
            for name in kept.read_ledger(access).marked
        }
        known = {**marked, **_from_reports(access), **known}
    lost = known.keys() - set(there)
    if lost:
        lost -= {*kept.read_ledger(access).forgotten, *_deleted(access, "delete-backup")}
    return [known[name] for name in sorted(lost)]


def _from_records(access: Access) -> dict[str, Known]:
    written = access.reports.written("backups/")
    names = {match[1]: at for key, at in written.items() if (match := RECORD_KEY.fullmatch(key))}
    return {name: Known(name, "its record", at) for name, at in names.items()}


def _from_reports(access: Access) -> dict[str, Known]:
    found = {}
    for drill_id in store.list_reports(access)[-NEWEST_REPORTS:]:
        try:
            report = store.load_report(access, drill_id)
        except PgdrillError as error:
            logger.debug("report passed over: %s", error)
            continue
        if report.backup and report.restored:
            found[report.backup] = Known(
                report.backup, f"restored by drill {drill_id}", report.started_at
            )
    return found


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
        lost -= {*kept.read_ledger(access).forgotten, *_deleted(access, "delete-dump")}
    return [known[name] for name in sorted(lost)]


def _deleted(access: Access, kind: str) -> set[str]:
    """Return what retention's runs deleted, or perhaps did.

    A run that was killed did not write down its last step.
    """
    return {
        step.name
        for run in journal.runs(access)
        for step in run.steps
        if step.kind == kind
        and (step.state in ("done", "was done") or (step.state == "to do" and run.state != "done"))
    }


def missing(what: str, url: str, lost: Iterable[Known], there: int) -> list[Problem]:
    """Return the lost ones as a problem; none if nothing is lost."""
    found = list(lost)
    if not found:
        return []
    newest = max((one.at for one in found if one.at), default=None)
    names = ", ".join(map(str, found[-SHOWN:])) + (
        f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    )
    return [
        Problem(
            "missing",
            f"{what}s in {url}",
            f"{there} of {there + len(found)} that are known: not {names}"
            + (f"; the newest of {newest:%Y-%m-%d %H:%M} UTC" if newest else ""),
            "everything that is known, but for what retention deleted",
            "check prefix, bucket, region and keys"
            f" ({'dump.url' if what == 'dump' else 'repository.url'}) and what deletes there; what"
            " was deleted by hand on purpose is let go with `pgdrill prune --apply --allow"
            " missing`",
        )
    ]


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


def check_backups(access: Access, found: BaseBackups) -> None:
    """Raise where a listing is empty or has a hole, but base backups are known.

    The oldest may have been deleted by others.
    """
    there = sorted([*(backup.name for backup in found), *found.broken])
    lost = [one for one in lost_backups(access, there) if not there or one.name > there[0]]
    for problem in missing("base backup", access.repository.url, lost, len(there)):
        raise as_could_not_verify(problem)


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
        and not access.reports.sizes(f"{kept.FOLDER}/")
        and bool(set(backups) - _from_records(access).keys())
    )
