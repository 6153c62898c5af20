"""The base of every check: one question asked of a restored cluster.

A check says what passing means, and brings the hint for what to do if it fails.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict, Unpack

import psycopg

from pgdrill.baseline import Baseline
from pgdrill.checks.cache import Cache
from pgdrill.checks.columns import no_vectors
from pgdrill.checks.left_out import hint, library_of
from pgdrill.checks.outcome import Outcome, not_asked
from pgdrill.config import Cluster
from pgdrill.errors import CouldNotVerify
from pgdrill.host.fence.watch import Watch
from pgdrill.host.process import Runner
from pgdrill.postgres.roles import Roles
from pgdrill.postgres.session import SYSTEM_PATH
from pgdrill.postgres.statement_watchdog import Stuck
from pgdrill.reports.deviations import accept
from pgdrill.reports.measured import in_words
from pgdrill.reports.model import NO_VECTORS, NOT_ASKED, CheckResult, CheckStatus, Report
from pgdrill.text import joined
from pgdrill.vectors.columns import FoundColumn
from pgdrill.vectors.model import VectorState

__all__ = [
    "CHECKS",
    "COULD_NOT_RUN",
    "UNFORESEEN",
    "Check",
    "Context",
    "Outcome",
    "Question",
    "check",
    "not_asked",
    "run_checks",
]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """What checks may look at. They read the restored cluster and never change it.

    Three doors. ``connect`` is for users' relations: of a role that is no superuser, since planning
    alone runs what users wrote into indexes and CHECKs. :meth:`system` is for the catalogs, with
    nothing of a user's in the search path. ``prepare`` is the superuser's, only to a throw-away
    cluster of our own, for what PostgreSQL's own code does.

    ``baseline`` is what production held at the restored instant; None where that is not known.
    ``production`` is what it was when the drill began, whatever the target. ``older_baseline``:
    production is gone and the baseline is of the base backup's time, so that it only proves what
    nobody can have changed since. ``habits`` tells what a vector column was like on production at
    other instants, the cheapest to ask first (see :mod:`pgdrill.baseline.habits`). ``log_file`` and
    ``data_directory`` are those of a cluster of our own.
    """

    cluster: Cluster
    connect: Callable[[str], psycopg.Connection]
    databases: tuple[str, ...]
    baseline: Baseline | None = None
    older_baseline: bool = False
    production: Baseline | None = None
    report: Report | None = None
    # as the backup's record has it
    built: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    recorded: Baseline | None = None  # what production was when the backup was taken
    without_vectors: bool = False  # production had none, by other word than a baseline's
    # to somebody else's server, without any setting of ours
    bare: Callable[[], psycopg.Connection] | None = None
    # adds what was written since to the baseline; may wait
    settle: Callable[[], bool] = field(default=lambda: False)
    # the part of it that has nothing to wait for
    settle_catalogs: Callable[[], bool] = field(default=lambda: False)
    prepare: Callable[[str], psycopg.Connection] | None = None
    home: str = "postgres"  # the database for questions of the whole cluster
    entered_as: tuple[str, ...] = ()  # a superuser that the drill made to get in
    made_roles: Roles | None = None  # by the drill, in its copy
    # may SET ROLE to that role
    tenancy: Callable[[str, str], AbstractContextManager[psycopg.Connection]] | None = None
    habits: Callable[[FoundColumn], Iterable[tuple[str, VectorState]]] = field(default=lambda _: ())
    # its catalogs, to tell what differs
    production_now: Callable[[str], AbstractContextManager[psycopg.Connection]] | None = None
    log_file: Path | None = None
    data_directory: Path | None = None
    watch: Watch | None = None  # what was seen of its processes meanwhile
    stuck: Stuck = field(default_factory=Stuck)  # statements that had to be ended
    configuration: Path | None = None  # the folder of its configuration files
    cache: Cache = field(default_factory=Cache, repr=False)
    # what is held until all are asked
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)
    runner: Runner = field(default_factory=Runner)  # for programs; stopping the job ends them

    def system(self, database: str = "") -> psycopg.Connection:
        """Open a reading connection for questions of the catalogs alone.

        It is the superuser's where the cluster is our own.
        """
        made = (self.prepare or self.connect)(database or self.home)
        made.autocommit = True
        limit = int(self.cluster.drill.statement_timeout_seconds * 1000)
        made.execute(
            f"SET search_path = {SYSTEM_PATH}; SET default_transaction_read_only = on; SET"
            f" statement_timeout = {limit}"
        )
        return made

    @property
    def own_roles(self) -> tuple[str, ...]:
        """The roles that are in the restored cluster and were not in the backup."""
        return (*self.made_roles.names, *self.entered_as) if self.made_roles else self.entered_as

    @property
    def not_compared(self) -> str:
        """The reason why the content is not compared with production's; empty where it is."""
        return self.report.not_compared if self.report else ""

    @property
    def catalogs_untouched(self) -> bool:
        """True if WAL says that catalogs are as they were when an older baseline was taken.

        It speaks of the time between that baseline and what was restored.
        """
        return bool(
            self.report and self.report.restored and self.report.restored.catalogs_untouched
        )

    def allowing_for_changes(self, outcome: Outcome) -> Outcome:
        """Return the outcome, softened where a change since the baseline may explain a failure.

        Only a difference from an older baseline becomes a warning, and only if it is not proved.
        """
        if (
            not self.older_baseline
            or self.baseline is None
            or outcome.status != "fail"
            or outcome.proved
        ):
            return outcome
        when = f"{self.baseline.taken_at:%Y-%m-%d %H:%M} UTC"
        why = (
            f"compared with the backup's record of {when}: changed since then, or lost, which"
            " cannot be told without production"
        )
        return replace(
            outcome, status="warn", message="; ".join(filter(None, (outcome.message, why)))
        )

    @property
    def unlike_today(self) -> CheckStatus:
        """The status of what differs from today's configuration.

        At an instant of the past that is no failure yet, but a warning.
        """
        return "warn" if self.not_compared else "fail"


Question = Callable[[Context], Iterable[Outcome]]

OF_VECTORS = ("vectors", "search", "embeddings")
COULD_NOT_RUN = "could not run: "
# compare nothing else
OF_CATALOGS = ("catalogs", "vector-indexes", "search-settings", "extension-versions", "databases")
UNFORESEEN = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Check:
    """A registered check. ``example`` is what a failing answer looks like."""

    name: str
    family: str
    passing: str
    hint: str
    ask: Question = field(repr=False)
    example: str = ""
    required: bool = True
    compares: bool = False  # with what production held at that very instant
    last: bool = False  # asked when all else has been: what went on meanwhile

    def run(self, context: Context) -> Iterator[CheckResult]:
        """Ask the question and yield the results.

        A check that breaks is a skip with its reason, never a pass.
        """
        started, broke, retryable = time.monotonic(), False, False
        try:
            outcomes = (
                [not_asked("", why)]
                if self.compares and (why := context.not_compared)
                else list(self.ask(context))
            )
        except (psycopg.Error, CouldNotVerify) as error:
            outcomes = [
                Outcome(
                    "skip", message=f"{COULD_NOT_RUN}{type(error).__name__}: {str(error).strip()}"
                )
            ]
            retryable = isinstance(error, CouldNotVerify) and error.retryable
        except UNFORESEEN as error:  # damage breaks what every healthy catalog keeps to
            logger.exception("%s could not run", self.name)
            broke = True  # then no drill is green, whatever the check is worth
            outcomes = [
                Outcome("skip", message=f"{COULD_NOT_RUN}unforeseen {type(error).__name__}")
            ]
        if self.compares and not (context.catalogs_untouched and self.name in OF_CATALOGS):
            outcomes = [context.allowing_for_changes(outcome) for outcome in outcomes]
        seconds = time.monotonic() - started
        if not outcomes:
            outcomes = [_nothing(context, self.family)]
        for outcome in (_judged(context, outcome) for outcome in outcomes):
            yield accept(
                CheckResult(
                    name=self.name,
                    family=self.family,
                    status=outcome.status,
                    thing=outcome.thing,
                    value=outcome.value,
                    threshold=outcome.threshold,
                    message=joined(outcome.message),
                    required=broke or (self.required and outcome.required),
                    hint=outcome.hint or (self.hint if outcome.status in ("fail", "warn") else ""),
                    retryable=retryable,
                    seconds=seconds / len(outcomes),
                ),
                context.cluster.deviations,
            )


def _nothing(context: Context, family: str) -> Outcome:
    """Return the outcome of a check that gave no answer.

    Where production has no vector column there is nothing to ask about vectors. Everywhere else it
    is a skip, because a check without an answer has proved nothing.
    """
    try:
        if family in OF_VECTORS and no_vectors(context):
            return not_asked("", NO_VECTORS)
    except (psycopg.Error, CouldNotVerify) as error:
        return Outcome(
            "skip", message=f"{COULD_NOT_RUN}{type(error).__name__}: {str(error).strip()}"
        )
    return Outcome("skip", message="nothing to check")


def _judged(context: Context, outcome: Outcome) -> Outcome:
    """Return the outcome, or a skip where its thing needs a library that is not loaded here.

    Such a thing may well look broken, and that is no answer.
    """
    if outcome.status == "pass" or outcome.value == NOT_ASKED:
        return outcome
    try:
        library = library_of(context, outcome.thing)
    except psycopg.Error:
        return outcome
    return (
        not_asked(outcome.thing, f"needs a library that is not loaded: {hint(library)}")
        if library
        else outcome
    )


CHECKS: dict[str, Check] = {}


class Manner(TypedDict, total=False):
    """What :class:`Check` has a default for."""

    example: str
    required: bool
    compares: bool
    last: bool


def check(
    name: str, family: str, *, passing: str, hint: str, **manner: Unpack[Manner]
) -> Callable[[Question], Question]:
    """Register a check under its name.

    A check that ``compares`` is not asked where there is nothing to compare with.
    """

    def register(ask: Question) -> Question:
        CHECKS[name] = Check(name, family, passing, hint, ask, **manner)
        return ask

    return register


def run_checks(
    context: Context,
    families: Iterable[str],
    *,
    last: bool = False,
    judge: Callable[[CheckResult], CheckResult] = lambda result: result,
) -> Iterator[CheckResult]:
    """Run the checks of the given families in that order, and yield their results.

    ``last`` chooses between the checks that are asked last and all others. ``judge`` has the last
    word on an answer, before it is logged.
    """
    for family in families:
        for one in [c for c in CHECKS.values() if c.family == family and c.last == last]:
            for result in map(judge, one.run(context)):
                loud = result.status == "fail" or (
                    result.status == "skip" and result.value != NOT_ASKED
                )
                logger.log(logging.WARNING if loud else logging.INFO, "%s", in_words(result))
                yield result
