"""The reasons why each thing stays, or goes: one rule after the other, in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgdrill.config import Retention
from pgdrill.repository.lineage import foreign_timelines
from pgdrill.repository.wal_ranges import Wal
from pgdrill.retention.inventory import Backup, Hold, Inventory
from pgdrill.retention.promises import (
    PERIODS,
    UNITS,
    View,
    active,
    chain_of,
    good_dumps,
    last_drilled,
    newest_of_each,
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about one thing, and why.

    ``kind``: backup, dump, leftover, timeline or unreadable.
    """

    kind: str
    name: str
    stays: bool
    why: tuple[str, ...]
    stored_bytes: int = 0
    at: datetime | None = None
    permanent: bool = False  # as the tool will have it marked afterwards


def reasons_to_stay(
    inventory: Inventory, policy: Retention, seen: View, wanted: frozenset[str]
) -> dict[str, list[str]]:
    """Return why each backup stays; those that are not in it go."""
    why: dict[str, list[str]] = defaultdict(list)
    known = {backup.name: backup for backup in inventory.backups}
    for backup in inventory.backups:
        if reason := _by_itself(backup, seen, wanted):
            why[backup.name].append(reason)
    for name, period in PERIODS.items():
        for key, backup in newest_of_each(seen.counted, period, getattr(policy, name)).items():
            why[backup.name].append(
                f"{name}: newest of {key}, among the newest {getattr(policy, name)} {UNITS[name]}"
            )
    drilled = last_drilled(inventory, seen.counted)
    if drilled:
        why[drilled.name].append(
            f"drilled: the newest that a drill has passed ({day(inventory.drilled[drilled.name])})"
        )
    for hold in active(inventory.holds, seen.now):
        if hold.name in known:
            why[hold.name].append(held(hold))
    _block(inventory, why)
    for name in [name for name in why if name in known]:
        for below_it in chain_of(name, known)[1:]:
            why[below_it].append(f"chain: {name} builds on it")
    return dict(why)


def _by_itself(backup: Backup, seen: View, wanted: frozenset[str]) -> str:
    """Return the reason that lies in the backup, whatever the others are, or an empty string."""
    if backup.mark == "hand":
        return "marked permanent by hand"
    if backup.name in seen.doubts:
        free = backup.name in wanted and _before_the_anchor(backup, seen)
        return (
            ""
            if free
            else f"{seen.doubts[backup.name]}: it moves nothing, and goes only when named"
        )
    if backup.system != seen.system:
        free = backup.name in wanted and backup.finish_time <= seen.window_start
        whose = f"system identifier {backup.system_identifier}, PostgreSQL {backup.major_version}"
        return "" if free else f"another cluster's ({whose}): not mixed, and goes only when named"
    return _in_the_window(backup, seen)


def _in_the_window(backup: Backup, seen: View) -> str:
    if seen.anchor and backup.name == seen.anchor.name:
        return (
            "anchor: the newest good one that ended before the window's start,"
            f" {day(seen.window_start)}"
        )
    if seen.anchor and backup.start_time <= seen.anchor.start_time:
        return ""
    if backup.damage:
        return f"inside the window, although damaged ({backup.damage})"
    return "window: restores instants of the promised days"


def _before_the_anchor(backup: Backup, seen: View) -> bool:
    """Return whether a backup lies before the anchor by its place in the WAL.

    It is for a backup whose times say nothing.
    """
    anchor = seen.anchor
    return bool(
        anchor
        and (backup.system, backup.timeline) == (anchor.system, anchor.timeline)
        and backup.start_lsn < anchor.start_lsn
    )


def _block(inventory: Inventory, why: dict[str, list[str]]) -> None:
    """Keep what may be older than an unreadable backup.

    The unreadable one might be what an older one was counted on to replace.
    """
    if not inventory.unreadable:
        return
    unknown = any(it.position is None for it in inventory.unreadable)
    last: dict[int, int] = {}
    for it in inventory.unreadable:
        if it.position:
            last[it.position[0]] = max(last.get(it.position[0], -1), it.position[1])
    for backup in inventory.backups:
        timeline, number = backup.position(inventory.wal)
        if unknown or set(last) - {timeline} or last.get(timeline, -1) > number:
            why[backup.name].append("older than an unreadable backup, or perhaps so")


def why_it_goes(backup: Backup, seen: View) -> str:
    """Return why nothing keeps a backup."""
    if backup.name in seen.doubts:
        return f"named; {seen.doubts[backup.name]}, and its WAL is older than the window's"
    if backup.system != seen.system:
        return f"named; another cluster's, ended before {day(seen.window_start)}"
    anchor = seen.anchor.name if seen.anchor else "none"
    if backup.damage:
        return f"damaged ({backup.damage}), and before the window's anchor {anchor}"
    return f"before the window's anchor {anchor}, and no promise counts on it"


def about_dumps(inventory: Inventory, policy: Retention, seen: View) -> Iterable[Decision]:
    """Yield the decisions about the dumps."""
    good = good_dumps(inventory, seen.now)
    months = {
        dump.name: key
        for key, dump in newest_of_each(good, PERIODS["monthly"], policy.dumps_monthly).items()
    }
    newest = max(good, key=lambda dump: dump.finished_at, default=None)
    holds = {hold.name: hold for hold in active(inventory.holds, seen.now)}
    for dump in sorted(inventory.dumps, key=lambda it: it.finished_at):
        why = []
        if dump.name in months:
            why.append(
                f"dumps: newest of {months[dump.name]}, among the newest {policy.dumps_monthly}"
                " months"
            )
        if newest is None or dump.finished_at >= newest.finished_at:
            why.append(
                "no good dump is newer"
                + (f", although damaged ({dump.damage})" if dump.damage else "")
            )
        if hold := holds.get(dump.name):
            why.append(held(hold))
        gone = (
            f"damaged ({dump.damage}), and a good one is newer"
            if dump.damage
            else "no promise counts on it"
        )
        yield Decision(
            "dump", dump.name, bool(why), tuple(why) or (gone,), dump.stored_bytes, dump.finished_at
        )


def about_leftovers(
    inventory: Inventory, policy: Retention, now: datetime, wanted: frozenset[str]
) -> Iterable[Decision]:
    """Yield the decisions about objects without a backup: named and old, or they stay."""
    holds = {hold.name: hold for hold in active(inventory.holds, now)}
    for left in inventory.leftovers:
        old = now - left.last_written >= timedelta(days=policy.leftover_days)
        stays = left.name in holds or not (old and left.name in wanted)
        words = (
            held(holds[left.name])
            if left.name in holds
            else (
                f"named, and nothing was written to it for {policy.leftover_days:g} days"
                if not stays
                else (
                    "of a killed upload; removed when named"
                    if old
                    else "written lately: an upload may be running"
                )
            )
        )
        yield Decision("leftover", left.name, stays, (words,), left.stored_bytes, left.last_written)


def about_timelines(
    inventory: Inventory,
    policy: Retention,
    seen: View,
    wanted: frozenset[str],
    gone: frozenset[str],
    wal: Wal,
) -> Iterable[Decision]:
    """Yield the decisions about timelines that do not lead to now.

    They go if they are named, abandoned, and no backup's that stays.

    A timeline is proved to be abandoned by a backup that was taken elsewhere long after its last
    segment: production may have been promoted to it, or a clone of higher number may hide it, as
    long as there was none. ``wal``: what is left when the rest of the plan is done.
    """
    newest = max((backup.start_time for backup in seen.counted), default=None)
    using = {
        backup.timeline: backup.name for backup in inventory.backups if backup.name not in gone
    }
    for timeline in foreign_timelines(wal, seen.paths):
        written = inventory.written.get(timeline)
        stored = sum(run.stored_bytes for run in wal.on(timeline))
        if inventory.unreadable:
            why = "an unreadable backup may need it"
        elif timeline in using:
            why = f"{using[timeline]} is of it, and stays"
        elif (
            written is None
            or newest is None
            or newest - written < timedelta(days=policy.leftover_days)
        ):
            why = (
                f"no backup was taken elsewhere {policy.leftover_days:g} days after it was last"
                " written to: production may be on it"
            )
        elif f"{timeline:08X}" not in wanted:
            why = "abandoned; removed when named"
        else:
            words = (
                f"named; backups were taken elsewhere {policy.leftover_days:g} days after it was"
                " last written to"
            )
            yield Decision("timeline", f"{timeline:08X}", False, (words,), stored, written)
            continue
        yield Decision("timeline", f"{timeline:08X}", True, (why,), stored, written)


def day(time: datetime) -> str:
    """Return a moment in words."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def held(hold: Hold) -> str:
    """Return a hold in words."""
    return f"hold until {day(hold.until)}: {hold.why}"
