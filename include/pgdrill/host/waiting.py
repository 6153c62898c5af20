"""Waiting for another job that holds what this one needs.

It is bounded, and tells who holds it and until when.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pgdrill.errors import Busy

logger = logging.getLogger(__name__)

SOONEST_SECONDS, LATEST_SECONDS = 5.0, 60.0  # between two looks
Made = TypeVar("Made")


def next_look(busy: Busy, waited_seconds: float) -> float:
    """Return the seconds until it is worth looking again.

    They are few at first, and end right after the holder's own end.
    """
    seconds = min(LATEST_SECONDS, max(SOONEST_SECONDS, waited_seconds / 4))
    if busy.until:
        seconds = min(
            seconds, max(SOONEST_SECONDS, (busy.until - datetime.now(UTC)).total_seconds() + 1)
        )
    return seconds


def told(busy: Busy, gives_up_at: datetime) -> str:
    """Return in words who is waited for, until when, and how long at most."""
    return (
        f"waiting, for {busy.problem.thing} is {busy.problem.found}; gives up at"
        f" {gives_up_at:%Y-%m-%d %H:%M:%S} UTC"
    )


def when_free(
    job: Callable[[], Made],
    *,
    seconds: float,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Made:
    """Do a job that begins with nothing but taking its lease.

    It is tried again and again while another job holds the lease, for so long.
    """
    began, holder = clock(), ""
    while True:
        try:
            return job()
        except Busy as busy:
            waited = clock() - began
            if waited >= seconds:
                raise
            if busy.problem.found != holder:
                holder = busy.problem.found
                logger.warning(
                    "%s", told(busy, datetime.now(UTC) + timedelta(seconds=seconds - waited))
                )
            pause(min(next_look(busy, waited), seconds - waited))
