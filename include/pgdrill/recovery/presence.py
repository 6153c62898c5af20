"""The absence of production: told in the verdict.

After some drills in a row without production no verdict is green.
"""

from __future__ import annotations

import logging

from pgdrill.access import Access
from pgdrill.errors import CouldNotVerify, Gone
from pgdrill.reports import store
from pgdrill.reports.model import CheckResult, Report
from pgdrill.text import ordinal

logger = logging.getLogger(__name__)


def absence(access: Access) -> str:
    """Return why production is not there, in words, or an empty string where it lets in.

    Raises if it is there and does not.
    """
    try:
        access.connect().close()
    except Gone as error:
        return error.problem.found
    return ""


def note_absence(access: Access, report: Report, error: Gone) -> None:
    """Keep in the report that production was gone, and how many drills in a row it has been."""
    report.without_production = error.problem.found
    report.drills_without_production = 1 + _before(access, report)
    logger.warning(
        "drilling without production, for the %s drill in a row: %s",
        ordinal(report.drills_without_production),
        error,
    )


def _before(access: Access, report: Report) -> int:
    """Count the drills right before this one that were without production.

    Those that did not come to look at it count neither way.
    """
    for drill_id in reversed(store.list_reports(access)):
        if drill_id == report.drill_id:
            continue
        try:
            earlier = store.load_report(access, drill_id)
        except CouldNotVerify as trouble:
            logger.warning("report passed over: %s", trouble)
            continue
        if earlier.started_at >= report.started_at:
            continue
        if earlier.without_production:
            return earlier.drills_without_production
        if earlier.timings.baseline_seconds is not None:
            return 0
    return 0


def answer(report: Report, allowed: int) -> CheckResult | None:
    """Return what production's absence means for the verdict, or None where it was there."""
    if not report.without_production:
        return None
    times = report.drills_without_production
    return CheckResult(
        name="production",
        family="recovery",
        status="warn" if times <= allowed else "skip",
        thing="server",
        value=f"gone for {times} drill{'s' if times > 1 else ''} in a row",
        threshold=f"at most {allowed} (drill.without_production)",
        message=f"{report.without_production}; what came back was not compared with it",
        hint=(
            "correct server.dsn (or its Airflow connection) if it is there; drill again once it is"
            " back, or raise drill.without_production while it is known to be gone"
        ),
    )
