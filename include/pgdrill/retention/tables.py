"""A plan as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pgdrill.render import problem
from pgdrill.retention.apply import Outlook
from pgdrill.retention.hygiene import Finding
from pgdrill.retention.show import size


def show_plan(cluster: str, outlook: Outlook, findings: Sequence[Finding], console: Console) -> None:
    """Promises, what goes, what stays, what lies about, and what is refused."""
    plan = outlook.plan
    wal = plan.segments
    head = (f"Cluster {cluster}: {len(plan.going('backup'))} base backups, {wal} WAL segments and {len(plan.going('dump'))} dumps"
            f" would go, {size(plan.freed_bytes)}")  # fmt: skip
    console.print(Text(head, "bold"), soft_wrap=True)
    console.print(_promises(outlook))
    for stays, title in ((False, "Goes"), (True, "Stays")):
        chosen = [decision for decision in plan.decisions if decision.stays is stays]
        if chosen:
            console.print(Text(title, "bold"))
        for it in chosen:
            mark = ", permanent" if it.permanent else ""
            console.print(Text.assemble(f"  {it.name} ({it.kind}, {size(it.stored_bytes)}{mark}): ", "; ".join(it.why)), soft_wrap=True)
    console.print(Text(f"WAL {plan.wal_words}" if plan.wal else plan.wal_words), soft_wrap=True)
    for found in findings:
        console.print(Text(f"Lies about: {found.kind} {found.name} ({size(found.stored_bytes)}): {found.words}"), soft_wrap=True)
    if plan.next_deletion_at:
        console.print(Text(f"The window's anchor moves on {plan.next_deletion_at:%Y-%m-%d %H:%M} UTC; more may go then."), soft_wrap=True)
    for why in outlook.let_pass:
        console.print(problem(f"let pass: {why.reason}", why.thing, why.found, why.expected, why.mend))
    for why in outlook.refusals:
        console.print(problem(f"refused: {why.reason}", why.thing, why.found, why.expected, why.mend))


def _promises(outlook: Outlook) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("promise", "promised", "now", "after", "to spare", ""):
        table.add_column(column, justify="right" if column not in ("promise", "") else "left")
    after = {promise.name: promise for promise in outlook.plan.after}
    for promise in outlook.plan.before:
        then = after[promise.name]
        table.add_row(
            promise.name, f"{promise.promised:g} {promise.unit}", f"{promise.found:g}", f"{then.found:g}", f"{then.slack:+g}",
            Text(then.words, "" if then.kept else "yellow"),
        )  # fmt: skip
    return table
