"""A plan as tables for the terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from pgdrill.reports.listing import Grid, grid
from pgdrill.reports.terminal import problem
from pgdrill.retention.formats import going_words, promise_cells, size
from pgdrill.retention.prune import Outlook
from pgdrill.retention.unused_objects import Finding

PROMISES = ("promise", "promised", "now", "after", "to spare", "kept by")
LOG_COLUMNS = 140  # of Airflow's log


def show_plan(
    cluster: str, outlook: Outlook, findings: Sequence[Finding], console: Console
) -> None:
    """Print promises, what goes, what stays, what lies about, and what is refused."""
    plan = outlook.plan
    console.print(Text(f"Cluster {cluster}: {going_words(plan)}", "bold"), soft_wrap=True)
    console.print(_promises(outlook))
    for stays, title in ((False, "Goes"), (True, "Stays")):
        chosen = [decision for decision in plan.decisions if decision.stays is stays]
        if chosen:
            console.print(Text(title, "bold"))
        for it in chosen:
            mark = ", permanent" if it.permanent else ""
            console.print(
                Text.assemble(
                    f"  {it.name} ({it.kind}, {size(it.stored_bytes)}{mark}): ", "; ".join(it.why)
                ),
                soft_wrap=True,
            )
    console.print(Text(f"WAL {plan.wal_words}" if plan.wal else plan.wal_words), soft_wrap=True)
    for found in findings:
        console.print(
            Text(
                f"Lies about: {found.kind} {found.name} ({size(found.stored_bytes)}): {found.words}"
            ),
            soft_wrap=True,
        )
    if plan.next_deletion_at:
        console.print(
            Text(
                f"The window's anchor moves on {plan.next_deletion_at:%Y-%m-%d %H:%M} UTC; more may"
                " go then."
            ),
            soft_wrap=True,
        )
    for why in outlook.let_pass:
        console.print(
            problem(f"let pass: {why.reason}", why.thing, why.found, why.expected, why.hint)
        )
    for why in outlook.refusals:
        console.print(
            problem(f"refused: {why.reason}", why.thing, why.found, why.expected, why.hint)
        )


def plan_lines(cluster: str, outlook: Outlook, findings: Sequence[Finding]) -> list[str]:
    """Return the same as lines of a log."""
    console = Console(
        file=io.StringIO(),
        width=LOG_COLUMNS,
        color_system=None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as captured:
        show_plan(cluster, outlook, findings, console)
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]


def _promises(outlook: Outlook) -> Grid:
    after = {promise.name: promise for promise in outlook.plan.after}
    rows = [
        (*promise_cells(promise, after[promise.name]), after[promise.name].words)
        for promise in outlook.plan.before
    ]
    same = all(now == then for _, _, now, then, *_ in rows)
    shown = [number for number, heading in enumerate(PROMISES) if not (same and heading == "after")]
    headings = [PROMISES[number] for number in shown]
    return grid(
        headings,
        [[row[number] for number in shown] for row in rows],
        right=headings[1:-1],
        prose=headings[-1:],
    )
