"""Schedules of the configuration: cron expressions of five fields, in UTC."""

from __future__ import annotations

from pathlib import Path

from pgdrill.config import Cluster
from pgdrill.errors import ConfigError
from pgdrill.queue_settings import Queue

SECTIONS = ("backup", "drill", "dump")


def check_schedule(cluster: Cluster, section: str, source: Path) -> str:
    """The section's schedule; one that is no cron is an error in the file and says where."""
    place = f"{source} [clusters.{cluster.name}.{section}] schedule"
    return checked(getattr(cluster, section).schedule, place)


def check_queue_schedule(queue: Queue, source: Path) -> str:
    """A queue's schedule, likewise."""
    return checked(queue.schedule, f"{source} [queues.{queue.name}] schedule")


def checked(expression: str, place: str) -> str:
    """Return a schedule. Raises ConfigError for one that is no cron."""
    try:
        from croniter import croniter  # type: ignore[import-untyped]

        valid = croniter.is_valid(expression) and len(expression.split()) <= 5
    except ImportError:  # a worker with the task SDK alone, which asks for no schedule
        valid = True
    if not valid:
        raise ConfigError(
            "bad-schedule",
            place,
            found=repr(expression),
            expected="a cron expression of five fields, in UTC",
            hint="for example 0 2 * * 0: Sundays at 02:00",
        )
    return expression
