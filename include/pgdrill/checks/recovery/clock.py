"""The measured RPO, and the clocks that it was measured with."""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.postgres.clock import LARGE_SECONDS
from pgdrill.reports.model import CheckStatus, rpo_missed

SHOWN_SECONDS = 0.5  # an uncertainty below that changes no answer


@check(
    "measured-rpo",
    "recovery",
    required=False,
    passing=(
        "what would have been lost at the drill's start, since the first commit that was not"
        " archived, is within the promised RPO"
    ),
    hint=(
        "lower archive_timeout (three quarters of the promise leave time for a push), or see what"
        " slows the archive_command"
    ),
    example="archive: 312.4, wanted <= 60 s",
)
def measured_rpo(context: Context) -> Iterator[Outcome]:
    """Compare the measured RPO with the promised one.

    Up to twice the promise is a warning, which the verdict's line tells: one slow push is no lost
    backup.
    """
    report = context.report
    if report is None or report.measured_rpo_seconds is None:
        yield Outcome(
            "skip",
            "archive",
            message="could not be measured: production or the archive was not readable",
        )
        return
    value, promise = report.measured_rpo_seconds, report.rpo_seconds
    unsure = report.clock_uncertainty_seconds or 0.0
    told = (
        f"give or take {unsure:.1f} s, as exactly as the clocks could be compared"
        if unsure >= SHOWN_SECONDS
        else ""
    )
    status: CheckStatus = "pass" if value <= promise else "warn" if value <= 2 * promise else "fail"
    missed = "" if status == "pass" else rpo_missed(value, promise)
    yield Outcome(
        status,
        "archive",
        round(value, 1),
        f"<= {promise:g} s",
        "; ".join(filter(None, (missed, report.measured_rpo_note, told))),
    )


@check(
    "clock-difference",
    "recovery",
    required=False,
    passing="the clocks of production and of the drill's host agree to a few seconds",
    hint=(
        "run NTP (chrony, systemd-timesyncd) on both hosts; pgdrill allows for the difference,"
        " other tools do not"
    ),
    example="production: -93.2, wanted within 5 s",
)
def clock_difference(context: Context) -> Iterator[Outcome]:
    """Compare the clocks of production and of the drill's host.

    A difference that the measurement's uncertainty could explain is none.
    """
    known = context.production or context.baseline
    clock = known.clock if known else None
    if clock is None:
        yield not_asked("production", "its clock could not be read")
        return
    large = abs(clock.offset_seconds) - clock.uncertainty_seconds > LARGE_SECONDS
    yield Outcome(
        "warn" if large else "pass",
        "production",
        round(clock.offset_seconds, 3),
        f"within {LARGE_SECONDS:g} s",
        f"give or take {clock.uncertainty_seconds:.3f} s",
    )
