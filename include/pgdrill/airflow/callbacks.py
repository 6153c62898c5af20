"""What Airflow calls when a run is late, has failed or has passed: each tells of it by the alerts.

All of a job's runs are one alert, so what was told once is not told again by its deadline. A
callback never fails anything: what keeps it from telling stands in the log, and the health checks
find it later.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from pgdrill.health.runs import Least

logger = logging.getLogger(__name__)


def task_failed(context: Context) -> None:
    """Tell of a failed task at once, in its own process. A task that is killed does not get here:
    :func:`run_failed` does.
    """
    _quietly(lambda: _told(context, "failed"))


def run_failed(context: Context) -> None:
    """Tell of a failed run, unless its task did."""
    _quietly(lambda: _told(context, "failed"))


def run_passed(context: Context) -> None:
    """End the alert of a job whose run has passed."""
    _quietly(lambda: _told(context, "success"))


async def deadline_missed(
    *, cluster: str, job: str, severity: Least, promised_seconds: float, context: dict[str, Any]
) -> None:
    """Tell of a run whose deadline has passed: late, failed, or queued and never started.

    In the triggerer, beside its loop: asking Airflow and sending takes its time.
    """

    def tell() -> None:
        from pgdrill.airflow.telling import tell_late

        tell_late(cluster, job, context["dag_run"], severity, promised_seconds)

    await asyncio.to_thread(_quietly, tell)


def _told(context: Context, state: str) -> None:
    from pgdrill.airflow.telling import tell_ended

    tell_ended(context, state)


def _quietly(tell: Callable[[], None]) -> None:
    try:
        tell()
    except Exception:  # whatever it is, it is no fault of the run's
        logger.exception("nobody could be told")
