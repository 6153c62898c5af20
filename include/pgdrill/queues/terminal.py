"""Snapshots of queues for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from pgdrill.queues.listing import Listed
from pgdrill.queues.plan import RestorePlan
from pgdrill.queues.record import SnapshotRecord
from pgdrill.queues.report import SnapshotReport
from pgdrill.reports.listing import Grid, grid
from pgdrill.reports.terminal import STYLES, pairs, seconds, size, when
from pgdrill.text import count

METHODS = {
    "replication": "by the replication protocol",
    "file": "by BGSAVE beside the server",
    "keys": "key by key, of no single instant",
}


def print_record(record: SnapshotRecord, console: Console) -> None:
    """Print what a snapshot holds."""
    rows = [
        ("server", f"{record.product} {record.server_version} at {record.source}"),
        ("which", record.source_note),
        ("copied", f"{METHODS[record.method]}, in {seconds(record.seconds)}"),
        ("stored", f"{size(record.file.bytes)}{', encrypted' if record.file.encrypted else ''}"),
    ]
    rows += [(one.queue, _states(one.before)) for one in record.queues]
    console.print(pairs(rows))


def _states(states: dict[str, int]) -> str:
    return ", ".join(f"{n} {state}" for state, n in states.items() if n) or "empty"


def print_report(report: SnapshotReport, console: Console, *, full: bool = False) -> None:
    """Print how a snapshot was loaded, and what is not right with it."""
    style = STYLES.get(report.verdict, "")
    console.print(Text(f"{report.verdict.upper()}: {report.reason}", style))
    rows = [
        ("snapshot", f"{report.snapshot_id} of queue {report.queue}"),
        ("loaded by", f"{report.loader or 'nobody'}, fence {report.fence or 'none yet'}"),
        ("keys", f"{report.keys} loaded, {report.expired} had expired"),
        ("jobs", f"{report.live} live, {report.history} over, {report.active} will run twice"),
        ("took", _took(report)),
    ]
    rows += [(one.queue, _states(one.states)) for one in report.queues] if full else []
    console.print(pairs(rows))
    for stage in (report.restore, report.checks, report.cleanup):
        if one := stage.trouble:
            words = f"{one.thing}: {one.found}; expected {one.expected}. Hint: {one.hint}"
            console.print(Text(words))
    for answer in report.results:
        if full or answer.status in ("fail", "warn"):
            hint = f". Hint: {answer.hint}" if answer.hint else ""
            words = f"{answer.thing}: {answer.value}, wanted {answer.threshold or '-'}{hint}"
            console.print(Text(f"{answer.status:<4} {answer.name} {words}"))


def _took(report: SnapshotReport) -> str:
    times = {
        "fetched": report.fetch_seconds,
        "loaded": report.load_seconds,
        "asked": report.check_seconds,
    }
    return ", ".join(f"{name} in {seconds(s)}" for name, s in times.items() if s is not None) or "-"


def snapshots_table(found: Sequence[Listed]) -> Grid:
    """Return every snapshot, and whether it counts, as a table."""
    rows = [
        (
            one.snapshot_id,
            size(one.stored_bytes),
            f"{one.record.product} {one.record.server_version}" if one.record else "-",
            "yes" if one.counts else "no",
            str(one.last.live) if one.last else "-",
            "passed" if one.counts else one.damage,
        )
        for one in found
    ]
    return grid(("snapshot", "stored", "server", "counts", "live", "last loading"), rows)


def print_plan(plan: RestorePlan, console: Console) -> None:
    """Print what a restore would do."""
    gap = "-"
    if plan.gap_seconds is not None and plan.database_at:
        gap = f"{plan.gap_seconds:g} s before the database's instant {when(plan.database_at)}"
    rows = [
        ("snapshot", f"{plan.snapshot_id} of queue {plan.queue}: {plan.verdict}"),
        (
            "of",
            when(plan.snapshot_at)
            + (
                ", copied key by key until then: of no single instant" if plan.of_no_instant else ""
            ),
        ),
        ("distance", gap),
        ("jobs", f"{plan.live} live come back, {plan.history} that are over"),
        ("run again", f"{count(plan.active, 'job')} that had a worker, and what ended since then"),
        ("at once", f"{count(plan.due, 'delayed job')} whose time had come when it was loaded"),
        ("lost", "what was added since then" if plan.gap_seconds != 0 else "nothing"),
    ]
    if plan.versions:
        rows.append(("written by", ", ".join(plan.versions)))
    console.print(pairs(rows))
