"""The archived timelines, and which of them production is on.

Somebody's restored copy that was promoted with its archive_command on leaves a timeline of a higher
number in production's repository, and a recovery that is told nothing follows the highest. Where
production is gone, a failover and a copy look alike, unless the older timeline goes on behind the
place where the newer one left it: then neither is taken for granted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import psycopg

from pgdrill.access import Access
from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES, TimelineSwitch, format_lsn
from pgdrill.reports import store
from pgdrill.reports.model import Branch, Report
from pgdrill.repository.lineage import end_of
from pgdrill.repository.tools import BaseBackup
from pgdrill.repository.wal_files import WalReader
from pgdrill.repository.wal_ranges import Wal, parse_wal

logger = logging.getLogger(__name__)

MOST = 100  # histories read: each costs a start of the tool
NEWEST_REPORTS = 5
# A promotion takes the next free number. On the way to a timeline of a number far above, recovery
# asks the archive for the history of every number in between, four thousand million of them at
# worst, and each costs a start of the tool.
FARTHEST = 100


@dataclass(frozen=True, slots=True)
class Timelines:
    """The archived timelines that are known, with their histories."""

    wal: Wal

    @property
    def numbers(self) -> list[int]:
        """The numbers of all timelines that have a segment or a history, in order."""
        return sorted({run.timeline for run in self.wal.runs} | self.wal.histories.keys())

    def children(self, timeline: int) -> list[int]:
        """Return the timelines that branched off from this one."""
        return [
            one
            for one, history in self.wal.histories.items()
            if history and history[-1].timeline == timeline
        ]

    def left_at(self, timeline: int) -> int | None:
        """Return where a timeline left the one before it, or None where no history tells."""
        history = self.wal.histories.get(timeline)
        return history[-1].switch_lsn if history else None

    def goes_on_behind(self, timeline: int, lsn: int) -> bool:
        """Return whether a timeline has segments of its own after the one that holds ``lsn``."""
        return any(run.last > lsn // self.wal.segment_bytes for run in self.wal.on(timeline))

    def end(self, timeline: int) -> int:
        """Return the position after its newest archived segment, its ancestors' included."""
        return end_of(self.wal, self.wal.path(timeline))


def archived_timelines(
    wal: WalReader,
    listed: Mapping[str, int],
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
    *,
    least: int = 0,
) -> Timelines:
    """Find the timelines in a listing of archived WAL.

    Histories from ``least`` on are read with the tool, the newest ones first.
    """
    told = (int(name[:8], 16) for name in listed if name.endswith(".history"))
    numbers = sorted((number for number in told if number >= least), reverse=True)
    histories: dict[int, tuple[TimelineSwitch, ...]] = {}
    for number in numbers[:MOST]:
        try:
            histories[number] = wal.history(number)
        except BackupFault as error:
            logger.warning("a timeline's history was passed over: %s", error)
            histories[number] = ()
    return Timelines(Wal(parse_wal(listed, segment_bytes), histories, segment_bytes))


def production_timeline(access: Access) -> int | None:
    """Ask production which timeline it writes now; None where it cannot be asked."""
    try:
        with access.connect() as connection:
            row = connection.execute(
                "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
            ).fetchone()
    except (CouldNotVerify, psycopg.Error) as error:  # a standby has none of its own
        logger.warning("production's timeline is not known: %s", error)
        return None
    return int(row[0], 16) if row else None


def last_known_timeline(backups: Iterable[BaseBackup], reports: Iterable[Report]) -> int | None:
    """Return the timeline that production was last seen on, or None.

    It was seen by a drill that looked at it, or by a base backup.
    """
    seen = [(backup.finish_time, backup.timeline) for backup in backups]
    seen += [
        (report.started_at, report.restored.recovered_timeline)
        for report in reports
        if report.restored
        and report.restored.recovered_timeline
        and report.clock_offset_seconds is not None
    ]
    return max(seen)[1] if seen else None


def newest_reports(access: Access) -> Iterator[Report]:
    """Yield the reports of the last few drills."""
    for drill_id in store.list_reports(access)[-NEWEST_REPORTS:]:
        try:
            yield store.load_report(access, drill_id)
        except PgdrillError as error:
            logger.debug("report passed over: %s", error)


def followed(found: Timelines, last_known: int | None) -> tuple[int | None, list[int]]:
    """Choose the timeline to recover along without production's word.

    Returned with it are the timelines of which any may be production's instead.

    From the last known one on, it follows every failover that left nothing behind it. A timeline of
    a number far above is none of them (:data:`FARTHEST`), but may be somebody's, and is told.
    """
    here = last_known if last_known is not None else max(found.numbers, default=None)
    while here is not None and (
        children := [one for one in found.children(here) if one - here <= FARTHEST]
    ):
        left = [at for child in children if (at := found.left_at(child)) is not None]
        if len(children) > 1 or any(found.goes_on_behind(here, at) for at in left):
            return here, [one for one in found.numbers if _leads_through(found, one, here)]
        here = children[0]
    return here, [] if here is None else [
        one for one in found.numbers if one - here > FARTHEST and found.wal.histories.get(one)
    ]


def _leads_through(found: Timelines, timeline: int, ancestor: int) -> bool:
    return any(one.timeline == ancestor for one in found.wal.histories.get(timeline, ()))


def branches(
    access: Access, found: Timelines, timeline: int, doubtful: list[int], *, production: bool
) -> list[Branch]:
    """Return the other ends of archived WAL.

    They are timelines above production's own, or those that may be production's.
    """
    others = [one for one in found.numbers if one > timeline] if production else doubtful
    if len(others) > MOST:
        logger.warning(
            "%d timelines are other ends of WAL; the report names the %d highest", len(others), MOST
        )
    return [_branch(access, found, one, stray=production) for one in others[-MOST:]]


def _branch(access: Access, found: Timelines, timeline: int, *, stray: bool) -> Branch:
    runs, at = found.wal.on(timeline), found.left_at(timeline)
    first = found.wal.name((timeline, runs[0].first)) if runs else ""
    return Branch(
        timeline=timeline,
        history=f"{timeline:08X}.history" if timeline in found.wal.histories else "",
        segments=sum(run.count for run in runs),
        first_segment=first,
        left_at=format_lsn(at) if at is not None else "",
        ends_at=format_lsn(found.end(timeline)),
        stray=stray,
        removal=removal(access, timeline),
    )


def removal(access: Access, timeline: int) -> str:
    """Return the command that deletes a timeline's objects in the repository, and no others."""
    where, number = access.cluster.repository, f"{timeline:08X}"
    folder = f"{where.url.rstrip('/')}/{access.repository.wal_folder}"
    if where.url.startswith("s3://"):
        endpoint = f" --endpoint-url {where.endpoint_url}" if where.endpoint_url else ""
        return f"aws{endpoint} s3 rm --recursive {folder} --exclude '*' --include '{number}*'"
    return f"rm -r {folder.removeprefix('file://')}{number}*"
