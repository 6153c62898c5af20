"""A look at health for people, for Nagios and for the reference page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgdrill.health.check import HealthCheck
from pgdrill.health.model import BY_GRAVITY, HealthFinding, HealthReport, HealthStatus
from pgdrill.reports.terminal import seconds
from pgdrill.text import count, one_line

STYLES: dict[HealthStatus, str] = {
    "critical": "bold red",
    "unknown": "bold cyan",
    "warning": "yellow",
    "ok": "green",
    "not asked": "dim",
}
NAGIOS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
# of a measure, in perfdata
UNITS = {"seconds": "s", "bytes": "B", "ratio": "", "count": "", "": ""}
PAGE = """\
# The health checks

Made by `pgdrill checks --health --markdown > docs/reference/health-checks.md`. `pgdrill health`
asks them; [watching](../how-to/watch.md) says how. What is asked at each look is asked every 5 to
10 seconds, the rest every 5 minutes. What cannot be looked at is *unknown*, never ok.
"""


def health_table(report: HealthReport, *, full: bool = False) -> RenderableType:
    """Return what is not ok first, then counts of what is; ``full``: every answer."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    shown = [one for one in report.worst_first if full or one.status not in ("ok", "not asked")]
    for one in shown:
        table.add_row(
            Text(one.status, style=STYLES[one.status]), Text(one.check), Text(_words(one))
        )
        for label, words in (("promised", one.promise), ("first step", one.hint)):
            if words and one.status not in ("ok", "not asked"):
                table.add_row("", Text(label, style="dim"), Text(one_line(words), style="dim"))
    parts: list[RenderableType] = [table] if shown else []
    return Group(*parts, headline(report))


def headline(report: HealthReport) -> Text:
    """Return the counts, the worst first."""
    counts = ", ".join(f"{n} {status}" for status in BY_GRAVITY if (n := report.count(status)))
    worst = report.worst_first[0].status if report.findings else "unknown"
    return Text(
        f"{report.cluster} as seen from {report.host}: {counts}. {seconds(report.seconds)}.",
        style=STYLES[worst],
    )


def _words(one: HealthFinding) -> str:
    lost = one.would_lose_seconds
    told = f"; would lose {seconds(round(lost, 1))} of work now" if lost else ""
    thing = f"{one_line(one.thing)}: " if one.thing else ""
    again = told if "would be lost" not in one.found else ""
    return f"{thing}{one_line(one.found)}{again}"


def nagios_line(reports: Sequence[HealthReport]) -> tuple[str, int]:
    """Return the plugin's one line with its perfdata, and the exit code.

    Of several clusters the worst decides.
    """
    code = max((one.nagios_code for one in reports), key=(0, 3, 1, 2).index, default=3)
    findings = [one for report in reports for one in report.worst_first]
    bad = [one for one in findings if one.status not in ("ok", "not asked")]
    bad.sort(key=lambda one: BY_GRAVITY.index(one.status))
    well = sum(one.status == "ok" for one in findings)
    told = [f"{one.cluster} {one.check}: {_words(one)}" for one in bad[:1]]
    if len(bad) > 1:
        told.append(f"and {len(bad) - 1} more")
    words = ", ".join(told) if told else f"{count(well, 'answer')} ok"
    perfdata = " ".join(_perfdata(findings))
    line = f"PGDRILL {NAGIOS[code]} - {words.replace('|', '/')}"
    return f"{line} | {perfdata}" if perfdata else line, code


def _perfdata(findings: Iterable[HealthFinding]) -> Iterable[str]:
    """Yield each measure once, with its promise; what is unknown is left out."""
    seen: set[str] = set()
    for one in findings:
        thing = f"/{one.thing}" if one.thing else ""
        label = f"{one.cluster}/{one.check}{thing}".replace("'", "").replace("=", "_")
        if one.value is None or not one.unit or label in seen:
            continue
        seen.add(label)
        limit = f";;{one.promised:g}" if one.promised is not None else ""
        yield f"'{one_line(label)}'={one.value:.6g}{UNITS[one.unit]}{limit}"


def as_markdown(checks: Iterable[HealthCheck]) -> str:
    """Return docs/reference/health-checks.md."""
    lines = [PAGE]
    for place, group in groupby(checks, key=lambda one: one.place):
        lines += [f"## {place.capitalize()}", ""]
        for one in group:
            lines += [
                f"### {one.name}",
                "",
                f"Ok if {one.passing}. Asked {_how_often(one)}.",
                "",
                f"    {one.example}",
                "",
                f"*First step:* {one.hint}.",
                "",
            ]
            if one.hides:
                hidden = ", ".join(f"`{name}`" for name in one.hides)
                lines += [f"While it is not ok, it hides {hidden}.", ""]
    return "\n".join(lines)


def _how_often(one: HealthCheck) -> str:
    return "at each look" if one.cost == "each look" else one.cost


def print_health(reports: Iterable[HealthReport], console: Console, *, full: bool) -> None:
    """Print each cluster's look."""
    for report in reports:
        console.print(health_table(report, full=full))
