"""The forecast of HNSW builds against real ones, which take minutes: ``make forecasts``."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.logical import as_superuser, forecast_error, prepare
from pgdrill.logical.drill import Options, drill_dump
from pgdrill.logical.take import take_dump
from pgdrill_demo.stack import Stack
from tests.conftest import thorough

ROUNDS = 3
ROWS = 60_000


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Two tables with an HNSW index, one with four times the rows of the other."""
    made = Stack(Path(tempfile.mkdtemp(prefix="pgdrill-")))
    try:
        prepare(made, ROWS)
        yield made
    finally:
        made.remove()


@pytest.mark.skipif(
    not thorough(),
    reason="builds large indexes several times, and wants the cores to itself: make forecasts",
)
@pytest.mark.timeout(900)
def test_a_build_of_four_times_the_rows_takes_what_was_foretold_within_a_quarter(
    stack: Stack,
) -> None:
    access = as_superuser(stack)
    take_dump(access)
    errors = []
    for _ in range(ROUNDS):
        report = drill_dump(access, Options(families=("vectors",)))
        assert report.verdict == "passed", report.reason
        errors.append(forecast_error(report)["forecast: error at four times the rows, %"])
    assert abs(statistics.median(errors)) <= 25, errors
