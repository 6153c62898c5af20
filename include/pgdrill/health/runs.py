"""The runs of the DAGs: in time, late, failed, or queued and never started.

Judged here for whoever knows of a run: Airflow's callbacks, and the health checks that ask its API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pgdrill.health.answer import Answer
from pgdrill.reports.deadlines import SECTIONS, WARNING_SHARE
from pgdrill.reports.terminal import seconds as shown

JOBS = tuple(SECTIONS)
FAILED = "run-failed"
WAITING = ("awaiting_input", "deferred")  # for a person
DONE = ("success", "skipped", "removed")
AT_WORK = ("running", "restarting", "up_for_retry", "up_for_reschedule", *WAITING)
AS_TOLD = {
    "done": DONE,
    "failed": ("failed", "upstream_failed"),
    "at work": AT_WORK,
    "not started": ("queued", "scheduled", ""),
}
Least = Literal["ok", "warning", "critical"]
GRAVITY: tuple[Least, ...] = ("ok", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a DAG, as far as whoever asks knows it.

    ``tasks``: the state of each task. ``said``: why it failed, and ``hint`` what to do, in the
    words of what failed. ``measured``: what it found out so far.
    """

    dag_id: str
    run_id: str
    state: str
    queued_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)
    said: str = ""
    hint: str = ""
    measured: tuple[str, ...] = ()


def check_of(job: str) -> str:
    """Return the name of the check of a job's runs: the one key of all that is told of them."""
    return f"{job.replace('_', '-')}-run"


def judge_run(run: Run, promised_seconds: float, now: datetime, *, least: Least = "ok") -> Answer:
    """Judge a run against the seconds within which it has to be over.

    ``least``: how bad it is at least, by whoever's clock has found that it is late.
    """
    took = max(0.0, ((run.ended_at or now) - run.queued_at).total_seconds())
    promise = f"over within {shown(promised_seconds)} of being queued"

    def answer(status: Least, found: str, reason: str = "", hint: str = "") -> Answer:
        words = "; ".join((found, *run.measured))
        return Answer(
            status, words, run.run_id, promise, took, promised_seconds, "seconds",
            hint=hint, reason=reason,
        )  # fmt: skip

    if run.state == "success":
        return answer("ok", f"over after {shown(took)}")
    if run.state == "failed":
        return answer("critical", _failed(run, took), FAILED, run.hint)
    by_clock = GRAVITY[(took >= WARNING_SHARE * promised_seconds) + (took >= promised_seconds)]
    status = max(least, by_clock, key=GRAVITY.index)
    if status == "ok":
        return answer("ok", f"at work for {shown(took)}")
    if run.state == "queued" or run.started_at is None:
        return answer(status, f"queued {shown(took)} ago and never started", "run-queued", NEVER)
    waits = [task for task, state in run.tasks.items() if state in WAITING]
    if waits:
        words = f"{waits[0]} waits for a person; {shown(took)} since the run was queued"
        return answer("warning", words, "run-waits", "answer it: Browse > Required Actions")
    return answer(status, f"late: {_at_work(run, took)}", "run-late", LATE)


NEVER = (
    "see that scheduler and workers run, that a worker has a free slot (of server.queue, where one"
    " is set), and whether an earlier run of the DAG still goes on"
)
LATE = "read the log of the task that is at work; its own time limits end what hangs"


def _failed(run: Run, took: float) -> str:
    broken = _named(run, ("failed",))
    where = f" in {', '.join(broken)}" if broken else ""
    return f"failed{where} after {shown(took)}{f': {run.said}' if run.said else ''}"


def _at_work(run: Run, took: float) -> str:
    words = [f"{shown(took)} since it was queued"]
    for lead, states in AS_TOLD.items():
        if names := _named(run, states):
            words.append(f"{lead}: {', '.join(names)}")
    return "; ".join(words)


def _named(run: Run, states: Iterable[str]) -> list[str]:
    wanted = set(states)
    return [task for task, state in run.tasks.items() if (state or "") in wanted]
