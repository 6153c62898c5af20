"""The restorable window: its instants, the gaps in them, and what keeping them costs.

Instants are told as exactly as base backups and segments tell them: a span begins when its first
backup ended and reaches to a position in the WAL. When that position was written is known to the
WAL alone; the newest object's time in the store stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgdrill.baseline.own_system import stranger_hint
from pgdrill.config import Retention
from pgdrill.postgres.wal import format_lsn
from pgdrill.reports.model import Branch
from pgdrill.repository.lineage import Stretch, end_of, on_path, stretches
from pgdrill.retention.inventory import Backup, Inventory
from pgdrill.retention.promises import DAY_SECONDS, View, view

MEASURED_SECONDS = 3600.0  # less time between two backups says nothing about a day


@dataclass(frozen=True, slots=True)
class Span:
    """Instants that can all be restored.

    ``end`` is None where the span reaches to the newest archived segment; before a gap it is the
    last moment of which a backup proves that it lies before it. ``end_lsn`` is exact.
    """

    start: datetime
    end: datetime | None
    start_lsn: str
    end_lsn: str
    backups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A base backup from which none of these instants can be restored.

    It says why, and what to do about it.
    """

    name: str
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class Window:
    """The restorable window of a cluster, and what it takes. Bytes are those stored."""

    cluster: str
    now: datetime
    promised_days: float
    timeline: int
    spans: tuple[Span, ...]
    backups: int
    backup_bytes: int
    dumps: int
    dump_bytes: int
    wal_segments: int
    wal_bytes: int
    wal_bytes_a_day: float | None
    backup_bytes_a_day: float | None
    forecast_30_days_bytes: float | None
    other_ends: tuple[Branch, ...] = ()  # timelines that are not, or may not be, production's
    left_out: tuple[LeftOut, ...] = ()
    unclear: bool = False  # which backups are the cluster's

    @property
    def stored_bytes(self) -> int:
        """The bytes of all that is stored."""
        return self.backup_bytes + self.dump_bytes + self.wal_bytes


def window_of(cluster: str, inventory: Inventory, policy: Retention, now: datetime) -> Window:
    """Return the window of a cluster, from its inventory."""
    seen = view(inventory, policy, now)
    path = seen.paths[0] if seen.paths else ()
    way = sorted((b for b in seen.counted if on_path(b, path)), key=lambda b: b.start_lsn)
    found = stretches(inventory.wal, path, seen.counted)
    newest = end_of(inventory.wal, path)
    wal_a_day, backups_a_day = _a_day(inventory, way)
    stored = (
        sum(b.stored_bytes for b in inventory.backups)
        + inventory.wal.stored_bytes
        + sum(d.stored_bytes for d in inventory.dumps)
    )
    return Window(
        cluster=cluster,
        now=now,
        promised_days=policy.window_days,
        timeline=path[-1].timeline if path else 0,
        spans=tuple(_span(one, newest=one.end_lsn == newest) for one in found),
        backups=len(inventory.backups),
        backup_bytes=sum(b.stored_bytes for b in inventory.backups),
        dumps=len(inventory.dumps),
        dump_bytes=sum(d.stored_bytes for d in inventory.dumps),
        wal_segments=inventory.wal.count,
        wal_bytes=inventory.wal.stored_bytes,
        wal_bytes_a_day=wal_a_day,
        backup_bytes_a_day=backups_a_day,
        forecast_30_days_bytes=_forecast(stored, policy, way, wal_a_day, backups_a_day),
        other_ends=inventory.branches,
        left_out=tuple(_left_out(cluster, inventory, policy, seen)),
        unclear=inventory.unclear,
    )


def _left_out(
    cluster: str, inventory: Inventory, policy: Retention, seen: View
) -> Iterator[LeftOut]:
    counted = {backup.name for backup in seen.counted}
    for backup in inventory.backups:
        if backup.name in seen.doubts:
            yield LeftOut(
                backup.name,
                seen.doubts[backup.name],
                f"see what `pgdrill prune {cluster}` says of it; mend the clock of the host that"
                " took it",
            )
        elif backup.system != seen.system:
            yield _of_another(cluster, backup, inventory, policy, seen)
        elif backup.name not in counted:
            yield LeftOut(
                backup.name,
                backup.damage or "a backup on which it builds is not whole",
                f"take a new base backup: `pgdrill backup {cluster}`",
            )
    for it in inventory.unreadable:
        yield LeftOut(
            it.name,
            f"its description cannot be read ({it.found})",
            "restore its description from the bucket's versions",
        )


def _of_another(
    cluster: str, backup: Backup, inventory: Inventory, policy: Retention, seen: View
) -> LeftOut:
    """Return a backup of another cluster as left out.

    Only one that is certainly not this cluster's is hinted to be removed.
    """
    whose = f"system identifier {backup.system_identifier}, PostgreSQL {backup.major_version}"
    if inventory.unclear:
        return LeftOut(
            backup.name,
            f"{whose}, and nobody said whether that is {cluster}'s",
            f"set server.system_identifier in dr.toml, below [clusters.{cluster}.server]; `pgdrill"
            f" doctor {cluster} --part repository` says it where the server answers",
        )
    own = f"{inventory.system_identifier or (seen.system or (0,))[0]}" + (
        f", PostgreSQL {seen.system[1]}" if seen.system else ""
    )
    return LeftOut(
        backup.name,
        f"another cluster's: {whose}; {cluster} is {own}",
        stranger_hint(cluster, backup.name, policy.window_days),
    )


def _span(stretch: Stretch[Backup], *, newest: bool) -> Span:
    first = min(stretch.backups, key=lambda backup: backup.finish_time)
    last = max(stretch.backups, key=lambda backup: backup.finish_time)
    return Span(
        first.finish_time,
        None if newest else last.finish_time,
        format_lsn(first.finish_lsn),
        format_lsn(stretch.end_lsn),
        tuple(backup.name for backup in stretch.backups),
    )


def _a_day(inventory: Inventory, way: Sequence[Backup]) -> tuple[float | None, float | None]:
    """Return the stored bytes of WAL and of base backups a day, over the backups that are there.

    They are told by LSN: WAL may be deleted since.
    """
    if len(way) < 2:
        return None, None
    first, last = way[0], way[-1]
    seconds = (last.start_time - first.start_time).total_seconds()
    if seconds < MEASURED_SECONDS or not inventory.wal.count:
        return None, None
    segments = (last.start_lsn - first.start_lsn) / inventory.wal.segment_bytes
    each = inventory.wal.stored_bytes / inventory.wal.count
    days = seconds / DAY_SECONDS
    return segments * each / days, sum(backup.stored_bytes for backup in way[1:]) / days


def _forecast(
    stored: int,
    policy: Retention,
    way: Sequence[Backup],
    wal_a_day: float | None,
    backups_a_day: float | None,
) -> float | None:
    """Return the bytes stored in thirty days if writing goes on as it did.

    They grow until the promises are filled, and then stay.
    """
    if wal_a_day is None or backups_a_day is None:
        return None
    newest = sum(backup.stored_bytes for backup in way[-3:]) / len(way[-3:])
    between = (way[-1].start_time - way[0].start_time) / (len(way) - 1)
    in_window = timedelta(days=policy.window_days) / between + 1
    weeks = max(0.0, policy.weekly - policy.window_days / 7) + policy.monthly + policy.yearly
    full = newest * (in_window + weeks) + wal_a_day * (
        policy.window_days + between / timedelta(days=1)
    )
    grown = stored + 30 * (wal_a_day + backups_a_day)
    return min(grown, max(full, float(stored)))
