"""What the last drill measured of the promises: recovery time, time to search, work lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pgdrill.health.answer import Answer, not_asked
from pgdrill.health.check import health_check
from pgdrill.health.promises import judge_verdict, newest_reports
from pgdrill.health.subject import HealthSubject
from pgdrill.reports.model import Report
from pgdrill.reports.terminal import seconds as shown

Judge = Callable[[Report], Answer]


def judge_rto(report: Report) -> Answer:
    """Judge the seconds from the drill's start to correct vector search."""
    return _judged(
        report,
        report.timings.time_to_correct_vector_search_seconds,
        report.rto_seconds,
        "vector search was correct after",
        "rto-missed",
    )


def judge_search(report: Report, promised_seconds: float) -> Answer:
    """Judge the seconds from a running server to correct vector search."""
    timings = report.timings
    correct, running = (
        timings.time_to_correct_vector_search_seconds,
        timings.time_to_running_seconds,
    )
    took = correct - running if correct is not None and running is not None else None
    return _judged(
        report, took, promised_seconds, "from running to correct vector search:", "search-late"
    )


def judge_rpo(report: Report) -> Answer:
    """Judge the seconds of work that would have been lost. Up to twice the promise warns."""
    lost, promised = report.measured_rpo_seconds, report.rpo_seconds
    answer = _judged(report, lost, promised, "work that would have been lost:", "rpo-missed")
    if answer.status == "critical" and lost is not None and lost <= 2 * promised:
        return Answer(
            "warning", answer.found, answer.thing, answer.promise, answer.value, answer.promised,
            "seconds", reason=answer.reason,
        )  # fmt: skip
    return answer


def _judged(report: Report, took: float | None, promised: float, words: str, reason: str) -> Answer:
    if took is None or report.unproved:
        why = report.unproved or "the drill did not get there"
        return not_asked(why, "not-measured", thing=report.drill_id)
    kept = took <= promised
    return Answer(
        "ok" if kept else "critical",
        f"{words} {shown(round(took, 2))}",
        report.drill_id,
        f"within {shown(promised)}",
        took,
        promised,
        "seconds",
        reason="" if kept else reason,
    )


def _newest(subject: HealthSubject, judge: Judge) -> Iterator[Answer]:
    """Judge the newest drill that measured it: one that did not says nothing of it."""
    answers = map(judge, (one for one in newest_reports(subject) if one.ended_at))
    measured = (one for one in answers if one.status != "not asked")
    yield next(measured, not_asked("no drill has measured it", "not-measured"))


@health_check(
    "drill-rto",
    "promises",
    passing="vector search of the last drill was correct within the promised recovery time",
    hint="`pgdrill forecast rto CLUSTER` shows what takes how long, and what would help",
    example="20261127T110000Z-3f9a2c: vector search was correct after 1 h 12 min, promised 1 h",
    needs=("repository",),
)
def rto(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the last drill's recovery time."""
    return _newest(subject, judge_rto)


@health_check(
    "drill-search",
    "promises",
    passing="from running to correct vector search the last drill took what is promised",
    hint="see prewarming and vector checks in `pgdrill report CLUSTER`; memory, disk, index size",
    example="20261127T110000Z-3f9a2c: from running to correct vector search: 2 min 5 s",
    needs=("repository",),
)
def search(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the last drill's time from running to correct vector search."""
    promised = subject.access.cluster.drill.search_seconds
    return _newest(subject, lambda report: judge_search(report, promised))


@health_check(
    "drill-rpo",
    "promises",
    passing="the last drill would have lost no more work than promised",
    hint="see archive_timeout and archiving: `pgdrill health CLUSTER`, and the drill's report",
    example="20261127T110000Z-3f9a2c: work that would have been lost: 95 s, promised 1 min",
    needs=("repository",),
)
def rpo(subject: HealthSubject) -> Iterator[Answer]:
    """Judge the last drill's measured loss."""
    return _newest(subject, judge_rpo)


def judged(report: Report, promised_search_seconds: float) -> dict[str, Answer]:
    """Return what a drill's report says of the promises that it measured, by check."""
    answers = {
        "drill-verdict": judge_verdict(report),
        "drill-rto": judge_rto(report),
        "drill-search": judge_search(report, promised_search_seconds),
        "drill-rpo": judge_rpo(report),
    }
    return {name: one for name, one in answers.items() if one.status != "not asked"}
