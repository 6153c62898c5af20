"""Why a task is red, line by line: which drill, the first cause, the hint, where to read on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgdrill.airflow.xcom.plain import where

if TYPE_CHECKING:
    from pgdrill.logical.report import DumpReport
    from pgdrill.reports.model import CheckResult, Report, Trouble

RESTORED_ONLY = (
    "It was restored, and no check was asked of it to the end.",
    "Hint: clear `check`, which restores again.",
)


def explanation(report: Report) -> list[str]:
    """Return why a drill is not green."""
    return [
        f"drill {report.drill_id} of cluster {report.cluster}: {report.verdict} ({report.reason})",
        *_first_cause(report),
        f"Report: {where(report.kept_at)}",
    ]


def dump_explanation(report: DumpReport) -> list[str]:
    """Return why a dump does not count."""
    from pgdrill.reports.grouping import by_telling

    cause: tuple[str, ...] = ()
    if trouble := report.restore.trouble or report.checks.trouble:
        cause = _told(trouble)
    elif worst := next((r for r in by_telling(report.results) if r.status == "fail"), None):
        cause = _answered(worst)
    return [
        f"dump {report.dump_id} of cluster {report.cluster}: {report.verdict} ({report.reason})",
        *cause,
        f"Report: {where(report.kept_at) or 'none'}",
    ]


def _first_cause(report: Report) -> tuple[str, ...]:
    from pgdrill.reports.grouping import by_telling

    for stage in (report.restore, report.checks):
        if stage.trouble:
            return _told(stage.trouble)
    for status in ("fail", "skip"):
        for r in by_telling(report.results):
            if r.status == status and (r.required or status == "fail"):
                return _answered(r)
    restored_only = report.restore.status == "ok" and report.checks.status != "ok"
    return RESTORED_ONLY if restored_only else ()


def _told(it: Trouble) -> tuple[str, ...]:
    return f"{it.thing}: found {it.found}; expected {it.expected}.", f"Hint: {it.hint}."


def _answered(r: CheckResult) -> tuple[str, ...]:
    said = (str(it) for it in (r.value, r.message) if it not in (None, ""))
    found = " ".join(said) or "no answer"
    return (
        f"{r.name} {r.thing}: found {found}; expected {r.threshold or 'an answer'}.",
        f"Hint: {r.hint or 'see the message'}.",
    )
