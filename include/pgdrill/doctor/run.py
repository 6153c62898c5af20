"""The asking of all examinations at once, each in a thread of its own.

None of them is waited for longer than it was told to.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

import psycopg

from pgdrill.access import Access
from pgdrill.doctor.examination import Examination, in_order
from pgdrill.doctor.model import JOBS, Diagnosis, Finding, Job, Line, not_asked, unknown
from pgdrill.doctor.subject import SECONDS, Subject
from pgdrill.errors import PgdrillError, TimedOut
from pgdrill.host.place import this_user
from pgdrill.host.process import mask

logger = logging.getLogger(__name__)


class Asking:
    """One examination of one subject while it is asked.

    ``lines`` counts once ``answered`` is set.
    """

    def __init__(self, examination: Examination) -> None:
        self.examination = examination
        self.answered = threading.Event()
        self.lines: list[Line] = []

    @property
    def stands(self) -> bool:
        """True if what needs it can go on."""
        return self.answered.is_set() and not any(
            line.status in ("red", "unknown") for line in self.lines
        )


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
    asked = [Asking(one) for one in _with_needs(parts)]
    known = {one.examination.name: one for one in asked}
    deadline = started + seconds
    threads = [
        threading.Thread(
            target=_ask,
            args=(one, subject, known, deadline),
            name=f"doctor-{one.examination.name}",
            daemon=True,
        )
        for one in asked
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    lines = [
        line
        for one in asked
        for line in (one.lines if one.answered.is_set() else [_late(one, subject, seconds)])
        if not parts or line.part in parts or line.status in ("red", "unknown")
    ]
    # one that is still used is left to its end
    if subject.connection and not any(thread.is_alive() for thread in threads):
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


def _with_needs(parts: Collection[str]) -> list[Examination]:
    """Return the examinations of the parts, and what they need of others."""
    every = {one.name: one for one in in_order()}
    wanted = {name for name, one in every.items() if not parts or one.part in parts}
    while (
        more := {need for name in wanted for need in (*every[name].needs, *every[name].after)}
        - wanted
    ):
        wanted |= more
    return [one for name, one in every.items() if name in wanted]


def _ask(asking: Asking, subject: Subject, known: dict[str, Asking], deadline: float) -> None:
    one = asking.examination
    for name in (*one.needs, *one.after):
        known[name].answered.wait(max(0.0, deadline - time.monotonic()))
    began = time.monotonic()
    findings = list(_findings(one, subject, known))
    seconds = round(time.monotonic() - began, 3)
    asking.lines = [_line(one, finding, subject, seconds) for finding in findings]
    asking.answered.set()


def _findings(one: Examination, subject: Subject, known: dict[str, Asking]) -> Iterator[Finding]:
    if subject.jobs.isdisjoint(one.jobs):
        yield not_asked(
            subject.name,
            f"of no matter to {', '.join(sorted(subject.jobs))}: it is for"
            f" {', '.join(sorted(one.jobs))}",
        )
        return
    if missing := [name for name in one.needs if not known[name].stands]:
        yield unknown(
            one.name, f"not asked, for {missing[0]} is not green", "", f"mend {missing[0]} first"
        )
        return
    try:
        yield from one.ask(subject)
    except PgdrillError as error:
        words = error.problem
        status = "unknown" if isinstance(error, TimedOut) else "red"
        yield Finding(status, words.thing, words.found, words.expected, words.hint, words.reason)  # type: ignore[arg-type]
    except (psycopg.Error, OSError, subprocess.SubprocessError) as error:
        yield unknown(
            one.name, f"could not be asked: {type(error).__name__}: {str(error).strip()}", one.green
        )
    except Exception as error:
        logger.exception("examination %s broke", one.name)
        yield unknown(one.name, f"could not be asked: unforeseen {type(error).__name__}", one.green)


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


def _late(asking: Asking, subject: Subject, seconds: float) -> Line:
    one = asking.examination
    return _line(
        one, unknown(one.name, f"no answer within {seconds:g} s", one.green), subject, seconds
    )
