"""A report for the terminal, in 80 columns and without colour as well as in a wide one.

Everything is put in as :class:`rich.text.Text`: a table's name in brackets is no markup. What would
rule the terminal is shown instead, whatever it came in by (:class:`SafeConsole`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import humanize
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from pgdrill.reports.grouping import FEWEST, NAMED, by_telling, grouped
from pgdrill.reports.listing import Grid, grid
from pgdrill.reports.measured import VERSIONS, figure, said, without_unit
from pgdrill.reports.model import (
    NOT_ASKED,
    CheckResult,
    KnownDeviation,
    Report,
    Stage,
    Target,
    Trouble,
)
from pgdrill.reports.summary import kept_from
from pgdrill.text import count, one_line, visible

if TYPE_CHECKING:
    from pgdrill.repository.tools import BaseBackup
    from pgdrill.verify import Verification

STYLES = {
    "pass": "green",
    "warn": "yellow",
    "fail": "bold red",
    "skip": "cyan",
    "passed": "bold green",
    "failed": "bold red",
    "could not verify": "bold yellow",
}
WIDE_COLUMNS = 130  # from here on a check's message has a column of its own
MOST_ROWS = 6  # of the passes of one check, where each is held against something else
NO_FENCE = "NO FENCE held the restored server. "
DURABILITY = {
    "full": "full: fsync on, as in a real recovery",
    "fast": "fast: WITHOUT fsync, so these times flatter",
}


class Staged(Protocol):
    """A report of stages: a drill's, or that of a dump's restore."""

    restore: Stage
    checks: Stage
    cleanup: Stage


class SafeConsole(Console):
    """A console that gets no escape sequence but its own: the last place where all text passes."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield whatever is printed, piece by piece."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(visible(piece.text), piece.style)


def report_table(report: Report, console: Console) -> None:
    """Print a drill's report.

    That is headline, figures, checks, troubles, where it is kept, and the sentence to pass on.
    """
    style = style_of(report)
    console.print(Text(headline(report), style=style))
    for line in kept_from(report):
        console.print(Text(line, style=STYLES["warn"]))
    console.print(_figures(report))
    print_results(report.results, console)
    print_deviations(report.deviations, console)
    print_troubles(report, console)
    print_places(report.kept_at, console)
    if report.summary:
        console.print()
        console.print(Text(report.summary, style=style))


def style_of(report: Report) -> str:
    """Return the colour of a report's headline."""
    return STYLES["warn" if report.verdict_line.startswith("WARNED") else report.verdict]


def print_troubles(report: Staged, console: Console) -> None:
    """Print what kept each stage from ending well."""
    for name, stage in (
        ("restore", report.restore),
        ("checks", report.checks),
        ("clean-up", report.cleanup),
    ):
        if stage.trouble:
            print_trouble(f"{name} {stage.status}", stage.trouble, console)


def print_places(places: Sequence[str], console: Console) -> None:
    """Print where a report is kept, in lines that can be copied."""
    for number, place in enumerate(places):
        console.print(Text(f"{'Kept at' if number == 0 else '    and'} {place}"), soft_wrap=True)


def verification_table(verification: Verification, console: Console) -> None:
    """Print the answers about a cluster that somebody else restored."""
    for line in verification_head(verification):
        console.print(line)
    print_results(verification.results, console)
    print_deviations(verification.deviations, console)


def verification_head(verification: Verification) -> Iterable[Text]:
    """Yield the first lines: the verdict, and what it was compared with."""
    text = (
        f"{verification.verdict.upper()}: {verification.reason}. Cluster {verification.cluster},"
        f" restored server {verification.server}, asked as {verification.asked_as},"
        f" {when(verification.started_at)}, {seconds(verification.seconds)}."
    )
    yield Text(text, style=STYLES[verification.verdict])
    taken = verification.baseline_taken_at
    against = (
        f"the baseline of {when(taken)}"
        if taken
        else "nothing: give --baseline FILE to compare rows and versions"
    )
    yield Text(f"Compared with {against}.")
    if verification.compared:
        yield Text(f"Rows compared {verification.compared}.")


def headline(report: Report) -> str:
    """Return the one sentence to read."""
    fence = NO_FENCE if report.fence.startswith("NONE") else ""
    backup = f"backup {report.backup}" if report.backup else "no backup chosen"
    if report.backup_finished_at:
        backup += f" of {when(report.backup_finished_at)}"
    return (
        f"{report.verdict_line}: {report.reason}. {fence}Cluster {report.cluster}, {backup}, "
        f"drilled {when(report.started_at)}."
    )


def _figures(report: Report) -> Table:
    times = report.timings
    rate = f"{times.fetch_mb_per_second:.1f} MB/s" if times.fetch_mb_per_second else ""
    fetched = [size(times.fetched_bytes), rate] if times.fetched_bytes is not None else []
    replayed = (
        [f"{size(times.replayed_wal_bytes)} of WAL"] if times.replayed_wal_bytes is not None else []
    )
    if times.wal:
        replayed += [
            f"{count(times.wal.segments, 'segment')} fetched ahead",
            f"waited {seconds(times.wal.waited_seconds)}",
        ]
    rows = [
        ("time to running", seconds(times.time_to_running_seconds), ""),
        (
            "time to correct vector search",
            seconds(times.time_to_correct_vector_search_seconds),
            rto_words(report),
        ),
        ("measured RPO", seconds(report.measured_rpo_seconds), rpo_words(report)),
        ("baseline of production", seconds(times.baseline_seconds), "before the clock starts"),
        ("preflight", _reached(times.preflight_seconds), ""),
        ("fetch", _reached(times.fetch_seconds), ", ".join(filter(None, fetched))),
        *(
            [("sync to disk", seconds(times.sync_seconds), "")]
            if times.sync_seconds is not None
            else []
        ),
        ("replay", _reached(times.replay_seconds), ", ".join(replayed)),
        (
            "prewarming of vector indexes",
            _reached(times.prewarm_seconds),
            size(times.prewarmed_bytes) if times.prewarmed_bytes else "",
        ),
        ("vector checks", _reached(times.vector_checks_seconds), ""),
        ("recovery target", target_words(report.target), ""),
        *(
            [("no lease", f"a prune elsewhere was not kept away: {report.no_lease}", "")]
            if report.no_lease
            else []
        ),
        *(
            [("not compared", f"{report.not_compared}: asked of the restored data alone", "")]
            if report.not_compared
            else []
        ),
        *([("rows compared", str(report.compared), "")] if report.compared else []),
        ("durability", DURABILITY[report.durability], ""),
        *([("fence", report.fence, "")] if report.fence else []),
        ("drill", report.drill_id, ""),
        (
            "run by",
            ", ".join(
                filter(
                    None,
                    (
                        report.trigger,
                        f"pgdrill {report.pgdrill}" if report.pgdrill else "",
                        report.tool,
                        report.host,
                    ),
                )
            ),
            "",
        ),
    ]
    return pairs(
        (label, f"{value:<9} {remark}" if remark else value) for label, value, remark in rows
    )


def _reached(value: float | None) -> str:
    return "not reached" if value is None else seconds(value)


def target_words(target: Target | None) -> str:
    """Return where recovery was told to stop, in words."""
    if target is None:
        return "-"
    turn = " (its turn)" if target.asked == "alternate" else ""
    return f"{target.kind}{turn} {target.value}" + (f", {target.note}" if target.note else "")


def rto_words(report: Report) -> str:
    """Return the promised time to correct vector search, and whether it was kept."""
    return _beside(
        "RTO",
        report.timings.time_to_correct_vector_search_seconds,
        report.rto_seconds,
        report.unproved,
    )


def rpo_words(report: Report) -> str:
    """Return the promised loss of work, and whether it was kept."""
    unproved = report.unproved or _not_replayed(report.target)
    return _beside("RPO", report.measured_rpo_seconds, report.rpo_seconds, unproved)


def _beside(promise: str, value: float | None, limit: float, unproved: str) -> str:
    """Return a promise beside its figure: kept only where what came back proves it."""
    if value is not None and value > limit:
        return f"{promise} {seconds(limit)}: BROKEN"
    if unproved:
        return f"{promise} {seconds(limit)}: NOT PROVED, {unproved}"
    return f"{promise} {seconds(limit)}: {'not measured' if value is None else 'kept'}"


def _not_replayed(target: Target | None) -> str:
    """Return what an instant of the past leaves open.

    That is whether all that was archived since can be replayed.
    """
    return "WAL after the target was not replayed" if target and target.kind != "latest" else ""


def print_results(results: Sequence[CheckResult], console: Console) -> None:
    """Print every answer, and the hint of each check that is no pass."""
    if not results:
        return
    counts = ", ".join(
        f"{sum(r.status == s for r in results)} {s}" for s in ("pass", "warn", "fail", "skip")
    )
    console.print()
    console.print(Text(f"{len(results)} answers: {counts}"))
    console.print(results_table(results, wide=console.width >= WIDE_COLUMNS))
    print_hints(results, console)


def print_hints(results: Sequence[CheckResult], console: Console) -> None:
    """Print what to do about each check that is no pass, once."""
    hints = dict.fromkeys(
        (r.name, r.hint) for r in by_telling(results) if r.hint and r.status != "pass"
    )
    for name, hint in hints:
        console.print(Text(f"{name}: {hint}", style="yellow"))


def print_deviations(deviations: Sequence[KnownDeviation], console: Console) -> None:
    """Print what the configuration accepts: in each report, until it expires."""
    if deviations:
        console.print()
        console.print(Text("Known deviations (dr.toml)"))
    for one in deviations:
        console.print(Text(f"  {one}", style="bold red" if one.expired else "yellow"))


def results_table(results: Sequence[CheckResult], *, wide: bool) -> Table:
    """Return a table of the answers.

    Those that are no pass have a row for each cause; passes of one check have one row with their
    count.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("check", no_wrap=True)
    for heading in ("thing", "value", "wanted", "message") if wide else ("answer",):
        table.add_column(heading, overflow="fold")
    table.add_column("s", justify="right", no_wrap=True)
    for row in _collapsed(results):
        cells = (
            (row.thing, figure(row.value), row.threshold, row.message) if wide else (_answer(row),)
        )
        table.add_row(
            Text(row.status, style=STYLES[row.status]),
            Text(row.name),
            *map(Text, cells),
            Text(f"{row.seconds:.1f}"),
        )
    return table


def _answer(row: CheckResult) -> str:
    """Return thing, value, threshold and message in one cell.

    Four columns do not fit beside each other in 80.
    """
    value = figure(row.value)
    if value and row.message:
        value += f" ({row.message})"
    wanted = (
        f"wanted {row.threshold}"
        if row.threshold.removeprefix("= ") not in ("", figure(row.value))
        else ""
    )
    measured = ", ".join(filter(None, (value or row.message, wanted)))
    together = f"{row.thing}: {measured}" if row.thing and measured else row.thing or measured
    return together if row.status == "pass" else "\n".join(filter(None, (row.thing, measured)))


def _collapsed(results: Sequence[CheckResult]) -> Iterable[CheckResult]:
    """Yield what is red first, then warnings and open questions, then passes.

    The first are grouped by what they tell; passes of one check are one.
    """
    for status in ("fail", "warn"):
        yield from (
            group.shown()
            for group in grouped([result for result in results if result.status == status])
        )
    yield from _open([result for result in results if result.status == "skip"])
    for _, found in groupby(
        (result for result in results if result.status == "pass"), key=lambda r: r.name
    ):
        yield from _passed(list(found))


def _open(skipped: list[CheckResult]) -> Iterable[CheckResult]:
    """Yield the questions without an answer.

    Those that many checks left for the same reason are one row.
    """
    reasons: dict[str, list[CheckResult]] = {}
    for result in skipped:
        reasons.setdefault(
            result.message if result.value == NOT_ASKED and not result.thing else "", []
        ).append(result)
    alone = [
        one for reason, some in reasons.items() if not reason or len(some) < FEWEST for one in some
    ]
    yield from (group.shown() for group in grouped(alone))
    for reason, some in reasons.items():
        if reason and len(some) >= FEWEST:
            names = ", ".join(dict.fromkeys(one.name for one in some))
            yield some[0].model_copy(
                update={
                    "name": f"{len(some)} questions",
                    "thing": names,
                    "seconds": sum(one.seconds for one in some),
                }
            )


def _passed(found: list[CheckResult]) -> Iterable[CheckResult]:
    """Yield one row for each thing that was wanted.

    A figure stands beside what it is held against.
    """
    wanted: dict[str, list[CheckResult]] = {}
    for one in found:
        wanted.setdefault(one.threshold, []).append(one)
    if len(wanted) > MOST_ROWS:
        wanted = {"": found}
    for some in wanted.values():
        yield _in_units(some[0], figure(some[0].value)) if len(some) == 1 else _many(some)


def _many(some: list[CheckResult]) -> CheckResult:
    first, message = some[0], _same([one.message for one in some])
    if len({one.threshold for one in some}) > 1:
        value = (
            f"each as wanted, first {first.thing}: {_in_units(first, figure(first.value)).value}"
        )
        return first.model_copy(
            update={
                "thing": f"{len(some)} answers",
                "value": value,
                "seconds": sum(one.seconds for one in some),
            }
        )
    together = first.model_copy(
        update={
            "thing": f"{len(some)} answers",
            "message": message,
            "seconds": sum(one.seconds for one in some),
        }
    )
    return _in_units(together, _span(some))


def _in_units(row: CheckResult, shown: str) -> CheckResult:
    if (isinstance(row.value, str) and row.name not in VERSIONS) or row.value is None:
        return row.model_copy(update={"value": shown or None})
    return row.model_copy(
        update={
            "value": said(row.name, row.thing, shown, row.threshold),
            "message": without_unit(row.name, row.message, row.threshold),
            "threshold": "" if row.threshold == f"= {shown}" else row.threshold,
        }
    )


def _span(group: Sequence[CheckResult]) -> str:
    numbers = [r.value for r in group if isinstance(r.value, int | float)]
    if len(numbers) < len(group):
        different = list(dict.fromkeys(figure(r.value) for r in group))
        return ", ".join(different[:NAMED]) + (
            f" and {len(different) - NAMED} more" if len(different) > NAMED else ""
        )
    low, high = figure(min(numbers)), figure(max(numbers))
    return low if low == high else f"{low} to {high}"


def _same(texts: Sequence[str]) -> str:
    return texts[0] if len(set(texts)) == 1 else ""


def print_trouble(where: str, trouble: Trouble, console: Console) -> None:
    """Print what kept a stage from ending well."""
    console.print()
    console.print(
        problem(
            f"{where}: {trouble.reason}",
            trouble.thing,
            trouble.found,
            trouble.expected,
            trouble.hint,
        )
    )


def problem(title: str, thing: str, found: str, expected: str, hint: str) -> Group:
    """Return a problem, its four parts below each other."""
    # The config names all its problems in one error: a line for each reads better.
    parts = {
        "thing": thing,
        "found": found.replace("; [", "\n["),
        "expected": expected,
        "hint": hint,
    }
    return Group(
        Text(title, style="bold red"),
        pairs(((f"  {label}", text) for label, text in parts.items()), lines=True),
    )


def pairs(rows: Iterable[tuple[str, str]], *, lines: bool = False) -> Table:
    """Return labels with what belongs to them, each on one line if not said otherwise."""
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(Text(label), Text(text if lines else one_line(text)))
    return table


def backups_table(backups: Sequence[BaseBackup], recorded: Collection[str]) -> Grid:
    """Return the base backups of a repository as a table.

    ``recorded`` are the names of those that pgdrill took itself.
    """
    rows = [
        (
            b.name,
            f"{b.finish_time.astimezone(UTC):%Y-%m-%d %H:%M}",
            size(b.uncompressed_bytes or None),
            size(b.compressed_bytes or None),
            str(b.major_version),
            "yes" if b.name in recorded else "no",
        )
        for b in backups
    ]
    headings = ("base backup", "finished (UTC)", "size", "stored", "PG", "recorded")
    return grid(headings, rows, right=("size", "stored", "PG"))


def seconds(value: float | None) -> str:
    """Return a span of time: ``2.31 s``, ``45.2 s``, ``12 min 30 s``, ``1 h``.

    ``-`` for one that was not reached.
    """
    if value is None:
        return "-"
    if value < 100:
        return (
            f"{value:.2f} s"
            if value < 10 and value != int(value)
            else f"{value:.1f}".removesuffix(".0") + " s"
        )
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{n} {unit}" for n, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if n]
    return " ".join(parts[:2])


def size(value: int | None) -> str:
    """Return bytes in decimal units; ``-`` for unknown."""
    return "-" if value is None else humanize.naturalsize(value)


def when(value: datetime) -> str:
    """Return an instant to the second."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
