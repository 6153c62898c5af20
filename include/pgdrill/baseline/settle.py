"""Settling: what was written between the baseline and its restore point, by the server's own counters."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from pgdrill.access import Access
from pgdrill.baseline.database import TABLES
from pgdrill.baseline.model import Baseline, Changes, TableState
from pgdrill.fingerprint import read_fingerprint

# A backend that goes idle keeps its counters back for up to ten seconds (PGSTAT_IDLE_INTERVAL).
COUNTERS_SETTLE_SECONDS = 11.0


def settle(access: Access, baseline: Baseline) -> None:
    """Read counters and catalogs again, late enough that the counters hold all that was written before the restore point.

    What changed meanwhile is allowed to be in either state.
    """
    with access.connect() as connection:
        baseline.shared_objects.settle(read_fingerprint(connection, shared=True))
    since = baseline.restore_point_at or baseline.taken_at
    remaining = COUNTERS_SETTLE_SECONDS - (datetime.now(UTC) - since).total_seconds()
    if remaining > 0:
        time.sleep(remaining)  # nothing announces that a backend has reported its counters
    for name, database in baseline.databases.items():
        with access.connect(name) as connection:
            now = {row[0]: row for row in connection.execute(TABLES).fetchall()}
            database.schema_objects.settle(read_fingerprint(connection, shared=False))
        for table, state in database.tables.items():
            row = now.get(table)
            state.changes = _changes(state, row) if row else None
            if state.content and state.changes and not state.changes.rewritten_rows:
                state.sample.clear()  # the digest says it all


def _changes(state: TableState, row: tuple[Any, ...]) -> Changes | None:
    """What the counters say was written since; None where they cannot be believed."""
    now = dict(zip(Changes.model_fields, row[6:9], strict=True))
    since = {name: now[name] - getattr(state.counters, name) for name in now}
    if row[4] != state.filenode or min(since.values()) < 0:
        return None
    return Changes(**since)
