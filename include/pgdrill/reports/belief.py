"""Belief in a report that says passed: its verdict follows from what is in it, or is not believed.

Whoever may write into the report store may write reports. What a drill that passed cannot lack is
looked for before its verdict is shown or counts for anything; a forgery that invents all of it is
not told from a true one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pgdrill.reports.model import CheckResult, Report, judge

if TYPE_CHECKING:
    from pgdrill.logical.report import DumpReport
    from pgdrill.queues.report import SnapshotReport

CLOCK_TOLERANCE = timedelta(minutes=5)
# families of checks, as every version had them
ESSENTIAL = ("recovery", "vectors", "schema", "integrity", "rows")
DUMP_ESSENTIAL = ("vectors",)


def believed(report: Report) -> Report:
    """Return the report, with a verdict that its content bears.

    A report that says passed and does not show it is not passed.
    """
    if report.verdict == "passed" and (why := next(_lacking(report), "")):
        report.verdict, report.reason = "could not verify", f"not believed: says passed, but {why}"
        report.summary = (
            f"This report of {report.cluster} is not believed: it says passed, but {why}. Run a"
            " drill."
        )
    return report


def believed_dump(report: DumpReport) -> DumpReport:
    """Return a dump's report, with a verdict that its content bears."""
    if report.verdict == "passed" and (why := next(_dump_lacking(report), "")):
        report.verdict, report.reason = "could not verify", f"not believed: says passed, but {why}"
    return report


def believed_snapshot(report: SnapshotReport) -> SnapshotReport:
    """Return a queue snapshot's report, with a verdict that its content bears."""
    if report.verdict == "passed" and (why := next(_snapshot_lacking(report), "")):
        report.verdict, report.reason = "could not verify", f"not believed: says passed, but {why}"
    return report


def _lacking(report: Report) -> Iterator[str]:
    verdict, reason = judge(report.restore, report.checks, report.results, report.families_left_out)
    if verdict != "passed":
        yield f"by its content it is {verdict} ({reason})"
    asked = [family for family in ESSENTIAL if family not in report.families_left_out]
    yield from _unanswered(report.results, asked)
    if report.restored is None or report.target is None or not report.backup:
        yield "no backup, no target or no restored cluster is named in it"
    if report.timings.time_to_running_seconds is None:
        yield "the restored cluster never came to run"
    yield from _times(report)


def _dump_lacking(report: DumpReport) -> Iterator[str]:
    verdict, reason = judge(report.restore, report.checks, report.results)
    if verdict != "passed":
        yield f"by its content it is {verdict} ({reason})"
    yield from _unanswered(report.results, DUMP_ESSENTIAL)
    yield from _times(report)


def _snapshot_lacking(report: SnapshotReport) -> Iterator[str]:
    verdict, reason = judge(report.restore, report.checks, report.results, essential="queues")
    if verdict != "passed":
        yield f"by its content it is {verdict} ({reason})"
    if not report.loader or report.load_seconds is None:
        yield "no server is named in it that loaded the file"
    yield from _times(report)


def _unanswered(results: list[CheckResult], families: tuple[str, ...] | list[str]) -> Iterator[str]:
    for family in families:
        answers = [result for result in results if result.family == family]
        if not answers:
            yield f"no question of the family {family} was asked"


def _times(report: Report | DumpReport | SnapshotReport) -> Iterator[str]:
    if report.started_at > datetime.now(UTC) + CLOCK_TOLERANCE:
        yield "it begins in the future"
    if report.ended_at is not None and report.ended_at < report.started_at:
        yield "it ends before it begins"
