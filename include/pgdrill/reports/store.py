"""The places of reports and baselines: locally first, then the report store beside the backups."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Protocol

from pgdrill.access import Access
from pgdrill.baseline import Baseline
from pgdrill.documents import read_model
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.reports.belief import believed
from pgdrill.reports.drill_id import DRILL_ID
from pgdrill.reports.model import Report, Stage, Target
from pgdrill.repository.object_store import Storage

logger = logging.getLogger(__name__)

REPORT_KEY = re.compile(rf"reports/({DRILL_ID.pattern})\.json")


class Keepable(Protocol):
    """A report of any job."""

    kept_at: list[str]

    def model_dump_json(self, *, indent: int) -> str:
        """Return the report as pydantic writes it."""


def report_file(access: Access, drill_id: str) -> Path:
    """Return the local copy of a report; it outlives the drill's folder."""
    return access.cluster.state_directory / "reports" / f"{drill_id}.json"


def report_key(drill_id: str) -> str:
    """Return the key under which the report store keeps a report."""
    return f"reports/{drill_id}.json"


def save_report(access: Access, report: Report) -> None:
    """Write the local copy, then the store's. A store that is down must not lose the report."""
    file = report_file(access, report.drill_id)
    keep_report(access.reports, report_key(report.drill_id), file, report)


def keep_report(storage: Storage, key: str, file: Path, report: Keepable) -> None:
    """Write both copies of a report, which says where they are.

    A report is written at every stage. A store that failed the last time is then only tried
    briefly: one that hangs costs its time once, and is told of once.
    """
    failed_before = report.kept_at == [str(file)]
    report.kept_at = [str(file), f"{storage.url}/{key}"]
    write_file(file, report.model_dump_json(indent=1))
    try:
        (storage.brief if failed_before else storage).write(key, file.read_bytes())
    except CouldNotVerify as error:
        report.kept_at = [str(file)]
        write_file(file, report.model_dump_json(indent=1))
        logger.log(
            logging.DEBUG if failed_before else logging.WARNING,
            "report kept at %s only: %s",
            file,
            error,
        )


def load_report(access: Access, drill_id: str) -> Report:
    """Load a report from the local copy or the store. Its verdict is one that its content bears."""
    try:
        text = _text(access, drill_id)
        if text is not None:
            return believed(_parsed(access, drill_id, text))
        found = "no such report"
    except BackupFault as error:
        found = error.problem.found
    except ValueError as error:
        found = f"unreadable ({error})"
    raise CouldNotVerify(
        "no-report",
        f"report {drill_id} of cluster {access.cluster.name}",
        found=found,
        expected="a report of this version",
        hint="take an id from `pgdrill report --list`",
    )


def _text(access: Access, drill_id: str) -> bytes | None:
    if not DRILL_ID.fullmatch(drill_id):  # it becomes a file's name
        return None
    file = report_file(access, drill_id)
    return file.read_bytes() if file.exists() else access.reports.read(report_key(drill_id))


def _parsed(access: Access, drill_id: str, text: bytes) -> Report:
    report = read_model(Report, text)
    if (report.drill_id, report.cluster) != (drill_id, access.cluster.name):
        raise ValueError(
            f"it is the report of drill {report.drill_id[:60]} of cluster {report.cluster[:60]}"
        )
    return report


def earlier_target(access: Access, drill_id: str, *, asked: str) -> Target | None:
    """Return the target of an earlier try of a drill, if it was asked for in the same words."""
    file = report_file(access, drill_id)
    target = load_report(access, drill_id).target if file.exists() else None
    return target if target and target.asked == asked else None


def kept_cleanup(access: Access, report: Report) -> Stage:
    """Return the clean-up stage as last written.

    A teardown can run, and report, while a killed stage is still ending.
    """
    file = report_file(access, report.drill_id)
    return read_model(Report, file.read_bytes()).cleanup if file.exists() else report.cleanup


def list_reports(access: Access) -> list[str]:
    """List the ids of all reports, oldest first, from both places.

    A name that is no drill's is left out.
    """
    local = {file.stem for file in report_file(access, "x").parent.glob("*.json")}
    kept = {
        match[1] for key in access.reports.sizes("reports/") if (match := REPORT_KEY.fullmatch(key))
    }
    return sorted(name for name in local | kept if DRILL_ID.fullmatch(name))


def save_baseline(access: Access, drill_id: str, baseline: Baseline) -> None:
    """Keep the baseline of a drill beside its report."""
    write_file(_baseline_file(access, drill_id), baseline.model_dump_json(indent=1))


def keep_baseline(access: Access, name: str, baseline: Baseline) -> list[str]:
    """Keep a baseline that was taken on demand, in the report store too; return the places."""
    save_baseline(access, name, baseline)
    file, key = _baseline_file(access, name), f"baselines/{name}.json"
    try:
        access.reports.write(key, file.read_bytes())
    except CouldNotVerify as error:
        logger.warning("baseline kept at %s only: %s", file, error)
        return [str(file)]
    return [str(file), f"{access.reports.url}/{key}"]


def forget_baseline(access: Access, drill_id: str) -> None:
    """Remove what an earlier try of a drill saw of production.

    It is nothing to compare this one with.
    """
    _baseline_file(access, drill_id).unlink(missing_ok=True)


def load_baseline(access: Access, drill_id: str) -> Baseline | None:
    """Load the baseline of a drill; None where production could not be looked at."""
    file = _baseline_file(access, drill_id)
    return read_model(Baseline, file.read_bytes()) if file.exists() else None


def _baseline_file(access: Access, drill_id: str) -> Path:
    return access.cluster.state_directory / "baselines" / f"{drill_id}.json"


def write_file(file: Path, text: str) -> None:
    """Write a file whole or not at all: another task may be reading."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(file)
