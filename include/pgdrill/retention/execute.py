"""The carrying out of a plan, step by step, and the account of what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from pgdrill.access import Access
from pgdrill.baseline import backup_record
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.host.process import Runner
from pgdrill.repository import prune_runs
from pgdrill.repository.ledger import Ledger, read_ledger, write_ledger
from pgdrill.repository.prune_runs import RunRecord, StepState
from pgdrill.repository.tools.base import Entry
from pgdrill.repository.wal_ranges import subtract
from pgdrill.retention import journal
from pgdrill.retention.deleter import Deleter
from pgdrill.retention.inventory import Inventory
from pgdrill.retention.keeping import Keeping
from pgdrill.retention.plan import Plan, Step
from pgdrill.retention.promises import Promise

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
SHOWN = 3


def carry_out(
    access: Access,
    runner: Runner,
    inventory: Inventory,
    plan: Plan,
    run: RunRecord,
    keeping: Keeping,
    progress: Progress,
) -> None:
    """Carry out every step in its order.

    Before the first thing goes the tool is asked about all that will. Before each step what keeps
    the thing is read again.
    """
    home = access.cluster.state_directory / "home"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    entries = {entry.name: entry for entry in access.repository.catalog()}
    deleter = Deleter(
        access.repository,
        runner,
        plan,
        home,
        access.objects.sizes(),
        entries,
        inventory.wal.segment_bytes,
    )
    _still_so(access, inventory, entries)
    keeping.ledger = _remember(access, inventory, plan)
    going = plan.going("backup")
    # wal-g answers nothing about WAL while its oldest backup is a delta: then it is asked when
    # those are gone.
    deltas = any(backup.parent for backup in inventory.backups if backup.name in going)
    asked = False
    for at, (step, noted) in enumerate(zip(plan.steps, run.steps, strict=True)):
        progress(step.kind, at, len(plan.steps))
        if not asked and (step.kind.startswith("delete") or step.name in going):
            for ahead in plan.steps:
                if ahead.kind == "delete-backup" or (ahead.kind == "delete-wal" and not deltas):
                    deleter.check(ahead)
            asked = True
        logger.info("%s %s%s", step.kind, step.name, f": {noted.why}" if noted.why else "")
        noted.state, noted.detail = _step(access, deleter, inventory, keeping, step)
        prune_runs.write(access.reports, run)
    keeping.confirm_holds()
    progress("verify", len(plan.steps), len(plan.steps))


def _still_so(access: Access, inventory: Inventory, entries: Mapping[str, Entry]) -> None:
    """Raise if somebody marked, unmarked, deleted or added a backup since the plan was made."""
    planned = {backup.name: bool(backup.mark) for backup in inventory.backups}
    found = {entry.name: entry.permanent for entry in entries.values() if entry.backup}
    changed = sorted(
        name for name in planned.keys() | found.keys() if planned.get(name) != found.get(name)
    )
    if changed:
        raise CouldNotVerify(
            "plan-changed",
            f"repository {access.repository.url}",
            found=f"since it was planned {', '.join(changed[:SHOWN])} changed",
            expected="the backups and marks that were planned with",
            hint="run it again; see who else works on this repository",
        )


def _remember(access: Access, inventory: Inventory, plan: Plan) -> Ledger:
    """Write the ledger before a step is done.

    A mark made by a run that is then killed is still pgdrill's own.
    """
    names = {backup.name for backup in inventory.backups}
    ours = {backup.name for backup in inventory.backups if backup.mark == "pgdrill"}
    ours |= {step.name for step in plan.steps if step.kind == "mark"}
    doubts = {name: why for name, why in plan.doubts.items() if name in names}
    ledger = Ledger(
        marked=sorted(ours), doubted=doubts, forgotten=read_ledger(access.reports).forgotten
    )
    write_ledger(access.reports, ledger)
    return ledger


def _step(
    access: Access, deleter: Deleter, inventory: Inventory, keeping: Keeping, step: Step
) -> tuple[StepState, str]:
    if step.kind == "delete-backup" and not deleter.there(step.name):
        return "was done", "gone already"
    if step.kind in ("delete-backup", "delete-wal"):
        deleter.check(step)
    if reason := keeping.why(step):  # last of all: what comes now sees in the lease what is going
        logger.warning("%s %s is not done: %s", step.kind, step.name, reason)
        return "kept", reason
    if step.kind in ("delete-backup", "delete-wal"):
        return _by_tool(access, deleter, step)
    if step.kind in ("mark", "unmark"):
        deleter.mark(step.name, permanent=step.kind == "mark")
    else:
        _delete_objects(access, deleter, inventory, step)
    return "done", ""


def _delete_objects(access: Access, deleter: Deleter, inventory: Inventory, step: Step) -> None:
    """Delete what the tool has no command for."""
    match step.kind:
        case "delete-dump":
            for dump in inventory.dumps:
                if dump.name == step.name:
                    # the manifest first: half a dump must not look whole
                    access.dumps.delete(*dump.keys)
        case "delete-leftover":
            access.objects.delete(*deleter.entries[step.name].keys)
        case "delete-timeline":
            # Its history file stays: else a later promotion would take the same number again.
            access.objects.delete(
                *(key for key in deleter.keys if access.tool.wal_key(key).startswith(step.name))
            )


def _by_tool(access: Access, deleter: Deleter, step: Step) -> tuple[StepState, str]:
    if said := deleter.delete(step):
        logger.warning("%s stays, for the store keeps it: %s", step.name, said)
        return "locked", said
    if step.kind == "delete-backup" and deleter.there(step.name):
        return (
            "left",
            "the tool reported success, and objects are still there: a lock of the store, perhaps",
        )
    if step.kind == "delete-backup":
        access.reports.delete(backup_record.key(step.name))
    return "done", ""


def account(
    access: Access,
    before: Inventory,
    plan: Plan,
    run: RunRecord,
    after: Inventory,
    promises: tuple[Promise, ...],
) -> None:
    """Look again, and note what was to go and did not.

    Raises unless everything that was to stay is there and as good as before.
    """
    _nothing_lost(
        access,
        before,
        plan,
        after,
        frozenset(noted.name for noted in run.steps if noted.state == "kept"),
    )
    there = (
        {backup.name for backup in after.backups}
        | {left.name for left in after.leftovers}
        | {dump.name for dump in after.dumps}
    )
    there |= {f"{run.timeline:08X}" for run in after.wal.runs}
    for noted in run.steps:
        if noted.kind.startswith("delete") and noted.name in there and noted.state == "done":
            noted.state = "left"
    gone = {
        noted.name
        for noted in run.steps
        if noted.kind.startswith("delete") and noted.state in ("done", "was done")
    }
    wal = list(subtract(plan.wal, after.wal.runs))
    run.wal_segments = sum(piece.count for piece in (*wal, *subtract(plan.lines, after.wal.runs)))
    run.freed_bytes = sum(d.stored_bytes for d in plan.goes if d.name in gone) + sum(
        piece.stored_bytes for piece in wal
    )
    run.promises = journal.promise_records(plan.before, promises)


def _nothing_lost(
    access: Access, before: Inventory, plan: Plan, after: Inventory, stayed: frozenset[str]
) -> None:
    found = {backup.name: backup.damage for backup in after.backups}
    going = plan.going("backup") - stayed
    harmed = [
        backup.name
        for backup in before.backups
        if backup.name not in going and not backup.damage and found.get(backup.name, "gone")
    ]
    lost = list(subtract(before.wal.without((*plan.wal, *plan.lines)).runs, after.wal.runs))
    if harmed or lost:
        names = [*harmed, *(after.wal.name((piece.timeline, piece.first)) for piece in lost)][
            :SHOWN
        ]
        raise BackupFault(
            "retention-lost",
            f"repository {access.repository.url}",
            found=(
                f"{len(harmed)} backups and {sum(piece.count for piece in lost)} segments that were"
                f" to stay are damaged or gone: {', '.join(names)}"
            ),
            expected="everything that the plan keeps",
            hint=(
                "stop whatever else deletes there (lifecycle rules?), take a base backup now, and"
                " read this run's journal"
            ),
        )
