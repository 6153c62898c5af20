"""Dumps and their restores for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pgdrill.logical.build_forecast import Forecast
from pgdrill.logical.manifest import Manifest
from pgdrill.logical.report import DumpReport
from pgdrill.logical.store import Listed
from pgdrill.reports import one_screen
from pgdrill.reports.listing import Grid, grid
from pgdrill.reports.terminal import (
    DURABILITY,
    NO_FENCE,
    STYLES,
    pairs,
    print_deviations,
    print_places,
    print_results,
    print_troubles,
    seconds,
    size,
    when,
)
from pgdrill.text import count

SLOWEST = 10


def manifest_table(manifest: Manifest) -> Table:
    """Return what a dump holds, as a table."""
    rows = [
        (
            "server",
            (
                "PostgreSQL"
                f" {manifest.server_version}{', a standby' if manifest.from_standby else ''}, by"
                f" {manifest.pg_dump_version}"
            ),
        )
    ]
    for one in manifest.databases:
        rows.append(
            (
                one.name,
                (
                    f"{size(one.size_bytes)}, stored as {size(one.stored_bytes)} ({one.format},"
                    f" {one.compression}), {count(one.rows, 'row')} in"
                    f" {count(len(one.tables), 'table')},"
                    f" {count(one.large_objects.rows, 'large object')}, {len(one.vector_indexes)}"
                    f" vector index{'' if len(one.vector_indexes) == 1 else 'es'}, at"
                    f" {one.snapshot_lsn}, {seconds(one.seconds)}"
                ),
            )
        )
    return pairs([*rows, ("took", seconds(manifest.seconds))])


def dumps_table(found: Sequence[Listed], manifests: dict[str, Manifest]) -> Grid:
    """Return every dump, and whether it counts, as a table."""
    rows = []
    for one in found:
        manifest, last = manifests.get(one.dump_id), one.last
        rows.append(
            (
                one.dump_id,
                size(manifest.stored_bytes) if manifest else "-",
                str(manifest.server_major) if manifest else "-",
                "yes" if one.counts else "no",
                f"{last.verdict}: {last.reason}" if last else "never restored",
            )
        )
    return grid(
        ("dump", "stored", "PG", "counts", "last restore"),
        rows,
        right=("stored", "PG"),
        prose=("last restore",),
    )


def report_table(report: DumpReport, console: Console) -> None:
    """Print a restore's report."""
    _headline(report, console)
    console.print(_figures(report))
    for build in report.builds:
        fits = "" if build.fits else ", DID NOT FIT into memory"
        console.print(
            Text(
                f"index {build.index}: {build.rows} rows in {seconds(build.seconds)},"
                f" {build.rows_per_second:.0f} rows/s, {size(build.index_bytes)}{fits}"
            ),
            soft_wrap=True,
        )
    _notes(report, console)
    _statements(report, console)
    print_results(report.results, console)
    print_deviations(report.deviations, console)
    print_troubles(report, console)
    print_places(report.kept_at, console)


def print_report(report: DumpReport, console: Console) -> None:
    """Print a restore's report on one screen.

    All that is not good is in full, and what passed is counted.
    """
    _headline(report, console)
    print_troubles(report, console)
    one_screen.print_open(report.results, console)
    print_deviations(report.deviations, console)
    _notes(report, console)
    _statements(report, console)
    console.print()
    console.print(_short_figures(report))
    one_screen.print_passed(report.results, console)
    console.print()
    print_places(report.kept_at, console)
    one_screen.print_more(
        report.results, "the same command with --full, and in the kept report", console
    )


def _headline(report: DumpReport, console: Console) -> None:
    fence = NO_FENCE if report.fence.startswith("NONE") else ""
    text = (
        f"{report.verdict.upper()}: {report.reason}. {fence}Cluster {report.cluster}, dump"
        f" {report.dump_id}, restored {when(report.started_at)}."
    )
    console.print(Text(text, style=STYLES[report.verdict]))


def _notes(report: DumpReport, console: Console) -> None:
    for note in report.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def _short_figures(report: DumpReport) -> Table:
    times = report.timings
    steps = (
        ("fetch", times.download_seconds),
        ("rows", times.data_seconds),
        ("vector indexes", times.vector_indexes_seconds),
        ("other indexes and keys", times.others_seconds),
        ("migrations", times.migrations_seconds),
    )
    parts = ", ".join(f"{name} {seconds(value)}" for name, value in steps if value is not None)
    tight = [build.index for build in report.builds if not build.fits]
    rows = [
        ("restore in all", f"{seconds(report.restore.seconds):<9} {parts}"),
        ("vector checks", seconds(times.vector_checks_seconds)),
        ("recall@10", one_screen.recall(report.results)),
        ("rows compared", str(report.compared or "")),
        ("built outside of memory", ", ".join(tight)),
        ("durability", DURABILITY["fast"] if report.durability == "fast" else ""),
        ("drill", report.drill_id),
    ]
    return pairs((label, value) for label, value in rows if value)


def _figures(report: DumpReport) -> Table:
    times = report.timings
    rate = f"{times.rows} rows, {times.rows_per_second:.0f} rows/s" if times.rows_per_second else ""
    rows = [
        ("fetch", seconds(times.download_seconds), size(times.downloaded_bytes)),
        ("new cluster", seconds(times.initdb_seconds), ""),
        ("rows", seconds(times.data_seconds), rate),
        ("vector indexes", seconds(times.vector_indexes_seconds), ""),
        ("other indexes and keys", seconds(times.others_seconds), ""),
        ("statistics", seconds(times.analyze_seconds), ""),
        ("vector checks", seconds(times.vector_checks_seconds), ""),
        ("restore in all", seconds(report.restore.seconds), ""),
        *([("rows compared", str(report.compared), "")] if report.compared else []),
        ("durability", DURABILITY[report.durability], ""),
        *([("fence", report.fence, "")] if report.fence else []),
        ("drill", report.drill_id, ""),
    ]
    if report.migrated:
        rows.insert(6, ("migrations", seconds(times.migrations_seconds), ""))
    return pairs(
        (label, f"{value:<9} {remark}" if remark else value) for label, value, remark in rows
    )


def _statements(report: DumpReport, console: Console) -> None:
    if not report.statements:
        return
    slowest = sorted(report.statements, key=lambda run: (-len(run.rewritten), -run.seconds))
    rows = [
        (
            f"{run.file}:{run.line}",
            f"{run.seconds:.2f}",
            f"{run.strongest.mode} {run.strongest.relation}" if run.strongest else "-",
            ", ".join(run.rewritten) or "-",
            run.words,
        )
        for run in islice(slowest, SLOWEST)
    ]
    console.print()
    console.print(
        Text(f"{len(report.statements)} statements; those that rewrite, then the slowest")
    )
    console.print(
        grid(
            ("where", "s", "strongest lock", "rewrites", "statement"),
            rows,
            right=("s",),
            prose=("strongest lock", "rewrites", "statement"),
        )
    )


def forecasts_table(found: Sequence[Forecast]) -> Grid:
    """Return how long builds will take, as a table."""
    rows = [
        (
            one.index,
            str(one.rows),
            seconds(one.seconds),
            f"± {100 * one.error:.0f} %",
            size(one.needed_bytes),
            f"{one.from_rows} rows, {one.method}",
        )
        for one in found
    ]
    return grid(
        ("index", "rows", "build", "error", "memory", "from"),
        rows,
        right=("rows", "build", "error", "memory"),
        prose=("from",),
    )
