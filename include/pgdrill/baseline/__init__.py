"""The baseline: what production held at a known LSN, without any row content.

Content comes from one repeatable-read snapshot per database (see :mod:`pgdrill.digests`). What may have changed between
that snapshot and the restore point is bounded by the server's own counters, read once before the snapshot and once after
the restore point.
"""

from __future__ import annotations

from pgdrill.baseline.database import extension_versions
from pgdrill.baseline.model import Baseline, Changes, DatabaseState, TableState
from pgdrill.baseline.settle import settle
from pgdrill.baseline.take import DATABASES, take_baseline

__all__ = [
    "DATABASES", "Baseline", "Changes", "DatabaseState", "TableState", "extension_versions", "settle", "take_baseline",
]  # fmt: skip
