"""The baseline: what production held at a known LSN, without any row content.

Content comes from one repeatable-read snapshot per database (see
:mod:`pgdrill.postgres.row_digests`), read on a standby where one is configured. What may have
changed between that snapshot and the restore point is bounded by the server's own counters, read
once before the snapshot and once after the restore point. State tables are read on both sides of
the restore point.
"""

from __future__ import annotations

from pgdrill.baseline.model import (
    BASELINE_VERSION,
    Baseline,
    Changes,
    CollationState,
    DatabaseState,
    SequenceState,
    StateTable,
    TableState,
)
from pgdrill.baseline.server_facts import every_database, extension_versions, filled_databases
from pgdrill.baseline.settle import settle, settle_catalogs
from pgdrill.baseline.take import take_baseline

__all__ = [
    "BASELINE_VERSION",
    "Baseline",
    "Changes",
    "CollationState",
    "DatabaseState",
    "SequenceState",
    "StateTable",
    "TableState",
    "every_database",
    "extension_versions",
    "filled_databases",
    "settle",
    "settle_catalogs",
    "take_baseline",
]
