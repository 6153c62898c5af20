"""A drill of a small demo tells beforehand what one four times as large takes: bytes, rows and WAL
segments.

The proof by a large one takes minutes and wants the cores to itself: ``make forecasts``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from statistics import median

import pytest
from typer.testing import CliRunner

from bench.stacks import running, write_segments
from pgdrill.backup import take_backup
from pgdrill.cli import app
from pgdrill.drill import drill
from pgdrill.reports.forecast import collect, forecast, sample_of
from pgdrill.reports.model import Report
from pgdrill_demo.stack import Stack
from tests.conftest import thorough

# sample's scale, WAL segments: of an empty cluster's bytes, only the rest grows with the scale
SMALL, LARGE = (0.6, 40), (3.5, 175)
ROUNDS = 5
OFF = 0.25


@contextlib.contextmanager
def filled(scale: float, segments: int, **drill: object) -> Iterator[Stack]:
    """A stack with a base backup and so many segments of about the same writes after it."""
    with running(scale=scale, **drill) as stack:
        take_backup(stack.access)
        write_segments(stack, segments)
        yield stack


@pytest.fixture(scope="module")
def drilled() -> Iterator[tuple[Stack, list[Report]]]:
    """The small stack with its drills in its store, and the large one's reports; drilled by turns,
    for others use this machine, too.
    """
    with filled(*SMALL) as small, filled(*LARGE) as large:
        reports = [
            [drill(stack.access, families=("recovery", "vectors")) for stack in (small, large)]
            for _ in range(ROUNDS)
        ]
        assert {report.checks.status for pair in reports for report in pair} == {"ok"}
        yield small, [found for _, found in reports]


@pytest.mark.skipif(not thorough(), reason="drills a large demo five times: make forecasts")
@pytest.mark.timeout(1200)
def test_a_demo_four_times_as_large_is_forecast_within_a_quarter(
    drilled: tuple[Stack, list[Report]],
) -> None:
    small, reports = drilled
    history = collect(small.access).history
    samples = [sample for report in reports if (sample := sample_of(report))]
    load = samples[-1].load
    for size in ("base_bytes", "wal_segments"):
        assert getattr(load, size) >= 3.7 * getattr(history[-1].load, size), (
            f"{size} are not four times as many"
        )

    found = forecast(history, load)
    running = median(report.timings.time_to_running_seconds or 0 for report in reports)
    correct = median(
        report.timings.time_to_correct_vector_search_seconds or 0 for report in reports
    )
    parts = {
        name: (
            round(span.likely, 2),
            round(median(sample.parts[name].at(1) for sample in samples), 2),
        )
        for name, span in found.parts.items()
    }
    told = (
        f"forecast and measured: running {found.running.likely:.2f}, {running:.2f}; correct"
        f" {found.correct.likely:.2f}, {correct:.2f}; {parts}"
    )
    print(told)
    assert abs(found.running.likely / running - 1) <= OFF, told
    assert abs(found.correct.likely / correct - 1) <= OFF, told
    assert found.correct.low <= correct <= found.correct.high, told


def test_the_command_tells_worst_day_larger_sizes_the_limit_and_what_helps() -> None:
    with filled(0.1, 6, rto_seconds=600) as stack:
        assert drill(stack.access, families=("recovery", "vectors")).checks.status == "ok"
        result = CliRunner().invoke(
            app, ["forecast", "rto", "agents", "--json"], env=stack.environment
        )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [one["scenario"].partition(",")[0] for one in told["forecasts"]] == [
        "now",
        "worst day",
        "worst day at 2 times the size",
        "worst day at 5 times the size",
        "worst day at 10 times the size",
    ]
    assert all(
        one["correct"]["low"] <= one["correct"]["likely"] <= one["correct"]["high"]
        for one in told["forecasts"]
    )
    assert 1 < told["breaks_at_times_the_size"] < 10_000, (
        "ten minutes are kept by the demo, and not by a hundred gigabytes"
    )
    saved = [lever["saves_seconds"] for lever in told["levers"]]
    assert saved == sorted(saved, reverse=True)
    assert all(lever["because"] for lever in told["levers"])
