"""The reports beside the dumps they are about; they say which dumps count.

Which may go is for retention to say.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

from pgdrill.access import Access
from pgdrill.documents import read_model
from pgdrill.errors import BackupFault
from pgdrill.logical import manifest as manifests
from pgdrill.logical.report import DumpReport, IndexBuild, counts
from pgdrill.reports.belief import believed_dump
from pgdrill.reports.store import keep_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """A dump with the reports of its restores, oldest first.

    It counts if a restore of it has passed, and none since found it damaged.
    """

    dump_id: str
    drills: tuple[DumpReport, ...]

    @property
    def counts(self) -> bool:
        """True if a restore has proved the dump, and none since has found it damaged."""
        return counts(self.drills)

    @property
    def last(self) -> DumpReport | None:
        """The newest report, migrations aside."""
        plain = [report for report in self.drills if not report.migrated]
        return plain[-1] if plain else None


def report_key(report: DumpReport) -> str:
    """Return where a report is kept."""
    return f"{report.dump_id}/drill-{report.drill_id}.json"


def save_report(access: Access, report: DumpReport) -> None:
    """Write the local copy, then the store's. A store that is down must not lose it."""
    keep_report(access.dumps, report_key(report), _local_file(access, report.drill_id), report)


def local_report(access: Access, drill_id: str) -> DumpReport | None:
    """Read the local copy of a report, on the host where the dump was restored."""
    file = _local_file(access, drill_id)
    return read_model(DumpReport, file.read_bytes()) if file.exists() else None


def local_reports(access: Access) -> list[DumpReport]:
    """Read every report that is kept on this host; what cannot be read is left out."""
    found = []
    for file in _local_file(access, "x").parent.glob("*.json"):
        with contextlib.suppress(ValueError):
            found.append(read_model(DumpReport, file.read_bytes()))
    return found


def _local_file(access: Access, drill_id: str) -> Path:
    return access.cluster.state_directory / "dump-reports" / f"{drill_id}.json"


def listed(access: Access) -> list[Listed]:
    """List every dump that has a manifest, oldest first."""
    keys = sorted(access.dumps.sizes())
    found = []
    for dump_id in manifests.list_dumps(access):
        reports = [
            one
            for key in keys
            if key.startswith(f"{dump_id}/drill-") and (one := _report(access, key))
        ]
        found.append(Listed(dump_id, tuple(sorted(reports, key=lambda report: report.started_at))))
    return found


def _report(access: Access, key: str) -> DumpReport | None:
    try:
        return parse_report(access.dumps.read_listed(key), key)
    except (BackupFault, ValueError) as error:
        logger.warning("unreadable report %s/%s: %s", access.dumps.url, key, error)
        return None


def parse_report(text: bytes | None, key: str) -> DumpReport:
    """Parse a dump's report, with a verdict that its content bears.

    Raises ValueError for none, and for another one's under this key.
    """
    report = read_model(DumpReport, text)
    if report_key(report) != key:
        raise ValueError(f"it is report {report.drill_id[:60]} of dump {report.dump_id[:60]}")
    return believed_dump(report)


def builds(access: Access) -> list[IndexBuild]:
    """Return every timed build of every restore, oldest first: what a forecast learns from."""
    reports = (
        report for dump in listed(access) for report in dump.drills if report.restore.status == "ok"
    )
    return [
        build
        for report in sorted(reports, key=lambda one: one.started_at)
        for build in report.builds
    ]
