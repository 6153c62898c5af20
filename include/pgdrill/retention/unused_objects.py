"""The objects that lie about in a repository and serve nothing.

They are listed with their size, and removed only when old enough and named.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pgdrill.config import Retention
from pgdrill.repository.lineage import foreign_timelines
from pgdrill.repository.wal_ranges import Run, subtract
from pgdrill.retention.inventory import Inventory
from pgdrill.retention.promises import view
from pgdrill.text import count


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is there and serves no promise."""

    kind: str  # leftover, orphaned-wal, foreign-timeline, foreign-system
    name: str
    stored_bytes: int
    words: str


def findings(inventory: Inventory, policy: Retention, now: datetime) -> list[Finding]:
    """Find what serves nothing.

    That is leftovers of uploads, WAL before the oldest backup, timelines that do not lead to now,
    and other clusters' backups.
    """
    seen = view(inventory, policy, now)
    found = [
        Finding(
            "leftover",
            left.name,
            left.stored_bytes,
            f"no finished backup; last written {left.last_written:%Y-%m-%d %H:%M} UTC",
        )
        for left in inventory.leftovers
    ]
    for timeline in foreign_timelines(inventory.wal, seen.paths):
        runs = inventory.wal.on(timeline)
        number = sum(run.count for run in runs)
        found.append(
            Finding(
                "foreign-timeline",
                f"{timeline:08X}",
                sum(run.stored_bytes for run in runs),
                f"{count(number, 'segment')} of a timeline that does not lead to now: abandoned by"
                " a restore, or archived by a clone",
            )
        )
    orphaned = _orphaned(inventory)
    if orphaned:
        first = inventory.wal.name((orphaned[0].timeline, orphaned[0].first))
        number = sum(run.count for run in orphaned)
        stored = sum(run.stored_bytes for run in orphaned)
        found.append(
            Finding(
                "orphaned-wal",
                first,
                stored,
                f"{count(number, 'segment')} before the oldest base backup, from {first} on:"
                " nothing can be restored from them; they go with the first WAL that goes",
            )
        )
    for backup in inventory.backups:
        if seen.system and backup.system != seen.system:
            found.append(
                Finding(
                    "foreign-system",
                    backup.name,
                    backup.stored_bytes,
                    f"system identifier {backup.system_identifier}, PostgreSQL"
                    f" {backup.major_version}: give each cluster its own prefix",
                )
            )
    return found


def _orphaned(inventory: Inventory) -> list[Run]:
    """Return the segments that come before every backup's first one in the order of names."""
    if not inventory.backups or inventory.unreadable:
        return []
    oldest = min(backup.position(inventory.wal) for backup in inventory.backups)
    behind = [
        Run(run.timeline, oldest[1], 1 << 62)
        for run in inventory.wal.runs
        if run.timeline == oldest[0]
    ]
    before = [run for run in inventory.wal.runs if run.timeline <= oldest[0]]
    return list(subtract(before, behind[:1]))
