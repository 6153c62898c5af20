"""The plan of a restore: which snapshot, of what instant, and what becomes of the jobs in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pgdrill.errors import ConfigError, CouldNotVerify
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.layout import HISTORY, LIVE
from pgdrill.queues.listing import Listed, listed
from pgdrill.reports import store
from pgdrill.reports.model import Report


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would do.

    ``gap_seconds``: the snapshot is so much older than ``database_at``, the instant of the restored
    database. Jobs ``active`` then run twice, ``due`` ones fire at once, and what was added or
    finished in the gap is lost or runs again.
    """

    queue: str
    snapshot_id: str
    snapshot_at: datetime
    of_no_instant: bool
    database_at: datetime | None
    gap_seconds: float | None
    live: int
    history: int
    active: int
    due: int
    versions: tuple[str, ...]
    verdict: str


def choose(
    access: QueueAccess,
    *,
    snapshot: str = "LATEST",
    at: datetime | None = None,
    unproved: bool = False,
) -> Listed:
    """Return the snapshot to restore: by its id, or the newest that counts, at or before ``at``.

    Raises ConfigError where there is none, and CouldNotVerify for one that does not count, unless
    ``unproved`` ones may be taken.
    """
    found = [one for one in listed(access) if one.record]
    if snapshot != "LATEST":
        found = [one for one in found if one.snapshot_id == snapshot]
    elif not unproved:
        found = [one for one in found if one.counts]
    if at is not None:
        found = [one for one in found if one.record and one.record.instant <= at]
    if not found:
        when = f" of {at:%Y-%m-%d %H:%M:%S} UTC or before" if at else ""
        raise ConfigError(
            "no-snapshot",
            f"snapshot {snapshot} of queue {access.name}{when}",
            found="none" if unproved or snapshot != "LATEST" else "none that counts",
            expected="one that was loaded and found right",
            hint=f"see `pgdrill queue list {access.name}`; prove one with `pgdrill queue verify"
            f" {access.name}`, or take one that was not with --unproved",
        )
    chosen = max(found, key=lambda one: one.record.instant)  # type: ignore[union-attr] # asked above
    if not (chosen.counts or unproved):
        raise CouldNotVerify(
            "not-proved",
            f"snapshot {chosen.snapshot_id} of queue {access.name}",
            found=chosen.damage,
            expected="one that was loaded and found right",
            hint=f"`pgdrill queue verify {access.name} {chosen.snapshot_id}`, or --unproved",
        )
    return chosen


def instant_of(access: QueueAccess, drill_id: str) -> datetime:
    """Return the instant that a drill, or a real restore that was reported so, came back to.

    Raises CouldNotVerify for a report that does not tell one.
    """
    report = store.load_report(access.owner, drill_id)
    found = _instant(report)
    if found is None:
        raise CouldNotVerify(
            "no-instant",
            f"report {drill_id} of cluster {access.cluster.name}",
            found="no instant that the database was restored to",
            expected="the report of a restore that ended",
            hint="give the instant by --at instead",
        )
    return found


def _instant(report: Report) -> datetime | None:
    if report.target and (instant := report.target.instant):
        return instant
    proof = report.instant.last_at if report.instant else None
    return proof or (report.restored.last_transaction_time if report.restored else None)


def make(access: QueueAccess, chosen: Listed, database_at: datetime | None) -> RestorePlan:
    """Return the plan for a snapshot."""
    found, last = chosen.record, chosen.last
    assert found is not None  # noqa: S101 - choose() takes no other
    gap = (database_at - found.instant).total_seconds() if database_at else None
    loaded = last if last and last.queues else None
    return RestorePlan(
        queue=access.name,
        snapshot_id=chosen.snapshot_id,
        snapshot_at=found.instant,
        of_no_instant=found.at is None,
        database_at=database_at,
        gap_seconds=round(gap, 1) if gap is not None else None,
        live=loaded.live if loaded else found.counted(LIVE),
        history=loaded.history if loaded else found.counted(HISTORY),
        active=loaded.active if loaded else found.counted(("active",)),
        due=sum(one.due for one in loaded.queues) if loaded else 0,
        versions=tuple(found.versions),
        verdict=last.verdict if last else "never loaded",
    )
