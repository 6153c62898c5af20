"""Recovery: did the restored cluster get where it was told to, and is it the right one?"""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.postgres.wal import parse_lsn


@check(
    "promoted", "recovery",
    passing="the server has left recovery and takes writes",
    mend="read the restored server's log; it stopped before its target",
    example="server: in recovery, wanted promoted",
)  # fmt: skip
def promoted(context: Context) -> Iterator[Outcome]:
    """``pg_is_in_recovery()`` is false."""
    with context.connect("postgres") as connection:
        row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    recovering = row is None or row[0]
    yield Outcome("fail" if recovering else "pass", "server", "in recovery" if recovering else "promoted", "promoted")


@check(
    "system-identifier", "recovery",
    passing="the restored cluster has production's system identifier",
    mend="another cluster writes into this repository: give each its own prefix",
    example="server: 7711528191132346515, wanted = 7711528190044182738",
)  # fmt: skip
def system_identifier(context: Context) -> Iterator[Outcome]:
    """Compared with the baseline's, or with the configured one."""
    expected = context.baseline.system_identifier if context.baseline else context.cluster.server.system_identifier
    with context.connect("postgres") as connection:
        row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    found = int(row[0]) if row else 0
    if expected is None:
        yield Outcome("skip", "server", str(found), message="no baseline and no server.system_identifier to compare with")
    else:
        yield Outcome("pass" if found == expected else "fail", "server", str(found), f"= {expected}")


@check(
    "target-reached", "recovery", required=False,
    passing="replay ended at the recovery target, not before",
    mend="WAL ends or breaks before the target: take a base backup now and find what lost the WAL",
    example="latest pgdrill-20261124T003005Z-3f9a2c: 0/9000148, wanted >= 0/DB0B098",
)  # fmt: skip
def target_reached(context: Context) -> Iterator[Outcome]:
    """The replayed LSN against the target's; a time or a name is proved by PostgreSQL, which refuses to promote short."""
    report = context.report
    if report is None or report.restored is None or report.target is None:
        yield Outcome("skip", "server", message="not restored by pgdrill: the target is unknown")
        return
    reached, wanted = report.restored.reached_lsn, report.target.lsn
    if wanted is None:
        yield Outcome("pass", str(report.target.value), reached, "promoted by PostgreSQL at the target")
        return
    short = parse_lsn(reached) < parse_lsn(wanted)
    yield Outcome("fail" if short else "pass", f"{report.target.kind} {report.target.value}", reached, f">= {wanted}")


@check(
    "measured-rpo", "recovery", required=False,
    passing="what would have been lost at the drill's start is within the promised RPO",
    mend="lower archive_timeout, or see what slows the archive_command",
    example="archive: 412.7, wanted <= 60 s",
)  # fmt: skip
def measured_rpo(context: Context) -> Iterator[Outcome]:
    """Up to twice the promise is a warning: ``archive_timeout`` equal to the RPO lets it be overrun by a push's time."""
    report = context.report
    if report is None or report.measured_rpo_seconds is None:
        yield Outcome("skip", "archive", message="could not be measured: production or the archive was not readable")
        return
    value, promise = report.measured_rpo_seconds, report.rpo_seconds
    status = "pass" if value <= promise else "warn" if value <= 2 * promise else "fail"
    yield Outcome(status, "archive", round(value, 1), f"<= {promise:g} s")  # type: ignore[arg-type]
