"""The baseline as JSON: figures, names and digests, no row content and no vector."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from pgdrill.clock import ClockDifference
from pgdrill.digests import Content, Horizon
from pgdrill.fingerprint import Fingerprint
from pgdrill.postgres.wal import DEFAULT_SEGMENT_BYTES, parse_lsn


class Model(BaseModel):
    """A part of the baseline as JSON."""

    model_config = ConfigDict(extra="forbid")


class Changes(Model):
    """Rows inserted, updated and deleted, as the server counts them."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def rewritten_rows(self) -> int:
        """Row versions that are not where they were: updated or deleted ones."""
        return self.updated + self.deleted


class TableState(Model):
    """A table at the snapshot. ``content`` is None where the table was too large to read whole.

    ``sample`` holds single rows (see :func:`pgdrill.digests.read_sample`) until settling shows that the digest will do.
    ``counters`` are as of before the snapshot; ``changes``, once settled, bound what was written up to the restore point;
    None where no bound holds, because the table was truncated or rewritten or its counters were reset.
    """

    content: Content | None
    bytes: int
    filenode: int
    estimated_rows: int
    sample: dict[str, str] = {}
    counters: Changes
    changes: Changes | None = None


class DatabaseState(Model):
    """One database."""

    extensions: dict[str, str]
    horizon: Horizon
    tables: dict[str, TableState]
    schema_objects: Fingerprint


class Baseline(Model):
    """What production held. ``restore_point`` and ``lsn`` name the instant a drill recovers to.

    ``read_only`` says for which roles and databases transactions are read-only by default. ``clock_offset_seconds`` is the
    server's clock less that of the host that took the baseline (see :mod:`pgdrill.clock`).
    """

    version: int = 1
    cluster: str
    taken_at: datetime
    system_identifier: int
    timeline: int
    settings: dict[str, str]
    read_only: list[str] = []
    shared_objects: Fingerprint
    databases: dict[str, DatabaseState]
    seconds: float = 0.0
    next_xid: int = 0
    wal_lsn: str = ""
    restore_point: str = ""
    lsn: str = ""
    restore_point_at: datetime | None = None
    clock_offset_seconds: float | None = None
    clock_uncertainty_seconds: float | None = None

    @property
    def lsn_position(self) -> int:
        """The restore point as a byte position."""
        return parse_lsn(self.lsn)

    @property
    def clock(self) -> ClockDifference | None:
        """The server's clock against the one that took the baseline."""
        if self.clock_offset_seconds is None or self.clock_uncertainty_seconds is None:
            return None
        return ClockDifference(self.clock_offset_seconds, self.clock_uncertainty_seconds)

    @property
    def segment_bytes(self) -> int:
        """Size of production's WAL segments (``pg_settings`` gives it in bytes)."""
        return int(self.settings.get("wal_segment_size", DEFAULT_SEGMENT_BYTES))
