"""The difference between two clocks, with one of them made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pgdrill.postgres.clock import ClockDifference, measure

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Server:
    """Answers with its own clock, after a while on the way there, and another one back."""

    def __init__(self, offset_seconds: float, trips: list[tuple[float, float]]) -> None:
        self.now, self.offset, self.trips = NOON, timedelta(seconds=offset_seconds), iter(trips)

    def execute(self, query: str) -> Server:
        there, back = next(self.trips)
        self.now += timedelta(seconds=there)
        self.answer = self.now + self.offset
        self.now += timedelta(seconds=back)
        return self

    def fetchone(self) -> tuple[Any]:
        return (self.answer,)

    def clock(self) -> datetime:
        return self.now


def measured(offset: float, trips: list[tuple[float, float]]) -> ClockDifference:
    server = Server(offset, trips)
    return measure(server, server.clock)  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", [0.0, 90.0, -3600.0, 0.004])
def test_the_offset_is_the_servers_clock_less_ours(offset: float) -> None:
    found = measured(offset, [(0.01, 0.01)] * 5)
    assert found.offset_seconds == pytest.approx(offset, abs=1e-6)
    assert found.uncertainty_seconds == pytest.approx(0.01, abs=1e-6)


def test_the_truth_lies_within_the_uncertainty_however_uneven_the_ways_are() -> None:
    found = measured(5.0, [(3.0, 0.0)] * 5)
    assert abs(found.offset_seconds - 5.0) <= found.uncertainty_seconds + 1e-6


def test_the_quickest_answer_counts() -> None:
    found = measured(2.0, [(4.0, 0.0), (0.001, 0.001), (0.0, 9.0), (1.0, 1.0), (2.0, 0.5)])
    assert found.offset_seconds == pytest.approx(2.0, abs=1e-6)
    assert found.uncertainty_seconds == pytest.approx(0.001, abs=1e-6)


def test_times_are_moved_to_the_servers_clock_and_allowed_for_where_it_is_ahead() -> None:
    ahead, behind = ClockDifference(30, 0.5), ClockDifference(-30, 0.5)
    assert ahead.on_server(NOON) == NOON + timedelta(seconds=30)
    assert behind.on_server(NOON) == NOON - timedelta(seconds=30)
    assert ahead.allowance == timedelta(seconds=30.5)
    assert behind.allowance == timedelta(seconds=0.5)
