"""A drill in one or two sentences for people who do not run databases.

They are made from the report alone, and are no better than it.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from pgdrill.reports.grouping import by_telling
from pgdrill.reports.model import LATE, NOT_ASKED, CheckResult, Report, missed_rpo
from pgdrill.text import count, ordinal

LOST = "Production did not say what was written since the baseline, so less was compared"


def summarize(report: Report, *, kept: bool = False) -> str:
    """Say what was tried, whether it is good, what would have been lost, what nobody looked at.

    ``kept``: the restored cluster was left for a look, on purpose.
    """
    sentences = {"passed": _passed, "failed": _failed, "could not verify": _could_not_verify}[
        report.verdict
    ](report)
    if report.without_production:
        sentences.append(
            f"Production was not there, for the {ordinal(report.drills_without_production)} drill"
            " in a row: what came back was not compared with it, and how much work would have been"
            " lost is not known."
        )
    if report.production_lost:
        sentences.append(f"{LOST}: {report.production_lost}.")
    sentences += _accepted(report) + _left(report)
    if report.durability == "fast" and report.verdict == "passed":
        sentences.append("It was restored without fsync, so a real recovery takes longer.")
    if kept:
        sentences.append("The restored cluster was kept for a look.")
    elif report.cleanup.status not in ("ok", "not run"):
        sentences.append("The restored cluster could not be removed.")
    return " ".join(sentences)


def _passed(report: Report) -> list[str]:
    seconds = report.timings.time_to_correct_vector_search_seconds
    time = f" in {_about(seconds)}" if seconds is not None else ""
    missed = missed_rpo(report.results)
    lost = (
        f", but THE RPO WAS MISSED by {missed.rpartition('by ')[2]}: {_lost(report)}"
        if missed
        else f"; {_lost(report)}"
    )
    right = (
        "holds what production held (no vectors)"
        if report.without_vectors
        else "vector search on it was right"
    )
    return [f"{_tried(report)} was restored{time} and {right}{lost}.", *_warnings(report)]


def _failed(report: Report) -> list[str]:
    if report.restore.status == "failed":
        found = report.restore.trouble
        if found and found.reason == "no-backups":
            return [
                f"On {_day(report.started_at)} there was NO BACKUP of {report.cluster} to restore.",
                "Nothing protects it until one is taken.",
            ]
        why = f" ({found.reason}: {found.thing})" if found else ""
        return [
            f"{_tried(report)} COULD NOT BE RESTORED{why}.",
            "Nobody should rely on it until that is mended.",
        ]
    failed = by_telling([result for result in report.results if result.status == "fail"])
    if not failed:
        found = report.checks.trouble
        why = f" ({found.reason}: {found.thing})" if found else ""
        return [
            f"{_tried(report)} was restored and IS NOT RIGHT{why}.",
            "Nobody should rely on it until that is mended.",
        ]
    if {result.name for result in failed} <= LATE.keys():
        broken = " and ".join(dict.fromkeys(LATE[result.name] for result in failed))
        return [
            f"{_tried(report)} was restored, but A PROMISE WAS BROKEN: {broken}; {_lost(report)}.",
            *_warnings(report),
        ]
    return [
        (
            f"{_tried(report)} was restored and IS NOT RIGHT: {count(len(failed), 'answer')}"
            f" failed, first {_named(failed[0])}."
        ),
        "Nobody should rely on it until that is mended.",
    ]


def _could_not_verify(report: Report) -> list[str]:
    if (
        "vectors" in report.families_left_out
        and report.checks.status == "ok"
        and not any(one.status == "skip" and one.required for one in report.results)
    ):
        return [
            f"{_tried(report)} was restored and only partly checked, by choice.",
            "Whether it is good is not known; a drill with every check says so.",
        ]
    why = "".join(f"; {line}" for line in _stopped(report))
    return [
        f"{_tried(report)} COULD NOT BE JUDGED ({report.reason}{why}).",
        (
            "Whether it is good is not known; what kept the drill from an answer has to be mended"
            " first."
        ),
    ]


def kept_from(report: Report) -> list[str]:
    """Return what kept production from being compared, or the drill from its end.

    These are a report's first lines.
    """
    return [*_stopped(report), *about_production(report)]


def about_production(report: Report) -> list[str]:
    """Return what kept production from being compared."""
    gone = (
        [f"Production was not there: {report.without_production}."]
        if report.without_production
        else []
    )
    return [*gone, *([f"{LOST}: {report.production_lost}."] if report.production_lost else [])]


def _stopped(report: Report) -> list[str]:
    """Return what was found where a stage did not end well.

    The reason alone is a word for programs.
    """
    stages = (report.restore, report.checks)
    return [
        f"{one.trouble.thing}: {one.trouble.found}"
        for one in stages
        if one.status != "ok" and one.trouble
    ][:1]


def _tried(report: Report) -> str:
    which = (
        "the newest backup"
        if report.wanted_backup == "LATEST"
        else f"backup {report.backup or report.wanted_backup}"
    )
    words = f"On {_day(report.started_at)} {which} of {report.cluster}"
    target = report.target
    if target is None or target.kind == "latest":
        return words
    what = {
        "time": "as of",
        "random": "as of",
        "before": "as just before",
        "lsn": "up to LSN",
        "name": "up to restore point",
    }[target.kind]
    return f"{words}, {what} {target.value},"


def _lost(report: Report) -> str:
    seconds = report.measured_rpo_seconds
    if seconds is None:
        return "how much work would have been lost could not be measured"
    return f"at most {_about(seconds)} of work would have been lost"


def _warnings(report: Report) -> list[str]:
    found = [result for result in report.results if result.status == "warn"]
    return (
        [
            f"{count(len(found), 'answer')}"
            f" {'is a warning' if len(found) == 1 else 'are warnings'}, first {_named(found[0])}."
        ]
        if found
        else []
    )


def _accepted(report: Report) -> list[str]:
    """Say what is red and known: people who read only this have to know, too."""
    found = [result for result in report.results if result.accepted]
    over = [one for one in report.deviations if one.expired]
    first = (
        f"{count(len(found), 'answer')} would be red and {'is' if len(found) == 1 else 'are'}"
        f" accepted as known, first {_named(found[0])}, {found[0].accepted}."
        if found
        else ""
    )
    ended = (
        f"No longer accepted: {over[0].check} of {over[0].object}, since {over[0].until}."
        if over and over[0].answers
        else ""
    )
    return list(filter(None, (first, ended)))


def _left(report: Report) -> list[str]:
    """Say what has no answer. Where the checks did not run to their end, that is all of it."""
    if report.checks.status == "not run":
        return ["Nothing was checked."]
    if report.checks.status != "ok":
        return ["The checks did not run to their end."]
    skipped = [result for result in report.results if result.status == "skip"]
    found = [result for result in skipped if result.value != NOT_ASKED]
    unasked = [result for result in skipped if result.value == NOT_ASKED]
    unanswered = (
        [f"{count(len(found), 'question')} had no answer, first {_named(found[0])}."]
        if found
        else []
    )
    if unasked:
        unanswered.append(
            f"{count(len(unasked), 'question')} {'was' if len(unasked) == 1 else 'were'} not asked,"
            f" first {_named(unasked[0])}."
        )
    left_out = (
        [f"Not asked, by choice: {', '.join(report.families_left_out)}."]
        if report.families_left_out
        else []
    )
    return unanswered + left_out or ["Nothing was left unchecked."]


def _named(result: CheckResult) -> str:
    return f"{result.name} of {result.thing}" if result.thing else result.name


def _day(instant: datetime) -> str:
    day = instant.astimezone(UTC)
    return f"{day.day} {day:%B %Y}"


def _about(seconds: float) -> str:
    """Return a time in words, rounded up.

    A promise to a manager is never shorter than what was measured.
    """
    if seconds <= 99:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
