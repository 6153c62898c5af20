"""A report on one screen: all that is not good in full, and what passed as counts.

The order is that of a person who is woken by it: the verdict, what is wrong with its hint, the
times beside their promises, then what was found right. ``pgdrill report --full`` has a line for
every answer.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pgdrill.reports.measured import figure
from pgdrill.reports.model import NOT_ASKED, CheckResult, Report
from pgdrill.reports.summary import about_production
from pgdrill.reports.terminal import (
    DURABILITY,
    STYLES,
    SafeConsole,
    headline,
    pairs,
    print_deviations,
    print_hints,
    print_places,
    print_troubles,
    results_table,
    rpo_words,
    rto_words,
    seconds,
    size,
    style_of,
    target_words,
    verification_head,
)
from pgdrill.text import count

if TYPE_CHECKING:
    from pgdrill.verify import Verification

LOG_COLUMNS = 100


def print_report(report: Report, console: Console, *, more: str = "") -> None:
    """Print a drill's report.

    :param more: how to see every answer; by default the command that shows this report in full.
    """
    style = style_of(report)
    console.print(Text(headline(report), style=style))
    for line in about_production(report):
        console.print(Text(line, style=STYLES["warn"]))
    print_troubles(report, console)
    print_open(report.results, console)
    print_deviations(report.deviations, console)
    console.print()
    console.print(_figures(report))
    print_passed(report.results, console)
    console.print()
    if report.summary:
        console.print(Text(report.summary, style=style))
    print_places(report.kept_at, console)
    print_more(
        report.results, more or f"pgdrill report {report.cluster} {report.drill_id} --full", console
    )


def print_verification(verification: Verification, console: Console) -> None:
    """Print the answers about a cluster that somebody else restored."""
    for line in verification_head(verification):
        console.print(line)
    print_open(verification.results, console)
    print_deviations(verification.deviations, console)
    print_passed(verification.results, console)
    console.print()
    print_more(verification.results, "the same command with --full", console)


def log_lines(show: Callable[[Console], None]) -> list[str]:
    """Return the printed report for the log of a task: plain lines, none of them empty."""
    stream = io.StringIO()
    show(
        SafeConsole(
            file=stream,
            width=LOG_COLUMNS,
            highlight=False,
            markup=False,
            emoji=False,
            color_system=None,
        )
    )
    return [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]


def print_open(results: Sequence[CheckResult], console: Console) -> None:
    """Print what failed, warned, or has no answer, each in full with its hint."""
    found = [result for result in results if result.status != "pass" and not _unasked(result)]
    if not found:
        return
    console.print()
    console.print(results_table(found, wide=False))
    print_hints(found, console)


def print_passed(results: Sequence[CheckResult], console: Console) -> None:
    """Print how many answers of each family passed, by which checks, and what was not asked."""
    if not results:
        return
    console.print()
    passed = sum(result.status == "pass" for result in results)
    console.print(Text(f"{passed} of {count(len(results), 'answer')} passed"))
    console.print(_families(results))
    for line in _not_asked(results):
        console.print(Text(line))


def _not_asked(results: Sequence[CheckResult]) -> list[str]:
    """Return a line for each reason, with the checks that were left for it.

    Where that is one answer, the line says what it is about.
    """
    reasons: dict[str, list[CheckResult]] = {}
    for result in filter(_unasked, results):
        reasons.setdefault(result.message, []).append(result)
    lines = []
    for reason, left in reasons.items():
        names = ", ".join(dict.fromkeys(result.name for result in left))
        of = f" of {left[0].thing}" if len(left) == 1 and left[0].thing else ""
        lines.append(f"not asked: {names}{of} ({reason})")
    return lines


def print_more(results: Sequence[CheckResult], more: str, console: Console) -> None:
    """Print how to see every answer."""
    if results:
        console.print(Text(f"Every answer: {more}"), soft_wrap=True)


def _unasked(result: CheckResult) -> bool:
    """Return whether configuration and data leave no question for it: nobody has to do anything."""
    return result.status == "skip" and result.value == NOT_ASKED and not result.required


def _families(results: Sequence[CheckResult]) -> Table:
    """Return a table with a row for each family.

    It has the answers that passed of those asked, and the checks of which all passed.
    """
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for justify in ("left", "right", "left"):
        table.add_column(no_wrap=justify != "left", justify=justify, overflow="fold")
    for family in dict.fromkeys(result.family for result in results):
        asked = [result for result in results if result.family == family and not _unasked(result)]
        good = [result for result in asked if result.status == "pass"]
        told = {result.name for result in asked if result.status != "pass"}
        if asked:
            names = ", ".join(
                dict.fromkeys(result.name for result in good if result.name not in told)
            )
            table.add_row(Text(f"  {family}"), Text(f"{len(good)} of {len(asked)}"), Text(names))
    return table


def _figures(report: Report) -> Table:
    times = report.timings
    rows = [
        ("time to running", seconds(times.time_to_running_seconds), _parts(report)),
        (
            "time to correct vector search",
            seconds(times.time_to_correct_vector_search_seconds),
            rto_words(report),
        ),
        ("measured RPO", seconds(report.measured_rpo_seconds), rpo_words(report)),
        ("recovery target", target_words(report.target), ""),
        ("recall@10", recall(report.results), ""),
        ("rows compared", str(report.compared or ""), ""),
        ("not compared", report.not_compared, ""),
        (
            "no lease",
            report.no_lease and f"a prune elsewhere was not kept away: {report.no_lease}",
            "",
        ),
        ("durability", DURABILITY["fast"] if report.durability == "fast" else "", ""),
        ("drill", report.drill_id, ""),
        ("run by", ", ".join(filter(None, (report.trigger, report.tool, report.host))), ""),
    ]
    return pairs(
        (label, f"{value:<9} {remark}" if remark else value)
        for label, value, remark in rows
        if value
    )


def recall(results: Sequence[CheckResult]) -> str:
    """Return the recall of vector indexes, from the worst to the best, passed or not.

    Empty where none was measured.
    """
    found = [
        r.value for r in results if r.name == "index-recall" and isinstance(r.value, int | float)
    ]
    if not found:
        return ""
    low, high = figure(min(found)), figure(max(found))
    shown = low if low == high else f"{low} to {high}"
    return f"{shown}, on {len(found)} vector index{'' if len(found) == 1 else 'es'}"


def _parts(report: Report) -> str:
    """Return where the time to running went."""
    times = report.timings
    rate = f", {times.fetch_mb_per_second:.1f} MB/s" if times.fetch_mb_per_second else ""
    fetched = f" ({size(times.fetched_bytes)}{rate})" if times.fetched_bytes is not None else ""
    wal = (
        f" ({size(times.replayed_wal_bytes)} of WAL)"
        if times.replayed_wal_bytes is not None
        else ""
    )
    parts = (("fetch", times.fetch_seconds, fetched), ("replay", times.replay_seconds, wal))
    return ", ".join(
        f"{name} {seconds(value)}{more}" for name, value, more in parts if value is not None
    )
