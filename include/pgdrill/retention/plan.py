"""The planner: a pure function from an inventory to what goes, what stays, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from pgdrill.config import Retention
from pgdrill.repository.wal_ranges import Position, Run, below
from pgdrill.retention.inventory import Backup, Inventory, Mark
from pgdrill.retention.promises import Promise, View, chain_of, evaluate, view
from pgdrill.retention.reasons import (
    Decision,
    about_dumps,
    about_leftovers,
    about_timelines,
    reasons_to_stay,
    why_it_goes,
)

StepKind = Literal[
    "mark",
    "unmark",
    "delete-backup",
    "delete-wal",
    "delete-dump",
    "delete-leftover",
    "delete-timeline",
]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    ``name``: a full name; for WAL the first segment that stays; for a timeline its eight digits.
    """

    kind: StepKind
    name: str


@dataclass(frozen=True)
class Plan:
    """A plan: what goes and what stays, in the order in which it is done."""

    decisions: tuple[Decision, ...]
    steps: tuple[Step, ...]
    wal: tuple[Run, ...]  # segments that the tool frees
    lines: tuple[Run, ...]  # segments of timelines that go, beside those
    wal_words: str
    cut: Position | None  # what comes before it may go, but for ``kept_wal``
    kept_wal: tuple[Run, ...]
    before: tuple[Promise, ...]
    after: tuple[Promise, ...]
    anchor: str
    next_deletion_at: datetime | None
    doubts: Mapping[str, str]  # backups whose times are not believed, to be remembered

    @property
    def goes(self) -> tuple[Decision, ...]:
        """The decisions about what goes, WAL aside."""
        return tuple(decision for decision in self.decisions if not decision.stays)

    def going(self, kind: str) -> frozenset[str]:
        """Return the names of what goes of a kind."""
        return frozenset(decision.name for decision in self.goes if decision.kind == kind)

    def frees(self, position: Position) -> bool:
        """Return whether objects of a segment may go, be they whole or not."""
        timeline, number = position
        return (
            self.cut is not None
            and position < self.cut
            and not any(
                run.timeline == timeline and run.first <= number <= run.last
                for run in self.kept_wal
            )
        )

    @property
    def segments(self) -> int:
        """The number of segments that go."""
        return sum(run.count for run in (*self.wal, *self.lines))

    @property
    def freed_bytes(self) -> int:
        """The stored bytes that would be freed."""
        return sum(decision.stored_bytes for decision in self.goes) + sum(
            run.stored_bytes for run in self.wal
        )

    @property
    def digest(self) -> str:
        """A name for exactly this plan, so that what is done is what somebody approved."""
        words = [f"{step.kind} {step.name}" for step in self.steps] + [
            f"{run.timeline} {run.first} {run.last}" for run in (*self.wal, *self.lines)
        ]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def make_plan(
    inventory: Inventory, policy: Retention, now: datetime, named: Iterable[str] = ()
) -> Plan:
    """Make the plan.

    ``named``: leftovers, other systems' backups and timelines that a person wants gone by name.

    Linear in backups and WAL runs, but for sorting.
    """
    seen = view(inventory, policy, now)
    wanted = frozenset(named)
    reasons = reasons_to_stay(inventory, policy, seen, wanted)
    marked = _to_be_permanent(inventory, seen, reasons)
    backups = tuple(
        _backup(backup, seen, reasons, marked)
        for backup in sorted(inventory.backups, key=lambda b: b.start_time)
    )
    dumps = tuple(about_dumps(inventory, policy, seen))
    leftovers = tuple(about_leftovers(inventory, policy, now, wanted))
    unreadable = tuple(
        Decision(
            "unreadable",
            it.name,
            True,
            (f"cannot be read ({it.found}): what it promises is not known",),
            it.stored_bytes,
        )
        for it in inventory.unreadable
    )
    gone = frozenset(decision.name for decision in backups if not decision.stays)
    wal, cut, words = _wal(inventory, seen, gone, marked)
    left_wal = inventory.wal.without(wal)
    timelines = tuple(about_timelines(inventory, policy, seen, wanted, gone, left_wal))
    lines = tuple(run for it in timelines if not it.stays for run in left_wal.on(int(it.name, 16)))
    decisions = (*backups, *unreadable, *dumps, *leftovers, *timelines)
    steps = tuple(_steps(inventory, decisions, marked, cut if wal else None))
    left = remaining(replace(inventory, doubted=seen.doubts), steps, wal)
    return Plan(
        decisions,
        steps,
        wal,
        lines,
        words,
        cut if wal else None,
        _own(inventory, gone),
        evaluate(inventory, policy, now),
        evaluate(left, policy, now),
        seen.anchor.name if seen.anchor else "",
        _next_deletion(seen, policy),
        seen.doubts,
    )


def _to_be_permanent(
    inventory: Inventory, seen: View, why: Mapping[str, list[str]]
) -> frozenset[str]:
    """Return which of the backups that stay are to be marked.

    They are the whole ones before the anchor, so that exactly their own WAL stays.

    A chain that reaches into the window is left out: wal-g deletes no WAL if the oldest backup not
    marked is a delta.
    """
    anchor = seen.anchor
    if not inventory.rules.marks or anchor is None:
        return frozenset()
    known = {backup.name: backup for backup in inventory.backups}
    roots = {name: chain_of(name, known)[-1] for name in known}
    reaching = {
        roots[name] for name in why if name in known and known[name].start_time >= anchor.start_time
    }
    old = (
        backup.name
        for backup in seen.counted
        if backup.name in why and backup.start_time < anchor.start_time
    )
    return frozenset(
        link for name in old if roots[name] not in reaching for link in chain_of(name, known)
    )


def _backup(
    backup: Backup, seen: View, why: Mapping[str, list[str]], marked: frozenset[str]
) -> Decision:
    stays = backup.name in why
    reasons = tuple(why.get(backup.name, ())) or (why_it_goes(backup, seen),)
    permanent = stays and (backup.name in marked or backup.mark == "hand")
    return Decision(
        "backup", backup.name, stays, reasons, backup.stored_bytes, backup.start_time, permanent
    )


def _wal(
    inventory: Inventory, seen: View, gone: frozenset[str], marked: frozenset[str]
) -> tuple[tuple[Run, ...], Position | None, str]:
    """Return which segments go, the first that stays, and why.

    Both tools free what lies before the oldest backup that counts.
    """
    if inventory.unreadable:
        return (), None, "WAL stays: an unreadable backup may need it"
    wal = inventory.wal
    stay = [backup for backup in inventory.backups if backup.name not in gone]
    free = [
        b for b in stay if not (inventory.rules.marks and (b.name in marked or b.mark == "hand"))
    ]
    if seen.anchor is None or not free:
        return (), None, "WAL stays: no backup is older than the promised window"
    first = min(free, key=lambda backup: backup.position(wal))
    cut = first.position(wal)
    if first.parent and inventory.rules.marks:
        return (
            (),
            None,
            (
                f"WAL stays: what {first.name} builds on is marked permanent by hand, and the tool"
                " frees none before a delta; take the marks off, pgdrill keeps the backups without"
                " them"
            ),
        )
    if cut > seen.anchor.position(wal):
        return (
            (),
            None,
            (
                f"WAL stays: the anchor {seen.anchor.name} is marked permanent by hand, and the"
                " tool would keep its own WAL only; take the mark off, pgdrill keeps the backup"
                " without it"
            ),
        )
    oldest = min(inventory.backups, key=lambda backup: backup.start_time)
    if not inventory.rules.wal_alone and oldest.name not in gone:
        return (
            (),
            None,
            "WAL stays: the tool frees it together with the oldest backup only, and that one stays",
        )
    freed = below(wal, cut, _own(inventory, gone))
    return freed, cut, f"before {wal.name(cut)}, but for what permanent backups need themselves"


def _own(inventory: Inventory, gone: frozenset[str]) -> tuple[Run, ...]:
    """Return the segments without which the backups that stay cannot become consistent."""
    return tuple(
        backup.own_wal(inventory.wal) for backup in inventory.backups if backup.name not in gone
    )


def _steps(
    inventory: Inventory,
    decisions: tuple[Decision, ...],
    marked: frozenset[str],
    cut: Position | None,
) -> Iterable[Step]:
    """Yield the steps: protect first, then delete.

    The oldest chain goes first, and in it what builds on others; then WAL, then dumps, leftovers
    and timelines.
    """
    known = {backup.name: backup for backup in inventory.backups}
    kept = [known[d.name] for d in decisions if d.kind == "backup" and d.stays]
    yield from (Step("mark", b.name) for b in kept if b.name in marked and not b.mark)
    if inventory.rules.marks:
        # wal-g refuses to take the mark off a backup while a marked delta builds on it: the newest
        # first.
        yield from (
            Step("unmark", b.name)
            for b in reversed(kept)
            if b.mark == "pgdrill" and b.name not in marked
        )
    roots = {name: known[chain_of(name, known)[-1]].start_time for name in known}
    going = [known[d.name] for d in decisions if d.kind == "backup" and not d.stays]
    for backup in sorted(going, key=lambda b: (roots[b.name], -b.start_time.timestamp())):
        if backup.mark:
            yield Step("unmark", backup.name)
        yield Step("delete-backup", backup.name)
    if cut:
        yield Step("delete-wal", inventory.wal.name(cut))
    yield from (Step("delete-dump", d.name) for d in decisions if d.kind == "dump" and not d.stays)
    yield from (
        Step("delete-leftover", d.name) for d in decisions if d.kind == "leftover" and not d.stays
    )
    yield from (
        Step("delete-timeline", d.name) for d in decisions if d.kind == "timeline" and not d.stays
    )


def remaining(inventory: Inventory, steps: Iterable[Step], wal: tuple[Run, ...]) -> Inventory:
    """Return the inventory after some of a plan's steps."""
    done = {(step.kind, step.name) for step in steps}
    marks: dict[str, Mark] = {name: "pgdrill" for kind, name in done if kind == "mark"}
    marks |= {name: "" for kind, name in done if kind == "unmark"}
    backups = tuple(
        replace(backup, mark=marks.get(backup.name, backup.mark))
        for backup in inventory.backups
        if ("delete-backup", backup.name) not in done
    )
    lines = {int(name, 16) for kind, name in done if kind == "delete-timeline"}
    freed = [
        *(wal if any(kind == "delete-wal" for kind, _ in done) else ()),
        *(run for run in inventory.wal.runs if run.timeline in lines),
    ]
    return replace(
        inventory,
        backups=backups,
        dumps=tuple(dump for dump in inventory.dumps if ("delete-dump", dump.name) not in done),
        leftovers=tuple(
            left for left in inventory.leftovers if ("delete-leftover", left.name) not in done
        ),
        wal=inventory.wal.without(freed) if freed else inventory.wal,
    )


def _next_deletion(seen: View, policy: Retention) -> datetime | None:
    """Return when the anchor will move: what lies before the next one can go then."""
    later = [
        b.finish_time
        for b in seen.counted
        if seen.anchor is None or b.start_time > seen.anchor.start_time
    ]
    return min(later) + timedelta(days=policy.window_days) if later else None
