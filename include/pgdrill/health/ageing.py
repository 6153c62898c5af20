"""How old a thing may be by its own schedule: no constant tells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from croniter import croniter  # type: ignore[import-untyped]

from pgdrill.health.answer import Answer, unknown
from pgdrill.reports.terminal import seconds as shown
from pgdrill.reports.terminal import when

# A run may take longer than any before it without anything being wrong.
SLOWER = 2.0


@dataclass(frozen=True, slots=True)
class Made:
    """Something that a scheduled job made: when it was begun and finished."""

    name: str
    started_at: datetime
    finished_at: datetime

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, (self.finished_at - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When a job runs: cron in UTC, the seconds after which it is ended, and what it took so far.

    ``what`` it makes, in words.
    """

    what: str
    schedule: str
    timeout_seconds: float
    took_seconds: Sequence[float] = ()

    @property
    def usual(self) -> timedelta:
        """How long a run may well take: twice the longest, or all that it is given."""
        longest = max(self.took_seconds, default=self.timeout_seconds)
        return timedelta(seconds=min(self.timeout_seconds, SLOWER * longest))

    def due_after(self, instant: datetime) -> datetime:
        """Return when it is to run next after an instant."""
        found: datetime = croniter(self.schedule, instant.astimezone(UTC)).get_next(datetime)
        return found


def judge_age(rhythm: Rhythm, newest: Made | None, now: datetime, reason: str) -> Answer:
    """Judge the newest one by its finish.

    The run that was due after it began has to be over: a warning once it takes longer than usual,
    critical once its time is up, whatever became of it. A run by hand puts nothing off.
    """
    if not croniter.is_valid(rhythm.schedule):
        return unknown(f"schedule {rhythm.schedule!r} is no cron expression", "bad-schedule")
    promise = f"one for each time of {rhythm.schedule!r} (UTC)"
    if newest is None:
        return Answer("critical", f"no {rhythm.what} yet", "", promise, reason=f"{reason}-never")
    due = rhythm.due_after(newest.started_at)
    allowed = due + rhythm.usual
    over = due + timedelta(seconds=rhythm.timeout_seconds)
    age = max(0.0, (now - newest.finished_at).total_seconds())
    late = now > allowed
    words = f"finished {shown(age)} ago; the next was due {when(due)}"
    return Answer(
        ("critical" if now > over else "warning") if late else "ok",
        words if late else f"finished {shown(age)} ago; the next is due {when(due)}",
        newest.name,
        promise,
        age,
        (allowed - newest.finished_at).total_seconds(),
        "seconds",
        reason=f"{reason}-late" if late else "",
    )
