"""Heartbeats: does the newest row that something writes all the time fit the restored instant?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg

from pgdrill.baseline.heartbeat import HeartbeatColumn
from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.checks.recovery.instant import shown
from pgdrill.postgres.clock import LARGE_SECONDS, UNKNOWN
from pgdrill.reports.model import Heartbeats


@check(
    "heartbeat",
    "recovery",
    required=False,
    passing=(
        "the newest heartbeat is of the restored instant: not after it, and no older than the RPO,"
        " or three heartbeats, allow; for `latest`, not older than the one production showed before"
        " the restore point"
    ),
    hint=(
        "the restored state is older than it claims: another backup, or WAL that ends early, was"
        " served as this one; compare with an earlier drill's report, take a base backup now"
    ),
    example=(
        "agents: public.pgdrill_heartbeat.at: 2026-11-13T11:00:02Z, wanted >= 2026-11-20T10:59:51Z"
    ),
)
def heartbeat(context: Context) -> Iterator[Outcome]:
    """Compare the newest heartbeat with the restored instant.

    Stale data cannot hold a newer heartbeat than it is old.
    """
    column, report = HeartbeatColumn.of(context.cluster), context.report
    if column is None:
        yield not_asked(
            "heartbeat", "drill.heartbeat names no column that something writes all the time"
        )
        return
    if report is None or report.target is None or report.target.kind in ("lsn", "name"):
        yield not_asked(
            str(column), "the target is no instant that a heartbeat could be compared with"
        )
        return
    try:
        with context.connect(column.database) as connection:
            newest = column.newest(connection)
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.InvalidSchemaName,
    ):
        newest = None
    seen = report.heartbeats or Heartbeats()
    if seen.not_asked:
        yield not_asked(str(column), seen.not_asked)
        return
    if seen.trouble:
        yield Outcome(
            "warn",
            str(column),
            "not read on production",
            "readable",
            seen.trouble,
            "correct drill.heartbeat in dr.toml (schema.table.column), and let the role read it;"
            " `pgdrill heartbeat` writes it",
        )
        return
    instant = report.target.instant
    answer = (
        _at_instant(context, newest, instant, seen)
        if instant
        else _at_latest(context, newest, seen)
    )
    yield Outcome(answer.status, str(column), answer.value, answer.threshold, answer.message)


def _shown(at: datetime | None) -> str:
    return shown(at) if at else "none"


def _allowed(context: Context) -> timedelta:
    return timedelta(
        seconds=max(context.cluster.drill.rpo_seconds, 3 * context.cluster.drill.heartbeat_seconds)
    )


def _at_instant(
    context: Context, newest: datetime | None, instant: datetime, seen: Heartbeats
) -> Outcome:
    wanted = f"{shown(instant - _allowed(context))} to {shown(instant)}"
    if newest is None:
        # The heartbeat may have been set up after the instant. If not, production says that there
        # was one.
        unexplained = seen.at_target is not None
        return Outcome(
            "fail" if unexplained else "warn",
            "",
            "none",
            wanted,
            "production has some of that time" if unexplained else "nobody wrote any yet",
        )
    if newest > instant + timedelta(seconds=LARGE_SECONDS):
        return Outcome("fail", "", shown(newest), wanted, "after the instant")
    if newest >= instant - _allowed(context):
        return Outcome("pass", "", shown(newest), wanted)
    if seen.at_target and seen.at_target <= newest:
        return Outcome(
            "warn", "", shown(newest), wanted, "production has no newer one of that time either"
        )
    return Outcome("fail", "", shown(newest), wanted, "too old for that instant")


def _at_latest(context: Context, newest: datetime | None, seen: Heartbeats) -> Outcome:
    if context.production is None:
        return Outcome("skip", "", _shown(newest), "", "production was not there to compare with")
    if seen.newest_at is None:
        return Outcome(
            "warn",
            "",
            _shown(newest),
            "",
            "nobody writes heartbeats: `pgdrill heartbeat --every 10`",
        )
    wanted = f">= {shown(seen.newest_at)}"
    if newest is None or newest < seen.newest_at:
        return Outcome(
            "fail",
            "",
            _shown(newest),
            wanted,
            "older than production showed before the restore point",
        )
    at = context.production.restore_point_at or context.production.taken_at
    age = (context.production.clock or UNKNOWN).on_server(at) - newest
    if age > _allowed(context):
        return Outcome(
            "warn",
            "",
            shown(newest),
            wanted,
            f"the last of them {age.total_seconds():.0f} s before the restore point",
        )
    return Outcome("pass", "", shown(newest), wanted)
