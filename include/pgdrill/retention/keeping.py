"""The reasons that keep a thing, read again right before that very thing is deleted.

They are holds, leases of drills, marks, and a newer ledger.

First the lease says what is going, then the others are read. Who comes later writes first, too, and
reads the lease then: so one of the two sees the other, however long either of them was stopped in
between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pgdrill.access import Access
from pgdrill.errors import CouldNotVerify
from pgdrill.repository.leases.held import HeldLease
from pgdrill.repository.leases.model import Seen
from pgdrill.repository.ledger import LEDGER, Ledger, read_ledger
from pgdrill.retention import holds
from pgdrill.retention.inventory import Hold, Inventory
from pgdrill.retention.plan import Plan, Step
from pgdrill.retention.promises import active, chain_of
from pgdrill.retention.reasons import day


@dataclass
class Keeping:
    """Asked before each step of a run.

    ``ledger``: as this run wrote it; ``stayed``: what it has left alone so far.

    ``ignoring``: leases of jobs that cannot run, for this process holds their local locks.
    """

    access: Access
    lease: HeldLease
    inventory: Inventory
    plan: Plan
    now: datetime
    ignoring: frozenset[str] = frozenset()
    ledger: Ledger = field(default_factory=Ledger)
    stayed: set[str] = field(default_factory=set)

    def confirm_holds(self) -> None:
        """Say which holds this run has read: whoever added one since waits for it.

        Nothing is being deleted at this moment.
        """
        self._confirm(holds.read_holds(self.access), deleting=(), deleting_wal_before=None)

    def why(self, step: Step) -> str:
        """Return why a step must not be done after all, or an empty string if it may be."""
        if not step.kind.startswith("delete") and step.name not in self.plan.going("backup"):
            self.lease.confirm(self.ignoring)
            return ""
        before = self._wal_before(step)
        others = self.lease.confirm(
            self.ignoring, deleting=(step.name,), deleting_wal_before=before
        )
        reason = self._held(step) or self._leased(step, others, before) or self._marked(step)
        if reason:
            self.stayed.add(step.name)
            self.lease.write(deleting=(), deleting_wal_before=None)
        self._same_ledger()
        self.lease.still_held()
        return reason

    def _held(self, step: Step) -> str:
        found = holds.read_holds(self.access)
        self._confirm(found)
        for hold in active(found, self.now):
            if step.name in self._with_chain(hold.name):
                return f"held since it was planned: {hold.name} until {day(hold.until)}, {hold.why}"
        return ""

    def _leased(self, step: Step, others: list[Seen], before: int | None) -> str:
        for one in others:
            names = one.lease.names if one.lease else ()
            if one.keeps(step.name) or any(step.name in self._with_chain(name) for name in names):
                return f"needed by {one}"
            if before is not None and step.kind != "delete-backup" and one.keeps_wal_before(before):
                return f"WAL needed by {one}"
        return ""

    def _marked(self, step: Step) -> str:
        """Return why a mark, or a backup that builds on it and stays, keeps a backup; else empty.

        wal-g deletes a permanent backup without a word. Those marked by pgdrill were unmarked in
        the step before.
        """
        if step.kind == "delete-backup" and self.access.repository.permanent(step.name):
            return "marked permanent since it was planned"
        builds = next((name for name in self.stayed if step.name in self._with_chain(name)), "")
        return f"{builds} builds on it, and stays" if builds else ""

    def _with_chain(self, name: str) -> list[str]:
        return chain_of(name, {backup.name: backup for backup in self.inventory.backups}) or [name]

    def _wal_before(self, step: Step) -> int | None:
        """Return the position up to which WAL goes in a step, by number whatever the timeline."""
        plan, size = self.plan, self.inventory.wal.segment_bytes
        alone = self.access.tool.frees_wal_alone
        runs = (
            plan.lines
            if step.kind == "delete-timeline"
            else plan.wal
            if step.kind == "delete-wal" or not alone
            else ()
        )
        return (max(run.last for run in runs) + 1) * size if runs else None

    def _confirm(self, found: tuple[Hold, ...], **changes: object) -> None:
        ids = tuple(sorted(hold.id for hold in found))
        if changes or ids != self.lease.lease.confirmed:
            self.lease.write(confirmed=ids, **changes)

    def _same_ledger(self) -> None:
        if read_ledger(self.access.reports) != self.ledger:
            raise CouldNotVerify(
                "plan-changed",
                f"{self.access.reports.url}/{LEDGER}",
                found="written by another run since this one began",
                expected="one run of retention at a time",
                hint="run it again; see who else prunes this repository",
            )
