"""The listing of archived WAL: the new segments each time, and everything in steps."""

from __future__ import annotations

import contextlib
import tempfile
from datetime import datetime
from pathlib import Path

from pgdrill.errors import BackupFault
from pgdrill.health.continuity import step_size, take_listing
from pgdrill.health.memory import WalMemory
from pgdrill.health.subject import HealthSubject
from pgdrill.host.process import Runner
from pgdrill.postgres.wal import Segment
from pgdrill.repository.tools.base import ArchivedWal
from pgdrill.repository.wal_ranges import Position

BEFORE_ALL: Position = (0, -1)


def list_new(subject: HealthSubject) -> int:
    """List what lies behind the newest name that is known; return how many segments came."""
    memory = subject.memory.wal
    if memory.whole_at is None:
        return 0  # the first round lists them
    before = _count(memory)
    after = _position(subject, memory.newest_key)
    keys, _ = subject.access.objects.sizes_after(_folder(subject), memory.newest_key)
    _take(subject, keys, after, None)
    return _count(memory) - before


def list_step(subject: HealthSubject, now: datetime) -> None:
    """List the next stretch of everything; at its end the round begins anew."""
    memory = subject.memory.wal
    if not memory.swept_key:
        memory.round_started_at = now
    after = _position(subject, memory.swept_key)
    keys, whole = subject.access.objects.sizes_after(
        _folder(subject), memory.swept_key, most=step_size(memory, now)
    )
    keys = keys if whole else _without_last_segment(subject, keys)
    last = max(keys, default=memory.swept_key)
    _take(subject, keys, after, None if whole else _position(subject, last))
    memory.swept_at = now
    memory.swept_key = "" if whole else last
    if whole:
        memory.whole_at = now


def _without_last_segment(subject: HealthSubject, keys: dict[str, int]) -> dict[str, int]:
    """Return a stretch of names without those of its last segment: more of them may follow."""
    last = _position(subject, max(keys))
    return {key: size for key, size in keys.items() if _position(subject, key) < last}


def _take(
    subject: HealthSubject, keys: dict[str, int], after: Position, to: Position | None
) -> None:
    memory = subject.memory.wal
    archived = subject.access.repository.archived(keys)
    take_listing(memory, archived, after, to)
    segments = [key for key in keys if subject.access.tool.wal_key(key)]
    memory.newest_key = max([memory.newest_key, *segments])
    if memory.newest_key and not memory.runs:
        memory.newest_key = ""
    _read_histories(subject, archived)


def _read_histories(subject: HealthSubject, archived: ArchivedWal) -> None:
    """Read each timeline's history once: it never changes."""
    memory = subject.memory.wal
    named = {int(name[:8], 16) for name in archived if name.endswith(".history")}
    lacking = sorted(named - memory.histories.keys() - {1})
    if not lacking:
        return
    with tempfile.TemporaryDirectory(prefix="pgdrill-") as folder:
        reader = subject.access.wal_reader(Runner(), Path(folder))
        for line in lacking:
            with contextlib.suppress(BackupFault):  # the path then ends there, and is told
                history = reader.history(line)
                memory.histories[line] = [(one.timeline, one.switch_lsn) for one in history]


def _folder(subject: HealthSubject) -> str:
    return subject.access.repository.wal_folder


def _position(subject: HealthSubject, key: str) -> Position:
    """Return the place of a key's segment among all; a history comes before its timeline's."""
    memory = subject.memory.wal
    if not key:
        return BEFORE_ALL
    if name := subject.access.tool.wal_key(key):
        segment = Segment.parse(name[:24], memory.segment_bytes)
        return segment.timeline, segment.number
    name = Path(key).name
    with contextlib.suppress(ValueError):
        return int(name[:8], 16), -1
    return BEFORE_ALL


def _count(memory: WalMemory) -> int:
    return sum(last - first + 1 for _, first, last in memory.runs)
