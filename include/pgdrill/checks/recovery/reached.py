"""The end of recovery: promoted, at the target, and with production's system identifier?"""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.checks.base import Context, Outcome, check
from pgdrill.postgres import pg_control
from pgdrill.postgres.wal import parse_lsn


@check(
    "promoted",
    "recovery",
    passing="the server has left recovery and takes writes",
    hint="read the restored server's log; it stopped before its target",
    example="server: in recovery, wanted promoted",
)
def promoted(context: Context) -> Iterator[Outcome]:
    """Check that ``pg_is_in_recovery()`` is false."""
    with context.system() as connection:
        row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    recovering = row is None or row[0]
    yield Outcome(
        "fail" if recovering else "pass",
        "server",
        "in recovery" if recovering else "promoted",
        "promoted",
    )


@check(
    "system-identifier",
    "recovery",
    passing="the restored cluster has production's system identifier",
    hint="another cluster writes into this repository: give each its own prefix",
    example="server: 7711528191132346515, wanted = 7711528190044182738",
)
def system_identifier(context: Context) -> Iterator[Outcome]:
    """Compare the system identifier with the baseline's, or with the configured one."""
    known = context.production or context.baseline
    expected = known.system_identifier if known else context.cluster.server.system_identifier
    with context.system() as connection:
        found = pg_control.system_identifier(connection)
    if expected is None:
        yield Outcome(
            "skip",
            "server",
            str(found),
            message="no baseline and no server.system_identifier to compare with",
        )
    else:
        yield Outcome(
            "pass" if found == expected else "fail", "server", str(found), f"= {expected}"
        )


@check(
    "target-reached",
    "recovery",
    required=False,
    passing="replay ended at the recovery target, not before",
    hint="WAL ends or breaks before the target: take a base backup now and find what lost the WAL",
    example="latest pgdrill-20261124T003005Z-3f9a2c: 0/9000148, wanted >= 0/DB0B098",
)
def target_reached(context: Context) -> Iterator[Outcome]:
    """Compare the replayed LSN with the target's.

    A time or a name is proved by PostgreSQL, which refuses to promote short of it.
    """
    report = context.report
    if report is None or report.restored is None or report.target is None:
        yield Outcome("skip", "server", message="not restored by pgdrill: the target is unknown")
        return
    reached, wanted = report.restored.reached_lsn, report.target.lsn
    if wanted is None:
        yield Outcome(
            "pass", str(report.target.value), reached, "promoted by PostgreSQL at the target"
        )
        return
    short = parse_lsn(reached) < parse_lsn(wanted)
    yield Outcome(
        "fail" if short else "pass",
        f"{report.target.kind} {report.target.value}",
        reached,
        f">= {wanted}",
    )
