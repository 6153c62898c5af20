"""The inputs of the forecast: this host's drills, the repository, the next base backup's date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from croniter import croniter  # type: ignore[import-untyped]

from pgdrill.access import Access
from pgdrill.baseline.own_system import own_backups
from pgdrill.baseline.segment_size import segment_bytes
from pgdrill.errors import CouldNotVerify, PgdrillError
from pgdrill.reports import store
from pgdrill.reports.forecast.model import HISTORY, Load, Sample
from pgdrill.reports.forecast.samples import sample_of
from pgdrill.reports.known_backups import check_backups
from pgdrill.reports.model import Report
from pgdrill.repository.tools import BaseBackup

SECONDS_A_DAY = 86_400.0
FEWEST_BACKUPS, FEWEST_DAYS = 3, 7  # for a line that tells how the cluster grows
MOST_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Inputs:
    """``history`` is oldest first; ``worst`` is the load just before ``next_base_at``.

    ``bytes_per_day``: by how much base backups grow, before compression; 0: not known, or they do
    not.
    """

    history: tuple[Sample, ...]
    now: Load
    worst: Load
    segments_per_day: float
    next_base_at: datetime
    stored_bytes: int  # of the newest base backup, compressed
    bytes_per_day: float = 0.0

    def breaks_on(self, factor: float | None, at: datetime) -> datetime | None:
        """Return when the cluster, growing as it did, will be ``factor`` times its size.

        Its base backups tell how it grew. None: not to be foreseen.
        """
        if factor is None or factor < 1 or self.bytes_per_day <= 0:
            return None
        days = (factor - 1) * self.now.base_bytes / self.bytes_per_day
        return at + timedelta(days=days) if days < MOST_DAYS else None


def collect(access: Access, at: datetime | None = None) -> Inputs:
    """Read reports and repository.

    Raises where no drill of this host, tool and durability has finished yet.
    """
    at = at or datetime.now(UTC)
    reports = _drills(access)
    history = tuple(sample for report in reports if (sample := sample_of(report)))
    listed = access.repository.backups()
    check_backups(access, listed)
    backups = own_backups(access, listed)
    if not history or not backups:
        raise CouldNotVerify(
            "no-history",
            f"forecast for cluster {access.cluster.name}",
            found=f"{len(history)} finished drills, {len(backups)} base backups",
            expected="at least one of each, made with this version",
            hint=(
                "run `pgdrill drill`, then ask again; every further drill makes the forecast better"
            ),
        )
    newest = max(backups, key=lambda backup: backup.finish_time)
    size = segment_bytes(access)
    segments = _segments_since(access, newest, size)
    each_day = _segments_per_day(backups, segments, size, at)
    schedule = access.cluster.backup.schedule
    next_base = croniter(schedule, at).get_next(datetime)
    base = float(newest.uncompressed_bytes or history[-1].load.base_bytes)
    vectors = history[-1].load.vector_bytes * base / history[-1].load.base_bytes
    days_left = (next_base - at).total_seconds() / SECONDS_A_DAY
    return Inputs(
        history,
        now=Load(base, segments, vectors),
        worst=Load(base, segments + each_day * days_left, vectors),
        segments_per_day=each_day,
        next_base_at=next_base,
        stored_bytes=sum(access.repository.parts(newest).values()),
        bytes_per_day=growth(backups),
    )


def growth(backups: Sequence[BaseBackup]) -> float:
    """Return bytes a day: the slope of a line through the full base backups of at least a week.

    0: fewer, or no growth.
    """
    sized = [
        (backup.start_time.timestamp() / SECONDS_A_DAY, float(backup.uncompressed_bytes))
        for backup in backups
        if backup.uncompressed_bytes and not backup.parent
    ]
    days = [day for day, _ in sized]
    if len(sized) < FEWEST_BACKUPS or max(days) - min(days) < FEWEST_DAYS:
        return 0.0
    slope = np.polyfit(np.array(days) - days[0], [size for _, size in sized], 1)[0]
    return max(0.0, float(slope))


def _drills(access: Access) -> list[Report]:
    """Return the newest comparable reports, oldest first.

    Other hosts, tools and durabilities have other rates.
    """
    found: list[Report] = []
    like: tuple[str, str, str] | None = None
    for drill_id in reversed(store.list_reports(access)):
        try:
            report = store.load_report(access, drill_id)
        except PgdrillError:
            continue  # one that cannot be read says nothing of time
        kind = (report.host, report.tool, report.durability)
        if sample_of(report) is None or (like and kind != like):
            continue
        like = kind
        found.append(report)
        if len(found) == HISTORY:
            break
    return found[::-1]


def _segments_since(access: Access, backup: BaseBackup, size: int) -> int:
    """Count the archived segments that a recovery from this backup would replay."""
    names = [name for name in access.repository.wal() if not name.endswith(".history")]
    first = backup.first_segment(size).name
    return sum(
        1 for name in names if name[8:] >= first[8:] and int(name[:8], 16) >= backup.timeline
    )


def _segments_per_day(
    backups: Sequence[BaseBackup], since_newest: int, size: int, at: datetime
) -> float:
    """Return the segments a day between the last two base backups.

    They are those since the only one where there are no two.
    """
    ordered = sorted(backups, key=lambda backup: backup.finish_time)
    if len(ordered) > 1:
        before, last = ordered[-2:]
        days = (last.start_time - before.start_time).total_seconds() / SECONDS_A_DAY
        count = last.first_segment(size).number - before.first_segment(size).number
        if days >= 1 and count >= 0:
            return count / days
    days = max((at - ordered[-1].start_time).total_seconds(), 3600) / SECONDS_A_DAY
    return since_newest / days
