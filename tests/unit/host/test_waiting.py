"""Waiting for another job: told once, bounded, soon at first and right after the holder's end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pgdrill.errors import Busy
from pgdrill.host.waiting import LATEST_SECONDS, SOONEST_SECONDS, next_look, when_free


def busy(until: datetime | None = None) -> Busy:
    return Busy(
        "drill of agents",
        found="held by d1 until noon",
        expected="one at a time",
        hint="wait",
        until=until,
    )


class Clock:
    """Goes on by what is waited."""

    def __init__(self) -> None:
        self.now = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds


def test_a_job_that_is_free_does_not_wait() -> None:
    assert when_free(lambda: "done", seconds=0) == "done"


def test_a_wait_is_told_once_and_ends_with_the_holders_job(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()

    def job() -> str:
        if clock.now < 100:
            raise busy()
        return "done"

    assert when_free(job, seconds=600, pause=clock.pause, clock=lambda: clock.now) == "done"
    (told,) = caplog.messages
    assert "drill of agents is held by d1 until noon; gives up at" in told
    assert 100 <= clock.now < 100 + LATEST_SECONDS


def test_a_wait_ends_at_its_bound_with_the_error_that_names_the_holder() -> None:
    clock = Clock()

    def job() -> None:
        raise busy()

    with pytest.raises(Busy, match="held by d1"):
        when_free(job, seconds=90, pause=clock.pause, clock=lambda: clock.now)
    assert clock.now == pytest.approx(90)


def test_the_next_look_is_soon_at_first_and_right_after_the_holders_end() -> None:
    assert next_look(busy(), 0) == SOONEST_SECONDS
    assert next_look(busy(), 3600) == LATEST_SECONDS
    assert next_look(busy(datetime.now(UTC) + timedelta(seconds=20)), 3600) == pytest.approx(
        21, abs=2
    )
    assert next_look(busy(datetime.now(UTC) - timedelta(days=1)), 3600) == SOONEST_SECONDS, (
        "it should have ended, and has not"
    )
