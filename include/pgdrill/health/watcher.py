"""One look at a cluster's health, and a watcher that looks again and again."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from pgdrill.access import Access
from pgdrill.errors import PgdrillError
from pgdrill.examination.asking import Asked, ask_all, guarded, with_needs
from pgdrill.health.answer import Answer, unknown
from pgdrill.health.check import Cost, HealthCheck, in_order
from pgdrill.health.findings import finding_of
from pgdrill.health.memory import read_memory, write_memory
from pgdrill.health.model import HealthReport
from pgdrill.health.subject import HealthSubject
from pgdrill.host.process import masking

logger = logging.getLogger(__name__)

SECONDS = 30.0
WIDE_EVERY = timedelta(minutes=5)
# Which thread asks the questions of a place: a connection, and what is read of the repository once
# for all, is one thread's alone.
THREADS = {"replication": "server", "promises": "repository"}
COSTS: tuple[Cost, ...] = ("each look", "every 5 minutes")


class Watcher:
    """Looks at one cluster, with connections and a memory that it keeps from look to look."""

    def __init__(self, access: Access) -> None:
        self.subject = HealthSubject(access)
        self.subject.memory.cluster = self.subject.name

    def look(
        self, costs: Collection[Cost] = (), *, seconds: float = SECONDS, keep: bool = True
    ) -> HealthReport:
        """Ask what costs so much; without ``costs`` what is due by now.

        What has not answered in time is unknown. ``keep``: after a wide look what is remembered is
        kept beside the reports.
        """
        started, at = time.monotonic(), datetime.now(UTC)
        subject = self.subject
        subject.forget_look()
        self._remember()
        wanted = costs or self._due(at)
        subject.wide = "every 5 minutes" in wanted
        asked = ask_all(
            with_needs(in_order(), lambda one: one.cost in wanted),
            lambda one, fallen: _answers(one, fallen, subject),
            stands=lambda answer: (
                answer.status not in ("critical", "unknown") or answer.reason in STANDS_STILL
            ),
            seconds=seconds,
            together=lambda one: THREADS.get(one.place, one.place),
        )
        hide = masking(subject.secrets())
        findings = [
            finding_of(one.question, answer, cluster=subject.name, at=subject.now, hide=hide)
            for one in asked
            for answer in _answered(one, seconds)
        ]
        if any(one.running for one in asked):
            subject.abandon()
        if subject.wide:
            subject.memory.looked_wide_at = at
            if keep:
                self._keep(at)
        return HealthReport(
            cluster=subject.name,
            host=socket.gethostname(),
            started_at=at,
            seconds=round(time.monotonic() - started, 3),
            findings=findings,
        )

    def close(self) -> None:
        """Close the connections."""
        self.subject.drop()

    def _due(self, at: datetime) -> tuple[Cost, ...]:
        last = self.subject.memory.looked_wide_at
        return COSTS if last is None or at - last >= WIDE_EVERY or last > at else COSTS[:1]

    def _remember(self) -> None:
        """Read what was kept, once; a store that does not answer is asked at the next look."""
        subject = self.subject
        if subject.remembers:
            return
        try:
            kept = read_memory(subject.access.reports, subject.name)
        except PgdrillError as error:
            logger.info("what earlier looks saw is not known: %s", error)
            return
        samples = subject.memory.samples
        subject.memory, subject.remembers = kept, True
        kept.looked_wide_at = None  # this one has not yet
        for sample in samples:
            kept.add(sample)

    def _keep(self, at: datetime) -> None:
        """Write what is remembered, unless what was kept before could not be read."""
        subject = self.subject
        if not subject.remembers:
            return
        subject.memory.saved_at = at
        try:
            write_memory(subject.access.reports, subject.memory)
        except PgdrillError as error:
            logger.info("what this look saw is not kept: %s", error)


# A critical answer whose reason is here says that a promise is broken, and hinders no question.
STANDS_STILL = ("wal-waits", "archiving-fails", "never-archived", "archiving-off", "wal-gap")


def look(
    access: Access, costs: Collection[Cost] = COSTS, *, seconds: float = SECONDS, keep: bool = True
) -> HealthReport:
    """Look once."""
    watcher = Watcher(access)
    try:
        return watcher.look(costs, seconds=seconds, keep=keep)
    finally:
        watcher.close()


def _answers(one: HealthCheck, fallen: str, subject: HealthSubject) -> Iterable[Answer]:
    if fallen:
        return [
            unknown(
                f"not asked, for {fallen} does not stand",
                f"needs-{fallen}",
                hint=f"see {fallen} first",
            )
        ]
    return guarded(
        one.name,
        lambda: one.ask(subject),
        problem=_of_problem,
        unknown=lambda words: unknown(words, "could-not-look"),
    )


def _of_problem(error: PgdrillError) -> Answer:
    words = error.problem
    return Answer(
        "unknown",
        f"{words.thing}: {words.found}",
        promise=words.expected,
        hint=words.hint,
        reason=words.reason,
    )


def _answered(asked: Asked[HealthCheck, Answer], seconds: float) -> list[Answer]:
    late = [unknown(f"no answer within {seconds:g} s", "no-answer")]
    return asked.answers if asked.answered.is_set() else late
