"""Base backups that a cluster is known to have had.

Where one is not seen any more, it is the looking that failed, or something was lost.

A store that lists nothing (another prefix, region or bucket, a proxy's empty answer) looks like one
in which nothing is to be done. What is known: the records of base backups, retention's ledger and
what it deleted, the newest reports.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from pgdrill.access import Access
from pgdrill.baseline import backup_record
from pgdrill.errors import PgdrillError, Problem, as_could_not_verify
from pgdrill.reports import store
from pgdrill.repository.ledger import read_ledger
from pgdrill.repository.prune_runs import deleted
from pgdrill.repository.tools.base import BaseBackups

logger = logging.getLogger(__name__)

RECORD_KEY = re.compile(rf"backups/({backup_record.NAME.pattern})\.json")
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
    """Return the base backups that are known and not among those ``there``, by their names.

    What retention deleted is not lost.

    ``quick``: from the records alone, which is one listing if nothing is lost.
    """
    known = recorded(access)
    if not quick:
        marked = {
            name: Known(name, "marked in retention's ledger")
            for name in read_ledger(access.reports).marked
        }
        known = {**marked, **_from_reports(access), **known}
    lost = known.keys() - set(there)
    if lost:
        lost -= {*read_ledger(access.reports).forgotten, *deleted(access.reports, "delete-backup")}
    return [known[name] for name in sorted(lost)]


def recorded(access: Access) -> dict[str, Known]:
    """Return the base backups that pgdrill has a record of, by their names."""
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


def check_backups(access: Access, found: BaseBackups) -> None:
    """Raise where a listing is empty or has a hole, but base backups are known.

    The oldest may have been deleted by others.
    """
    there = sorted([*(backup.name for backup in found), *found.broken])
    lost = [one for one in lost_backups(access, there) if not there or one.name > there[0]]
    for problem in missing("base backup", access.repository.url, lost, len(there)):
        raise as_could_not_verify(problem)
