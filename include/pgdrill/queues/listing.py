"""The reports beside the snapshots they are about; they say which snapshots count."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from pgdrill.documents import read_model
from pgdrill.errors import BackupFault, PgdrillError
from pgdrill.queues import record
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.record import SnapshotRecord
from pgdrill.queues.report import SnapshotReport
from pgdrill.reports.belief import believed_snapshot
from pgdrill.reports.store import keep_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """A snapshot with its record, None where that cannot be read, and its reports, oldest first.

    It counts if it was loaded and found right, and none since found it wrong.
    """

    snapshot_id: str
    record: SnapshotRecord | None
    trouble: str
    reports: tuple[SnapshotReport, ...]
    keys: tuple[str, ...]
    stored_bytes: int

    @property
    def last(self) -> SnapshotReport | None:
        """The newest report."""
        return self.reports[-1] if self.reports else None

    @property
    def counts(self) -> bool:
        """True if it is proved."""
        telling = [one for one in self.reports if one.proves or one.disproves]
        return self.record is not None and bool(telling) and telling[-1].proves

    @property
    def damage(self) -> str:
        """Why it does not count; empty if it does."""
        if self.trouble:
            return self.trouble
        if self.counts:
            return ""
        last = self.last
        return f"{last.verdict}: {last.reason}" if last else "never loaded"


def report_key(report: SnapshotReport) -> str:
    """Return where a report is kept."""
    return f"{report.snapshot_id}/load-{report.drill_id}.json"


def save_report(access: QueueAccess, report: SnapshotReport) -> None:
    """Write the local copy, then the store's. A store that is down must not lose it."""
    keep_report(access.snapshots, report_key(report), local_report(access, report.drill_id), report)


def local_report(access: QueueAccess, drill_id: str) -> Path:
    """Return the local copy of a report."""
    return access.state_directory / "reports" / f"{drill_id}.json"


def listed(access: QueueAccess, *, newest: int = 0) -> list[Listed]:
    """List every snapshot that has a record, oldest first; or so many of the newest."""
    sizes = access.snapshots.sizes()
    by_id: dict[str, dict[str, int]] = {}
    for name, size in sizes.items():
        by_id.setdefault(name.partition("/")[0], {})[name] = size
    known = sorted(
        snapshot_id
        for snapshot_id, names in by_id.items()
        if record.SNAPSHOT_ID.fullmatch(snapshot_id) and record.key(snapshot_id) in names
    )
    return [_listed(access, one, by_id[one]) for one in known[-newest:]]


def _listed(access: QueueAccess, snapshot_id: str, sizes: dict[str, int]) -> Listed:
    found, trouble = None, ""
    try:
        found = record.read(access, snapshot_id)
        place = record.key(snapshot_id, found.file.name)
        if sizes.get(place) != found.file.stored_bytes:
            trouble = f"{found.file.name} is missing or has another size"
    except PgdrillError as error:
        trouble = error.problem.found
    start = f"{snapshot_id}/load-"
    reports = [one for name in sizes if name.startswith(start) and (one := _report(access, name))]
    first = record.key(snapshot_id)
    return Listed(
        snapshot_id,
        found,
        trouble,
        tuple(sorted(reports, key=lambda one: one.started_at)),
        tuple(sorted(sizes, key=lambda name: (name != first, name))),
        sum(sizes.values()),
    )


def _report(access: QueueAccess, name: str) -> SnapshotReport | None:
    try:
        report = read_model(SnapshotReport, access.snapshots.read_listed(name))
        if report_key(report) != name:
            raise ValueError(f"it is report {report.drill_id[:60]}")  # noqa: TRY301
    except (BackupFault, ValueError) as error:
        logger.warning("unreadable report %s/%s: %s", access.url, name, error)
        return None
    return believed_snapshot(report)
