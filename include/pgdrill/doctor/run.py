"""The asking of all examinations at once, each in a thread of its own.

None of them is waited for longer than it was told to.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime

from pgdrill.access import Access
from pgdrill.doctor.examination import Examination, in_order
from pgdrill.doctor.model import JOBS, Diagnosis, Finding, Job, Line, not_asked, unknown
from pgdrill.doctor.subject import SECONDS, Subject
from pgdrill.errors import PgdrillError, TimedOut
from pgdrill.examination.asking import Asked, ask_all, guarded, with_needs
from pgdrill.host.place import this_user
from pgdrill.host.process import mask


def diagnose(
    access: Access,
    *,
    parts: Collection[str] = (),
    jobs: Collection[Job] = (),
    seconds: float = SECONDS,
) -> Diagnosis:
    """Ask everything, or some parts, for some jobs or all.

    What has not answered in time is unknown.
    """
    started, at = time.monotonic(), datetime.now(UTC)
    subject = Subject(access, frozenset(jobs or JOBS), seconds)
    wanted = with_needs(in_order(), lambda one: not parts or one.part in parts)
    asked = ask_all(
        wanted,
        lambda one, fallen: _findings(one, fallen, subject),
        stands=lambda finding: finding.status not in ("red", "unknown"),
        seconds=seconds,
    )
    lines = [
        line
        for one in asked
        for line in _lines(one, subject, seconds)
        if not parts or line.part in parts or line.status in ("red", "unknown")
    ]
    # one that is still used is left to its end
    if subject.connection and not any(one.running for one in asked):
        subject.connection.close()
    return Diagnosis(
        cluster=subject.name,
        host=socket.gethostname(),
        user=this_user(),
        jobs=[job for job in JOBS if job in subject.jobs],
        started_at=at,
        seconds=round(time.monotonic() - started, 3),
        lines=lines,
    )


def _findings(one: Examination, fallen: str, subject: Subject) -> Iterable[Finding]:
    if subject.jobs.isdisjoint(one.jobs):
        words = ", ".join(sorted(subject.jobs)), ", ".join(sorted(one.jobs))
        return [not_asked(subject.name, f"of no matter to {words[0]}: it is for {words[1]}")]
    if fallen:
        why = f"not asked, for {fallen} is not green"
        return [unknown(one.name, why, "", f"mend {fallen} first")]
    return guarded(
        one.name,
        lambda: one.ask(subject),
        problem=_of_problem,
        unknown=lambda words: unknown(one.name, words, one.green),
    )


def _of_problem(error: PgdrillError) -> Finding:
    words = error.problem
    status = "unknown" if isinstance(error, TimedOut) else "red"
    return Finding(status, words.thing, words.found, words.expected, words.hint, words.reason)  # type: ignore[arg-type]


def _lines(asked: Asked[Examination, Finding], subject: Subject, seconds: float) -> Iterator[Line]:
    one = asked.question
    if not asked.answered.is_set():
        late = unknown(one.name, f"no answer within {seconds:g} s", one.green)
        yield _line(one, late, subject, seconds)
        return
    for finding in asked.answers:
        yield _line(one, finding, subject, asked.seconds)


def _line(one: Examination, finding: Finding, subject: Subject, seconds: float) -> Line:
    hint = (finding.hint or one.hint) if finding.status in ("red", "warn", "unknown") else ""
    secrets = subject.secrets()
    texts = {
        "thing": finding.thing,
        "found": finding.found,
        "expected": finding.expected,
        "hint": hint,
    }
    safe = {name: mask(text, secrets) for name, text in texts.items()}
    return Line(
        name=one.name,
        part=one.part,
        status=finding.status,
        reason=finding.reason,
        seconds=seconds,
        **safe,
    )
