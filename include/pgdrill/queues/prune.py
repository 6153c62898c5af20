"""What is kept of a queue's snapshots: the newest good one of each hour, then of each day.

By the same rules as dumps (:mod:`pgdrill.retention.reasons`): the newest of each period that has a
good one is kept, and nothing goes before a good one is newer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pgdrill.errors import as_could_not_verify
from pgdrill.host.lock import WAIT_SECONDS, ClusterLock, lease_for, this_process
from pgdrill.queue_settings import Queue
from pgdrill.queues import record
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.listing import Listed, listed
from pgdrill.repository.leases import HeldLease, board_of, exclusive
from pgdrill.retention.inventory import Dump
from pgdrill.retention.promises import PERIODS, newest_of_each
from pgdrill.retention.reasons import Decision
from pgdrill.retention.refusals import clock_refusal

logger = logging.getLogger(__name__)

KIND = "snapshot"
LEFT_AFTER = timedelta(days=2)  # objects without a record: no snapshot takes so long
CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted, or would be.

    ``held``: a verification or a restore on some host reads it. ``leftovers`` are ids of snapshots
    that broke off.
    """

    queue: str
    applied: bool
    kept: int
    deleted: list[str]
    held: list[str]
    leftovers: list[str]
    freed_bytes: int


def hour(at: datetime) -> str:
    """Return the hour of an instant, as :data:`pgdrill.retention.promises.PERIODS` have days."""
    return f"{at:%Y-%m-%d %H}"


def decide(dumps: list[Dump], queue: Queue, now: datetime) -> list[Decision]:
    """Return what stays and what goes, oldest first, and why."""
    good = [one for one in dumps if not one.damage and one.finished_at <= now + CLOCK_TOLERANCE]
    why: dict[str, list[str]] = {one.name: [] for one in dumps}
    for name, period, wanted in (
        ("hourly", hour, queue.hourly),
        ("daily", PERIODS["daily"], queue.daily),
    ):
        for key, one in newest_of_each(good, period, wanted).items():
            why[one.name].append(f"{name}: newest of {key}, among the newest {wanted}")
    newest = max((one.finished_at for one in good), default=None)
    for one in dumps:
        if newest is None or one.finished_at >= newest:
            why[one.name].append("no good snapshot is newer")
    return [
        Decision(
            KIND,
            one.name,
            bool(why[one.name]),
            tuple(why[one.name]) or (f"damaged ({one.damage})" if one.damage else "no promise",),
            one.stored_bytes,
            one.finished_at,
        )
        for one in sorted(dumps, key=lambda it: it.finished_at)
    ]


def as_dump(one: Listed) -> Dump:
    """Return a snapshot as the planner sees it. One without a readable record stays."""
    at = one.record.instant if one.record else datetime.now(UTC)
    return Dump(one.snapshot_id, at, one.stored_bytes, one.damage, one.keys)


def plan(access: QueueAccess, now: datetime | None = None) -> list[Decision]:
    """Decide, and delete nothing."""
    found = [as_dump(one) for one in listed(access)]
    return decide(found, access.queue, now or datetime.now(UTC))


def prune(access: QueueAccess, *, apply: bool, now: datetime | None = None) -> Pruned:
    """Delete what no promise needs, or say what would be."""
    if not apply:
        return _of(access, plan(access, now), None, now)
    lock = ClusterLock(access.state_directory / "prune.lock")
    lease = lease_for("prune", access.state_directory, 3600, this_process())
    with (
        lock.hold(lease),
        exclusive(
            board_of(access),
            "prune",
            "queue-prune",
            life_seconds=access.cluster.repository.lease_seconds,
            wait_seconds=WAIT_SECONDS,
            over=frozenset({"prune"}),
        ) as held,
    ):
        try:
            _check_clock(held)
            return _of(access, plan(access, now), held, now)
        finally:
            lock.release("prune")


def _check_clock(held: HeldLease) -> None:
    problem = clock_refusal(datetime.now(UTC), held.board.now)
    if problem:
        raise as_could_not_verify(problem)


def _of(
    access: QueueAccess, decisions: list[Decision], held: HeldLease | None, now: datetime | None
) -> Pruned:
    deleted, kept_for, freed = [], [], 0
    keys = {one.snapshot_id: one.keys for one in listed(access)}
    for one in decisions:
        if one.stays:
            continue
        if held and (who := _needed(held, one.name)):
            kept_for.append(f"{one.name}: {who}")
            continue
        if held:
            logger.info("deleting snapshot %s: %s", one.name, "; ".join(one.why))
            _delete(access, one.name, keys[one.name])
        deleted.append(one.name)
        freed += one.stored_bytes
    leftovers = list(_left(access, now or datetime.now(UTC)))
    for name in leftovers if held else ():
        access.snapshots.delete(*access.snapshots.sizes(f"{name}/"))
    return Pruned(
        queue=access.name,
        applied=held is not None,
        kept=len(decisions) - len(deleted),
        deleted=deleted,
        held=kept_for,
        leftovers=leftovers,
        freed_bytes=freed,
    )


def _needed(held: HeldLease, name: str) -> str:
    """Say that it is going, then read who needs it; whoever comes later reads this first."""
    others = held.confirm(deleting=(name,))
    return next((str(one) for one in others if one.keeps(name)), "")


def _delete(access: QueueAccess, name: str, keys: tuple[str, ...]) -> None:
    """Delete a snapshot, its record first: without it nobody sees the rest."""
    for key in keys[:1]:
        access.snapshots.delete(key)
    access.snapshots.delete(*keys[1:])
    record.local_file(access, name).unlink(missing_ok=True)


def _left(access: QueueAccess, now: datetime) -> Iterator[str]:
    """Yield what broke off: objects without a record, so old that nobody is at work on them."""
    names = {name.partition("/")[0] for name in access.snapshots.sizes()}
    for name in sorted(names - set(record.list_snapshots(access))):
        if record.SNAPSHOT_ID.fullmatch(name) and _begun(name) < now - LEFT_AFTER:
            yield name


def _begun(name: str) -> datetime:
    return datetime.strptime(name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
