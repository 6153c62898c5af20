"""What a drill restores, as exactly as it is known before a backup has been chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pgdrill.recovery.targets import RecoveryTarget


@dataclass(frozen=True, slots=True)
class Goal:
    """What to restore. ``target`` is exact; ``timeline`` None means the backup's own."""

    backup: str
    target: RecoveryTarget
    system_identifier: int | None = None
    timeline: int | None = None
    stop_lsn: int | None = None
    preload_libraries: str = ""
    superusers: Sequence[str] = ()  # production's that may log in
    # production's settings for planning
    planned_with: Mapping[str, str] = field(default_factory=dict)
    # production's, where replay had settings of its own
    after_replay: Mapping[str, str] = field(default_factory=dict)
    # all that somebody set on production, today
    configured: Mapping[str, str] = field(default_factory=dict)
    # at the target, as far as known: oid -> production's folder
    tablespaces: Mapping[str, str] = field(default_factory=dict)
    segment_bytes: int = 16 * 2**20
