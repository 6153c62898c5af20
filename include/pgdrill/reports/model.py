"""The report: a drill's result as versioned JSON, with no row content and no vectors.

It is also the drill's memory between Airflow tasks: restore begins it, checks and clean-up complete
it, and every stage writes it before it raises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator

from pgdrill.documents import Instant, Lsn, StrictModel, SystemIdentifier, Timeline
from pgdrill.errors import BackupFault, PgdrillError, Problem
from pgdrill.reports.grouping import by_telling
from pgdrill.text import one_line

Verdict = Literal["passed", "failed", "could not verify"]
CheckStatus = Literal["pass", "warn", "fail", "skip"]
NOT_ASKED = "not asked"  # the value of a skip that config and data leave no question for
NO_VECTORS = "no vector column"
# Failed checks of a copy that is right, and came too late or too old.
LATE = {
    "rto": "the restore took longer than promised",
    "measured-rpo": "more work would have been lost than promised",
}
# Reports from before 0.2 are read as well.
WAS_MEND = AliasChoices("hint", "mend")
StageStatus = Literal["not run", "running", "ok", "failed", "could not verify"]


class Part(StrictModel, frozen=False, validate_assignment=True):
    """A part of a report. Unknown keys are kept out so that the format stays what it says.

    Names in it were given by anybody, and a report in the bucket may be anybody's: what is to be a
    line is one, and rules no terminal (see :mod:`pgdrill.text`).
    """

    @field_validator("*", mode="after")
    @classmethod
    def _lines(cls, value: Any) -> Any:
        if isinstance(value, str):
            return one_line(value)
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return [one_line(one) for one in value]
        return value


class Trouble(Part):
    """A problem as kept in a report, with the error's own word whether another try may succeed."""

    reason: str
    thing: str
    found: str
    expected: str
    hint: str = Field(validation_alias=WAS_MEND)
    retryable: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Trouble:
        """Return the trouble of any error."""
        problem = explain(error)
        return cls(
            reason=problem.reason,
            thing=problem.thing,
            found=problem.found,
            expected=problem.expected,
            hint=problem.hint,
            retryable=isinstance(error, PgdrillError) and error.retryable,
        )


class Stage(Part):
    """Restore, checks or clean-up: how it went, kept apart so that one cannot hide another."""

    status: StageStatus = "not run"
    seconds: float | None = None
    trouble: Trouble | None = None

    def fail(self, error: BaseException) -> None:
        """Keep what went wrong and whose fault it was."""
        self.status = "failed" if isinstance(error, BackupFault) else "could not verify"
        self.trouble = Trouble.of(error)


class CheckResult(Part):
    """One question asked of the restored cluster, and its answer.

    ``required`` ones must have been answered for a green verdict.

    ``retryable``: it has no answer for the sake of something that may pass. ``accepted``: it is
    red, and a known deviation until when and why (see :mod:`pgdrill.reports.deviations`).
    """

    name: str
    family: str
    status: CheckStatus
    thing: str = ""
    value: float | int | str | None = None
    threshold: str = ""
    message: str = ""
    hint: str = Field("", validation_alias=WAS_MEND)
    required: bool = True
    retryable: bool = False
    seconds: float = 0.0
    accepted: str = ""


class KnownDeviation(Part):
    """A deviation that the configuration accepts, and how many answers it was about.

    ``model``: allowed besides the running one.
    """

    check: str
    object: str
    reason: str
    until: str
    model: str = ""
    expired: bool = False
    answers: int = 0

    def __str__(self) -> str:
        what = (
            f"{self.check} of {self.object}{f' (vectors of {self.model})' if self.model else ''}:"
            f" {self.reason}"
        )
        if self.expired:
            return f"{what}; accepted until {self.until} and NO LONGER"
        used = (
            ""
            if self.answers or self.model
            else "; nothing deviates now: take it out of the configuration"
        )
        return f"{what}; accepted until {self.until}{used}"


class WalFetched(Part):
    """WAL fetched ahead of recovery.

    ``settle_seconds``: the last comparisons, after promotion; no part of any other time.

    ``reading_seconds``: during which any was on its way, with the prefetcher's own CPU seconds;
    ``ready_segments``: there when the server was started, of which there cannot be more than
    ``ahead_segments``.
    """

    segments: int = 0
    by_reader: int = 0
    by_tool: int = 0
    compared: int = 0
    read_bytes: int = 0
    ready_segments: int = 0
    ahead_segments: int = 0
    reading_seconds: float = 0.0
    reading_cpu_seconds: float = 0.0
    waited_seconds: float = 0.0
    settle_seconds: float = 0.0


class ColumnChecked(Part):
    """The time that looking at a vector column took, and the figures it grows with.

    ``method``: of its indexes, the one that scans most.
    """

    column: str
    method: Literal["", "hnsw", "ivfflat"]
    rows: int
    dimensions: int
    table_bytes: int
    seconds: float
    read_seconds: float
    search_seconds: float


class Timings(Part):
    """Seconds from the drill's own clock, and the bytes behind the rate.

    ``None``: the drill did not get there.

    Correct vector search is there after running, prewarming and the vector checks.
    ``fetch_fixed_seconds`` of fetching are for files, however large they are; ``looking_seconds``
    of the vector checks went by while ``columns``, several at a time, were looked at.
    """

    baseline_seconds: float | None = None
    preflight_seconds: float | None = None
    fetch_seconds: float | None = None
    fetched_bytes: int | None = None
    fetched_files: int | None = None
    fetch_fixed_seconds: float | None = None
    sync_seconds: float | None = None
    replay_seconds: float | None = None
    redo_seconds: float | None = None
    checkpoint_seconds: float | None = None  # after the redo, before the server opens
    wal_segments: int | None = None
    replayed_wal_bytes: int | None = None
    wal: WalFetched | None = None  # None: by the tool alone
    time_to_running_seconds: float | None = None
    prewarm_seconds: float | None = None
    prewarm_reading_seconds: float | None = None
    prewarmed_bytes: int | None = None
    vector_checks_seconds: float | None = None
    vector_bytes: int | None = None
    looking_seconds: float | None = None
    columns: list[ColumnChecked] = Field(default_factory=list)
    time_to_correct_vector_search_seconds: float | None = None

    @property
    def fetch_mb_per_second(self) -> float | None:
        """Base backup bytes on disk per second of fetching, in 10^6."""
        if not self.fetch_seconds or self.fetched_bytes is None:
            return None
        return self.fetched_bytes / self.fetch_seconds / 1e6


class RestoredCluster(Part):
    """The place of the restored cluster, for the tasks that come after the restore."""

    directory: str
    data_directory: str
    socket_directory: str
    port: int
    system_identifier: SystemIdentifier
    timeline: Timeline
    reached_lsn: str
    last_transaction_time: datetime | None = None
    expires_at: Instant
    recovered_timeline: int = 0  # the one that replay followed; 0 in reports of older versions
    newest_archived_timeline: int = 0
    # by WAL since the backup's record; looked for where production is gone
    catalogs_untouched: bool = False
    # number of the transaction that would have come next; 0 in reports of older versions
    next_xid: int = 0


class Target(Part):
    """The place where recovery was told to stop.

    ``asked`` is what was asked for, where that was not the kind itself.
    """

    kind: Literal["latest", "time", "before", "lsn", "name", "random"]
    value: str
    lsn: str | None = None
    asked: str = ""
    note: str = ""

    @property
    def instant(self) -> datetime | None:
        """The instant of a target that is one, else None."""
        return (
            datetime.fromisoformat(self.value).astimezone(UTC)
            if self.kind in ("time", "before", "random")
            else None
        )


class Branch(Part):
    """Another end of archived WAL than the one that a drill restored to.

    ``stray``: production is on another timeline; else it may be this one. ``left_at``: where it
    left the timeline before.
    """

    timeline: Timeline
    history: str  # its object's name, empty where none is archived
    segments: int
    first_segment: str
    left_at: str
    ends_at: str
    stray: bool
    removal: str


class InstantProof(Part):
    """The transactions that ended just before and just after replay stopped.

    They are read from the archive.
    """

    last_at: datetime | None = None
    last_lsn: Lsn | None = None
    next_at: datetime | None = None
    next_lsn: Lsn | None = None


class Heartbeats(Part):
    """Production's heartbeats when the drill began.

    ``newest_at`` is its newest, ``at_target`` its newest up to the target's instant.
    """

    newest_at: datetime | None = None
    at_target: datetime | None = None
    trouble: str = ""
    not_asked: str = ""


class Share(Part):
    """Rows, and the bytes of their tables, by how they were compared."""

    exact: int = 0
    sampled: int = 0
    counted: int = 0
    not_compared: int = 0
    exact_bytes: int = 0
    sampled_bytes: int = 0
    counted_bytes: int = 0
    not_compared_bytes: int = 0

    @classmethod
    def of(
        cls, rows: int, size: int, *, exact: int = 0, sampled: int = 0, counted: int = 0
    ) -> Share:
        """Return the share of a table with so many rows and bytes.

        A row's bytes are taken for the average's. An empty table was compared.
        """

        def part(some: int) -> int:
            return size * some // rows if rows else 0

        others = part(sampled), part(counted), part(rows - exact - sampled - counted)
        return cls(
            exact=exact,
            sampled=sampled,
            counted=counted,
            not_compared=rows - exact - sampled - counted,
            exact_bytes=size - sum(others),
            sampled_bytes=others[0],
            counted_bytes=others[1],
            not_compared_bytes=others[2],
        )

    @classmethod
    def sampled_of(cls, rows: int, size: int) -> Share:
        """Return the share of a table of which single rows were compared."""
        return cls(sampled=rows, sampled_bytes=size)

    @classmethod
    def nothing(cls, rows: int, size: int) -> Share:
        """Return the share of a table that nothing was compared of."""
        return cls(not_compared=rows, not_compared_bytes=size)


class Compared(Share):
    """The shares of all tables together.

    Exact: to the bit, so that any other byte is red. By sample: some of its rows to the bit.
    Counted: the number of rows alone.
    """

    not_proven: list[str] = Field(default_factory=list)

    def add(self, share: Share, not_proven: str = "") -> None:
        """Add a table's share.

        It is named if its rows were not compared, however many the server knows of.
        """
        if not_proven:
            self.not_proven.append(not_proven)
        for name in Share.model_fields:
            setattr(self, name, getattr(self, name) + getattr(share, name))

    def __str__(self) -> str:
        kinds = {
            "exactly": ("exact", "exact_bytes"),
            "by sample": ("sampled", "sampled_bytes"),
            "by count": ("counted", "counted_bytes"),
            "not at all": ("not_compared", "not_compared_bytes"),
        }
        rows, size = (
            sum(getattr(self, one[number]) for one in kinds.values()) for number in (0, 1)
        )
        shown = [
            f"{how} {_percent(getattr(self, one[0]), rows)} of rows,"
            f" {_percent(getattr(self, one[1]), size)} of bytes"
            for how, one in kinds.items()
            if getattr(self, one[0]) or getattr(self, one[1])
        ]
        if self.not_proven:
            first, more = self.not_proven[0], len(self.not_proven) - 1
            shown.append(f"rows not compared of {first}{f' and {more} more' if more else ''}")
        return "; ".join(shown) or "no rows"


def _percent(part: int, whole: int) -> str:
    """Return a percentage, never rounded up to all, nor down to none."""
    if part == whole:
        return "100 %" if whole else "0 %"
    return f"{min(max(100 * part / whole, 0.01 if part else 0), 99.99):.2f} %"


class Report(Part):
    """One drill.

    ``not_compared`` says why the content was not compared with production's, where it was not;
    ``compared``: how much of it was; ``no_lease``: why prunes on other hosts were not kept from
    deleting what was restored from, all the time.
    """

    version: Literal[1] = 1
    drill_id: str
    cluster: str
    trigger: str = "cli"
    started_at: Instant
    ended_at: Instant | None = None
    host: str = ""
    pgdrill: str = ""  # the version that ran it; empty in reports from before it was noted
    tool: str = ""
    wanted_backup: str = "LATEST"
    backup: str = ""
    backup_finished_at: Instant | None = None
    target: Target | None = None
    durability: Literal["full", "fast"] = "full"
    # the fence around the restored server; empty in reports from before there were any
    fence: str = ""
    measured_rpo_seconds: float | None = None
    measured_rpo_note: str = ""
    clock_offset_seconds: float | None = None
    clock_uncertainty_seconds: float | None = None
    not_compared: str = ""
    compared: Compared | None = None
    no_lease: str = ""
    branches: list[Branch] | None = None  # None: not looked for
    without_production: str = ""  # why it was not there; empty where it was
    drills_without_production: int = 0  # in a row, this one included
    # why it did not say, after the restore, what was written since the baseline
    production_lost: str = ""
    instant: InstantProof | None = None
    heartbeats: Heartbeats | None = None
    rpo_seconds: float = Field(allow_inf_nan=False)
    rto_seconds: float = Field(allow_inf_nan=False)
    timings: Timings = Field(default_factory=Timings)
    versions: dict[str, str | dict[str, str]] = Field(default_factory=dict)
    restore: Stage = Field(default_factory=Stage)
    checks: Stage = Field(default_factory=Stage)
    cleanup: Stage = Field(default_factory=Stage)
    results: list[CheckResult] = Field(default_factory=list)
    deviations: list[KnownDeviation] = Field(default_factory=list)
    families_left_out: list[str] = Field(default_factory=list)
    # the application's own test may have written to it: what was compared is not compared again
    copy_written: bool = False
    restored: RestoredCluster | None = None
    verdict: Verdict = "could not verify"
    reason: str = "unfinished"
    summary: str = ""
    kept_at: list[str] = Field(default_factory=list)

    def judge(self) -> None:
        """Set verdict and reason from the stages and the checks."""
        self.verdict, self.reason = judge(
            self.restore, self.checks, self.results, self.families_left_out
        )

    @property
    def without_vectors(self) -> bool:
        """True if there was nothing to search in, on production as in the copy."""
        return any(one.name == "vector-values" and one.value == NO_VECTORS for one in self.results)

    @property
    def verdict_line(self) -> str:
        """The verdict as it is shown.

        A good backup is no PASSED over a promise that was not kept.
        """
        missed = missed_rpo(self.results) if self.verdict == "passed" else ""
        return f"WARNED, {missed}" if missed else self.verdict.upper()

    @property
    def worth_another_try(self) -> bool:
        """True if another try may come to a verdict."""
        return worth_another_try(self.restore, self.checks, self.results)

    @property
    def unproved(self) -> str:
        """The reason why no promise was proved, whatever was measured.

        Empty where what was promised did come back, be it too late.
        """
        if self.restore.status != "ok":
            return (
                "nothing was restored" if self.restored is None else "the restore did not end well"
            )
        if self.checks.status != "ok":
            return (
                "the copy was not checked"
                if self.checks.status == "not run"
                else "the checks did not run to their end"
            )
        failed = {result.name for result in self.results if result.status == "fail"}
        only_late = (
            bool(failed)
            and failed <= LATE.keys()
            and not any(r.required and r.status == "skip" for r in self.results)
        )
        return "" if self.verdict == "passed" or only_late else "the copy was not found right"


def judge(
    restore: Stage,
    checks: Stage,
    results: list[CheckResult],
    left_out: Sequence[str] = (),
    *,
    essential: str = "vectors",
) -> tuple[Verdict, str]:
    """Return the verdict with its reason.

    What was not answered is never green, nor what was not asked by choice. ``essential``: the
    family of which something has to be answered.
    """
    for name, stage in (("restore", restore), ("checks", checks)):
        if stage.status == "failed":
            return "failed", f"{name}: {stage.trouble.reason if stage.trouble else 'failed'}"
    failed = by_telling([r for r in results if r.status == "fail"])
    if failed:
        return (
            "failed",
            f"{len(failed)} of {len(results)} checks failed, first {failed[0].name}"
            f" {failed[0].thing}".strip(),
        )
    for name, stage in (("restore", restore), ("checks", checks)):
        if stage.status != "ok":
            return (
                "could not verify",
                f"{name}: {stage.trouble.reason if stage.trouble else stage.status}",
            )
    unanswered = [r for r in results if r.required and r.status == "skip"]
    if unanswered:
        return (
            "could not verify",
            f"{len(unanswered)} required checks not answered, first {unanswered[0].name}",
        )
    if not any(r.family == essential and r.status in ("pass", "warn") for r in results):
        nothing = "no vector column" if essential == "vectors" else "nothing"
        return (
            "could not verify",
            (
                f"{essential} were not asked about, by choice"
                if essential in left_out
                else f"{nothing} was checked"
            ),
        )
    warnings = sum(1 for r in results if r.status == "warn")
    missed = f", among them: {words}" if (words := missed_rpo(results)) else ""
    return (
        "passed",
        f"no check failed, {warnings} warned{missed}" if warnings else "all checks passed",
    )


def rpo_missed(lost_seconds: float, promised_seconds: float) -> str:
    """Return by how much a promise was missed, rounded up."""
    return f"RPO missed by {math.ceil(lost_seconds - promised_seconds)} s"


def missed_rpo(results: list[CheckResult]) -> str:
    """Return by how much the RPO was missed, in a drill that is none the worse for it.

    Empty where the RPO was kept, or not measured.
    """
    return next(
        (
            r.message.partition(";")[0]
            for r in results
            if r.name == "measured-rpo" and r.status == "warn"
        ),
        "",
    )


def worth_another_try(restore: Stage, checks: Stage, results: list[CheckResult]) -> bool:
    """Return whether all that keeps a drill from a verdict may pass by itself.

    The errors said so of themselves.
    """
    stopped = next((stage for stage in (restore, checks) if stage.status != "ok"), None)
    if stopped:
        return bool(stopped.trouble and stopped.trouble.retryable)
    unanswered = [r for r in results if r.required and r.status == "skip"]
    return (
        bool(unanswered)
        and all(r.retryable for r in unanswered)
        and not any(r.status == "fail" for r in results)
    )


def explain(error: BaseException) -> Problem:
    """Return any error as a problem. Those that pgdrill did not foresee say so."""
    if isinstance(error, PgdrillError):
        return error.problem
    return Problem(
        "unforeseen",
        type(error).__name__,
        str(error)[:500] or "no message",
        "no error",
        "read the task's log; if the message does not explain it, report it with the log",
    )
