"""The difference between the server's clock and this host's.

Commit times are the server's, everything else is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

SAMPLES = 5
# Clocks that differ by more give times that are not worth comparing: NTP keeps clocks together
# within milliseconds.
LARGE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ClockDifference:
    """The server's clock less this host's.

    The truth lies within ``uncertainty_seconds`` on either side.
    """

    offset_seconds: float
    uncertainty_seconds: float

    def on_server(self, here: datetime) -> datetime:
        """Return what the server's clock showed when this host's showed ``here``."""
        return here + timedelta(seconds=self.offset_seconds)

    @property
    def allowance(self) -> timedelta:
        """The most by which the server's time of an event may be later than this host's."""
        return timedelta(seconds=max(0.0, self.offset_seconds) + self.uncertainty_seconds)


# For when production is gone: nothing was measured, so anything up to a large difference is allowed
# for.
UNKNOWN = ClockDifference(0.0, LARGE_SECONDS)


def measure(
    connection: psycopg.Connection, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> ClockDifference:
    """Ask the server for the time between two looks at our own clock.

    The quickest of several answers is the best.
    """
    return min(
        (_once(connection, now) for _ in range(SAMPLES)),
        key=lambda found: found.uncertainty_seconds,
    )


def _once(connection: psycopg.Connection, now: Callable[[], datetime]) -> ClockDifference:
    before = now()
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    after = now()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    half = (after - before) / 2
    return ClockDifference((row[0] - (before + half)).total_seconds(), abs(half.total_seconds()))
