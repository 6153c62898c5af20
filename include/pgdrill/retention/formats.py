"""A plan and a window in words.

They are for the terminal, for the approval in Airflow's UI, and as data for pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import humanize

from pgdrill.errors import Problem
from pgdrill.reports.model import Branch
from pgdrill.retention.plan import Plan
from pgdrill.retention.promises import Promise
from pgdrill.retention.prune import Outlook
from pgdrill.retention.reasons import Decision
from pgdrill.retention.unused_objects import Finding
from pgdrill.retention.window import Span, Window
from pgdrill.text import code, count, markdown

LINE_WIDTH = 60
SIDES = len("2026-10-25  now")  # beside the line
FIRST_RUN = "first-run"  # the refusal that a person's approval lets pass


def size(number: float | None) -> str:
    """Return bytes in words."""
    return humanize.naturalsize(number) if number is not None else "unknown"


def amount(value: float, unit: str, *, sign: bool = False) -> str:
    """Return days or pieces in words: ``35 days``, ``1 backup``, ``-34.5 days``.

    Less than a day is told in hours.
    """
    if unit == "days" and 0 < abs(value) < 1:
        number, unit = f"{value * 24:{'+' if sign else ''}.1f}", "hours"
    else:
        number = f"{value:{'+' if sign else ''}.1f}"
    number = "0" if float(number) == 0 else number.removesuffix(".0")
    return f"{number} {unit.removesuffix('s') if number.lstrip('+-') == '1' else unit}"


def going_words(plan: Plan) -> str:
    """Return what a plan takes away, in one line."""
    counts = {
        "base backup": len(plan.going("backup")),
        "WAL segment": plan.segments,
        "dump": len(plan.going("dump")),
        "other thing": len(plan.going("leftover")) + len(plan.going("timeline")),
    }
    words = [count(number, noun) for noun, number in counts.items() if number]
    return f"{', '.join(words)} would go, {size(plan.freed_bytes)}" if words else "nothing would go"


def plan_markdown(cluster: str, outlook: Outlook) -> str:
    """Return the plan as text for whoever approves it."""
    plan = outlook.plan
    wal = sum(run.count for run in plan.wal)
    lines = [
        f"**Cluster {code(cluster)}: {going_words(plan)}.** Plan {code(plan.digest)}.",
        "",
        "| promise | promised | now | afterwards | to spare |",
        "| --- | --- | --- | --- | --- |",
    ]
    after = {promise.name: promise for promise in plan.after}
    for promise in plan.before:
        then = after[promise.name]
        lines.append(f"| {' | '.join(promise_cells(promise, then))} |")
    goes = [
        f"- {code(it.name)} ({it.kind}, {size(it.stored_bytes)}): {_why(it)}" for it in plan.goes
    ]
    if wal:
        goes.append(
            f"- WAL {markdown(plan.wal_words)} ({count(wal, 'segment')},"
            f" {size(sum(run.stored_bytes for run in plan.wal))})"
        )
    lines += [
        "",
        "**Goes**",
        "",
        *(goes or ["- nothing"]),
        *([] if wal else [f"- {markdown(plan.wal_words)}"]),
    ]
    lines += ["", "**Stays**", ""]
    lines += [
        f"- {code(it.name)} ({it.kind}{', permanent' if it.permanent else ''}): {_why(it)}"
        for it in plan.decisions
        if it.stays
    ]
    first = [problem for problem in outlook.refusals if problem.reason == FIRST_RUN]
    for title, problems in (
        ("Refused", [problem for problem in outlook.refusals if problem not in first]),
        ("Refused, unless a person approves it", first),
        ("Let pass, as was asked", outlook.let_pass),
    ):
        lines += (
            [
                "",
                f"**{title}**",
                "",
                *(f"- {code(it.reason)}: {markdown(str(it))}" for it in problems),
            ]
            if problems
            else []
        )
    return "\n".join(lines)


def promise_cells(before: Promise, after: Promise) -> tuple[str, str, str, str, str]:
    """Return a promise as cells of a row: its name, promised, now, afterwards, to spare."""
    return (
        before.name,
        amount(before.promised, before.unit),
        amount(before.found, before.unit),
        amount(after.found, after.unit),
        amount(after.slack, after.unit, sign=True),
    )


def _why(decision: Decision) -> str:
    return markdown("; ".join(decision.why))


def plan_data(cluster: str, outlook: Outlook, findings: Sequence[Finding] = ()) -> dict[str, Any]:
    """Return the plan as JSON's own types."""
    plan = outlook.plan
    after = {promise.name: promise for promise in plan.after}
    return {
        "cluster": cluster,
        "digest": plan.digest,
        "planned_at": outlook.now.isoformat(),
        "anchor": plan.anchor,
        "freed_bytes": plan.freed_bytes,
        "wal_segments": plan.segments,
        "wal": plan.wal_words,
        "next_deletion_at": plan.next_deletion_at.isoformat() if plan.next_deletion_at else None,
        "decisions": [
            {
                "kind": it.kind,
                "name": it.name,
                "stays": it.stays,
                "why": list(it.why),
                "stored_bytes": it.stored_bytes,
                "at": it.at.isoformat() if it.at else None,
                "permanent": it.permanent,
            }
            for it in plan.decisions
        ],
        "steps": [{"kind": step.kind, "name": step.name} for step in plan.steps],
        "promises": [
            {
                "name": p.name,
                "promised": p.promised,
                "before": p.found,
                "after": after[p.name].found,
                "unit": p.unit,
                "slack_before": p.slack,
                "slack_after": after[p.name].slack,
                "words": p.words,
            }
            for p in plan.before
        ],
        "refusals": [_problem(problem) for problem in outlook.refusals],
        "let_pass": [_problem(problem) for problem in outlook.let_pass],
        "findings": [
            {"kind": it.kind, "name": it.name, "stored_bytes": it.stored_bytes, "words": it.words}
            for it in findings
        ],
    }


def _problem(problem: Problem) -> dict[str, str]:
    return {
        "reason": problem.reason,
        "thing": problem.thing,
        "found": problem.found,
        "expected": problem.expected,
        "hint": problem.hint,
    }


def window_data(window: Window) -> dict[str, Any]:
    """Return the window as JSON's own types, for pages."""
    names = (
        "cluster",
        "promised_days",
        "timeline",
        "backups",
        "backup_bytes",
        "dumps",
        "dump_bytes",
        "wal_segments",
        "wal_bytes",
        "stored_bytes",
        "wal_bytes_a_day",
        "backup_bytes_a_day",
        "forecast_30_days_bytes",
    )
    return {
        "now": window.now.isoformat(),
        **{name: getattr(window, name) for name in names},
        "spans": [
            {
                "start": span.start.isoformat(),
                "end": span.end.isoformat() if span.end else None,
                "start_lsn": span.start_lsn,
                "end_lsn": span.end_lsn,
                "backups": list(span.backups),
            }
            for span in window.spans
        ],
        "left_out": [
            {"name": one.name, "why": one.why, "hint": one.hint} for one in window.left_out
        ],
        "other_ends": [end.model_dump() for end in window.other_ends],
    }


def end_words(end: Branch, timeline: int) -> str:
    """Return another end of archived WAL than that of the window, in words."""
    left = f", left at {end.left_at}" if end.left_at else ""
    what = (
        f"timeline {end.timeline} ({end.history or end.first_segment}{left}) ends at {end.ends_at}"
    )
    if end.stray:
        return (
            f"STRAY {what}: production is on {timeline}, and a recovery to latest would follow it."
            f" Remove it: {end.removal}"
        )
    return (
        f"OR {what}: production is gone, and whether it was on {timeline} or on this one cannot be"
        " told"
    )


def window_line(window: Window, width: int = LINE_WIDTH) -> str:
    """Return the window as two lines.

    They show what can be restored (``━``), what cannot (``·``), and where the promise begins
    (``╿``).
    """
    if window.unclear:
        return (
            "what can be restored is not known: base backups of several clusters, and nobody says"
            " which are this one's"
        )
    if not window.spans:
        return "nothing can be restored"
    promised = window.now - timedelta(days=window.promised_days)
    begin = min(window.spans[0].start, promised)
    cell = (window.now - begin) / width

    def covered(at: datetime) -> bool:
        return any(_inside(span, at, cell) for span in window.spans)

    cells = ["━" if covered(begin + cell * (n + 0.5)) else "·" for n in range(width)]
    mark = min(int((promised - begin) / cell), width - 1)
    label = f"promised since {promised:%Y-%m-%d %H:%M}"
    below = (
        f"{' ' * mark}╿ {label}"
        if mark + 2 + len(label) <= width + SIDES
        else f"{label} ╿".rjust(mark + 1)
    )
    return f"{begin:%Y-%m-%d} {''.join(cells)} now\n{' ' * 11}{below}"


def _inside(span: Span, at: datetime, cell: timedelta) -> bool:
    return span.start <= at + cell / 2 and (span.end is None or at - cell / 2 <= span.end)
