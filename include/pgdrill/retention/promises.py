"""The promises, each by itself: what is promised, what is there, and how much is to spare.

Nothing here knows what the planner wants to delete; that is how its plans can be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from pgdrill.config import Retention
from pgdrill.postgres.wal import TimelineSwitch
from pgdrill.repository.lineage import current_paths, current_system, doubtful_clocks, gaps, on_path
from pgdrill.retention.inventory import Backup, Dump, Hold, Inventory
from pgdrill.text import count

Item = TypeVar("Item", Backup, Dump)
DAY_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise.

    ``found`` of ``promised`` (days or pieces, see ``unit``) is there; ``words`` say by what it is
    kept.
    """

    name: str
    promised: float
    found: float
    unit: str
    words: str

    @property
    def slack(self) -> float:
        """The surplus over what is promised; negative: that much is lacking."""
        return round(self.found - self.promised, 3)

    @property
    def kept(self) -> bool:
        """True if it holds."""
        return self.found >= self.promised

    def worsened_by(self, after: Promise) -> bool:
        """Return whether what is promised would be less true afterwards.

        Less of what is to spare is no loss.
        """
        return after.found < min(self.found, self.promised)


@dataclass(frozen=True)
class View:
    """An inventory as the promises see it.

    It tells which backups count, along which timelines, and why others do not.
    """

    now: datetime
    counted: tuple[Backup, ...]  # whole, of the current system, with believable times; oldest first
    doubts: Mapping[str, str]
    system: tuple[int, int] | None
    # the timelines that may lead to now, the likeliest first
    paths: tuple[tuple[TimelineSwitch, ...], ...]
    # the newest counted one that ended before the window begins and leads to now
    anchor: Backup | None
    window_start: datetime


def view(inventory: Inventory, policy: Retention, now: datetime) -> View:
    """Sort out what counts."""
    doubts = doubtful_clocks(inventory.backups, now, inventory.doubted)
    trusted = [backup for backup in inventory.backups if backup.name not in doubts]
    system = None if inventory.unclear else current_system(trusted, inventory.system_identifier)
    whole = whole_names(inventory.backups)
    own = sorted((b for b in trusted if b.system == system), key=lambda backup: backup.start_time)
    counted = tuple(backup for backup in own if backup.name in whole)
    start = now - timedelta(days=policy.window_days)
    old = [backup for backup in counted if backup.finish_time <= start]
    paths = tuple(
        current_paths(
            inventory.wal, counted, production=inventory.timeline, likely=inventory.likely_timeline
        )
    )
    anchors = [
        max(leading, key=lambda backup: backup.finish_time)
        for path in paths
        if (leading := [backup for backup in old if on_path(backup, path)])
    ]
    return View(
        now,
        counted,
        doubts,
        system,
        paths,
        min(anchors, key=lambda b: b.start_time, default=None),
        start,
    )


def whole_names(backups: Iterable[Backup]) -> set[str]:
    """Return the backups without damage whose whole chain is there and without damage."""
    known = {backup.name: backup for backup in backups}
    state: dict[str, bool] = {}
    for name in known:
        chain: list[str] = []
        step: str = name
        while step and step not in state and step not in chain:
            chain.append(step)
            step = known[step].parent if step in known else ""
        good = state.get(step, step == "")  # a chain that comes back to itself is none
        for link in reversed(chain):
            good = good and link in known and not known[link].damage
            state[link] = good
    return {name for name, good in state.items() if good}


def chain_of(name: str, known: Mapping[str, Backup]) -> list[str]:
    """Return a backup and those it builds on, as far as they are there."""
    chain: list[str] = []
    while name in known and name not in chain:
        chain.append(name)
        name = known[name].parent
    return chain


def newest_of_each(
    items: Iterable[Item], period: Callable[[datetime], str], count: int
) -> dict[str, Item]:
    """Return the newest item of each of the newest ``count`` periods that have one."""
    found: dict[str, Item] = {}
    for item in sorted(items, key=time_of, reverse=True):
        key = period(time_of(item))
        if key not in found:
            if len(found) == count:
                break
            found[key] = item
    return found


def time_of(item: Backup | Dump) -> datetime:
    """Return the time by which a backup or dump is ordered.

    It is the tool's own word, never a name or an object's time.
    """
    return item.start_time if isinstance(item, Backup) else item.finished_at


PERIODS: dict[str, Callable[[datetime], str]] = {
    "daily": lambda time: f"{time:%Y-%m-%d}",
    "weekly": lambda time: "{}-W{:02}".format(*time.isocalendar()[:2]),
    "monthly": lambda time: f"{time:%Y-%m}",
    "yearly": lambda time: f"{time:%Y}",
}
UNITS = {"daily": "days", "weekly": "weeks", "monthly": "months", "yearly": "years"}


def good_dumps(inventory: Inventory, now: datetime) -> list[Dump]:
    """Return the dumps that count."""
    return [
        dump
        for dump in inventory.dumps
        if not dump.damage and dump.finished_at <= now + timedelta(minutes=5)
    ]


def last_drilled(inventory: Inventory, counted: Sequence[Backup]) -> Backup | None:
    """Return the newest backup that a drill has passed."""
    passed = [backup for backup in counted if backup.name in inventory.drilled]
    return max(passed, key=time_of, default=None)


def active(holds: Iterable[Hold], now: datetime) -> list[Hold]:
    """Return the holds that have not run out."""
    return [hold for hold in holds if hold.until > now]


def broken(inventory: Inventory) -> list[Hold]:
    """Return the holds of what is gone, and not by a run of retention after they had run out.

    They stay broken for ever, until a person takes them off.
    """
    return [
        hold
        for hold in inventory.holds
        if hold.name not in inventory.names
        and not (hold.name in inventory.let_go and inventory.let_go[hold.name] >= hold.until)
    ]


def evaluate(inventory: Inventory, policy: Retention, now: datetime) -> tuple[Promise, ...]:
    """Evaluate every promise, one by one."""
    seen = view(inventory, policy, now)
    promises = [_window(inventory, policy, seen)]
    for name, period in PERIODS.items():
        if promised := getattr(policy, name):
            found = newest_of_each(seen.counted, period, promised)
            promises.append(
                Promise(
                    name,
                    promised,
                    len(found),
                    UNITS[name],
                    f"{len(found)} of the newest {promised} {UNITS[name]} that have a base backup"
                    f" {'has' if len(found) == 1 else 'have'} one that is restorable",
                )
            )
    if policy.require_drill:
        drilled = last_drilled(inventory, seen.counted)
        words = (
            f"{drilled.name} passed its drill"
            if drilled
            else "no backup that is there has passed a drill"
        )
        promises.append(Promise("drilled", 1, 1 if drilled else 0, "backups", words))
    if policy.dumps_monthly:
        months = newest_of_each(
            good_dumps(inventory, now), PERIODS["monthly"], policy.dumps_monthly
        )
        verb = "has" if len(months) == 1 else "have"
        promises.append(
            Promise(
                "dumps",
                policy.dumps_monthly,
                len(months),
                "months",
                f"{count(len(months), 'month')} {verb} a good logical dump",
            )
        )
    held = {hold.name for hold in active(inventory.holds, now)}
    if held:
        there = held & (
            {backup.name for backup in inventory.backups} | {dump.name for dump in inventory.dumps}
        )
        promises.append(
            Promise(
                "holds",
                len(held),
                len(there),
                "backups",
                f"{len(there)} of {len(held)} held are there",
            )
        )
    return tuple(promises)


def _window(inventory: Inventory, policy: Retention, seen: View) -> Promise:
    """Return the days back from now in which every instant can be restored.

    They begin with the oldest backup with unbroken WAL behind it.
    """
    path = seen.paths[0] if seen.paths else ()
    on_way = [backup for backup in seen.counted if on_path(backup, path)]
    if not on_way:
        return Promise("window", policy.window_days, 0, "days", "no backup to begin with")
    missing = gaps(inventory.wal, path, min(b.start_lsn for b in on_way))
    last_gap = missing[-1][1] if missing else -1
    unbroken = [
        b
        for b in on_way
        if inventory.wal.segment_of(b.start_lsn) > last_gap and b.finish_time <= seen.now
    ]
    if not unbroken:
        return Promise(
            "window", policy.window_days, 0, "days", "the newest WAL is missing behind every backup"
        )
    first = min(unbroken, key=lambda backup: backup.finish_time)
    days = (seen.now - first.finish_time).total_seconds() / DAY_SECONDS
    words = f"every instant since {first.finish_time:%Y-%m-%d %H:%M} UTC, from {first.name}"
    if days < policy.window_days:
        words += (
            "; it grows by itself until"
            f" {first.finish_time + timedelta(days=policy.window_days):%Y-%m-%d}"
        )
    return Promise("window", policy.window_days, round(days, 3), "days", words)
