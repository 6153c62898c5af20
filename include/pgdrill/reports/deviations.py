"""Known deviations: red answers that are accepted in the configuration until a date.

Somebody knows the reason. An accepted answer is a warning that names the reason and the date. It is
of one check and of the objects that are named: whatever else is red stays red. The day after its
date it is red again.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

from pgdrill.config import Deviation
from pgdrill.reports.model import CheckResult, KnownDeviation


def today() -> date:
    """Return today's date by UTC, as all dates of the configuration are."""
    return datetime.now(UTC).date()


def concerns(deviation: Deviation, check: str, thing: str) -> bool:
    """Return whether a deviation speaks of that check's answer about that thing.

    A name that holds brackets is first taken as it is.
    """
    return deviation.check == check and (
        deviation.object == thing or fnmatch.fnmatchcase(thing, deviation.object)
    )


def accept(
    result: CheckResult, deviations: Iterable[Deviation], day: date | None = None
) -> CheckResult:
    """Return the answer as it is to be judged.

    A red one that is known and accepted is a warning; one whose date is over says so.
    """
    if result.status != "fail":
        return result
    known = [
        one for one in deviations if not one.model and concerns(one, result.name, result.thing)
    ]
    if not known:
        return result
    latest = max(known, key=lambda one: one.until)
    if latest.until < (day or today()):
        words = f"was accepted until {latest.until} ({latest.reason}), and is no longer"
        return result.model_copy(update={"message": _joined(result.message, words)})
    words = f"accepted until {latest.until}: {latest.reason}"
    return result.model_copy(
        update={"status": "warn", "accepted": words, "message": _joined(words, result.message)}
    )


def noted(
    deviations: Sequence[Deviation], results: Sequence[CheckResult], day: date | None = None
) -> list[KnownDeviation]:
    """Return every deviation of the configuration as a report shows it.

    It tells whether the deviation holds, and how many answers it was about.
    """
    return [
        KnownDeviation(
            check=one.check,
            object=one.object,
            reason=one.reason,
            until=one.until.isoformat(),
            model=one.model,
            expired=one.until < (day or today()),
            answers=sum(
                concerns(one, result.name, result.thing)
                and (result.status == "fail" or bool(result.accepted))
                for result in results
            ),
        )
        for one in deviations
    ]


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))
