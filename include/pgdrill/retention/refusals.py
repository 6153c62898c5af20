"""The refusals of retention. Every refusal says what was found and how to mend it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from pgdrill.config import Retention
from pgdrill.errors import Problem
from pgdrill.repository.lineage import gaps
from pgdrill.retention.allowed import MAY_BE_ALLOWED
from pgdrill.retention.inventory import Inventory
from pgdrill.retention.plan import Plan
from pgdrill.retention.promises import broken, view

CLOCK_TOLERANCE = timedelta(minutes=5)
SHOWN = 3


def refusals(
    inventory: Inventory,
    plan: Plan,
    policy: Retention,
    now: datetime,
    allowed: Collection[str] = (),
) -> list[Problem]:
    """Return why this plan must not be carried out.

    A plan by which nothing goes is refused where something known was not seen, and only then.
    """
    if not plan.goes and not plan.wal:
        return _not_allowed(inventory.unseen, allowed)
    found = [
        *inventory.unseen,
        *_first_run(inventory),
        *_incomplete(inventory),
        *_worse(plan),
        *_gap(inventory, policy, now),
        *_too_much(inventory, plan, policy),
        *_unproved(inventory, plan, policy),
    ]
    return _not_allowed(found, allowed)


def _not_allowed(found: Iterable[Problem], allowed: Collection[str]) -> list[Problem]:
    return [
        problem
        for problem in found
        if problem.reason not in allowed or problem.reason not in MAY_BE_ALLOWED
    ]


def _first_run(inventory: Inventory) -> Iterable[Problem]:
    if inventory.no_memory:
        yield Problem(
            "first-run",
            "retention's memory in the report store",
            "no hold, no mark and no run, of a repository with backups that pgdrill did not record",
            "what earlier runs remembered, or a person who says that this is the first",
            "if there were runs before, restore reports_url's objects from the bucket's versions,"
            " for holds are gone with them; for a first run allow `first-run` in a run by hand",
        )


def _incomplete(inventory: Inventory) -> Iterable[Problem]:
    for it in inventory.unreadable:
        yield Problem(
            "inventory-incomplete",
            f"base backup {it.name}",
            f"unreadable: {it.found}",
            "a description that can be read",
            "restore its sentinel from the bucket's versions, or remove that backup by hand once a"
            " newer one has passed a drill",
        )
    for problem in inventory.incomplete:
        yield Problem(
            "inventory-incomplete", problem.thing, problem.found, problem.expected, problem.hint
        )


def _worse(plan: Plan) -> Iterable[Problem]:
    after = {promise.name: promise for promise in plan.after}
    for promise in plan.before:
        now = after[promise.name]
        if promise.worsened_by(now):
            yield Problem(
                "promise-worse",
                f"promise {promise.name}",
                f"{now.found:g} {promise.unit} afterwards, {promise.found:g} before",
                f"{min(promise.found, promise.promised):g} {promise.unit}",
                "report this plan: it is the planner's mistake",
            )


def _gap(inventory: Inventory, policy: Retention, now: datetime) -> Iterable[Problem]:
    seen = view(inventory, policy, now)
    start = (
        seen.anchor.start_lsn
        if seen.anchor
        else min((b.start_lsn for b in seen.counted), default=0)
    )
    if not seen.paths:
        return
    missing = gaps(inventory.wal, seen.paths[0], start)
    if missing:
        line = seen.paths[0][-1].timeline
        names = ", ".join(inventory.wal.name((line, first)) for first, _ in missing[:SHOWN])
        yield Problem(
            "wal-gap",
            "WAL of the promised window",
            f"{sum(b - a + 1 for a, b in missing)} segments are missing, at {names}",
            f"every segment since {seen.anchor.name if seen.anchor else 'the oldest backup'}",
            "take a base backup now, find out what lost the segments; older backups are the only"
            " ones for what lies before the gap, so wait until the window has passed it, or allow"
            " `wal-gap` by hand",
        )


def _too_much(inventory: Inventory, plan: Plan, policy: Retention) -> Iterable[Problem]:
    going, all_backups = len(plan.going("backup")), len(inventory.backups)
    stored = sum(backup.stored_bytes for backup in inventory.backups) + inventory.wal.stored_bytes
    shares = {
        "base backups": going / all_backups if going > 1 else 0.0,
        "bytes": plan.freed_bytes / stored if stored else 0.0,
    }
    for what, share in shares.items():
        if share > policy.max_share and (going > 1 or what == "bytes"):
            yield Problem(
                "too-much",
                f"share of the {what}",
                f"{share:.0%} would go ({going} of {all_backups} base backups)",
                f"at most {policy.max_share:.0%} (retention.max_share)",
                "look at the plan; if it is meant (a first run, a shorter promise), allow"
                " `too-much` in a run by hand",
            )
            return


def _unproved(inventory: Inventory, plan: Plan, policy: Retention) -> Iterable[Problem]:
    if (
        policy.require_drill
        and plan.going("backup")
        and not any(p.name == "drilled" and p.kept for p in plan.before)
    ):
        yield Problem(
            "nothing-proved",
            "drills",
            "no base backup that is there has passed one",
            "at least one that has",
            "run a drill (`pgdrill drill`, or the restore_drill DAG) and see it pass; then prune",
        )


def broken_holds(inventory: Inventory) -> list[Problem]:
    """Return the promises to a person that were not kept.

    They are never let pass, and said even if nothing is to go.
    """
    return [
        Problem(
            "hold-broken",
            f"hold of {hold.name} ({hold.why})",
            "what it holds is gone",
            f"it to be there until {hold.until:%Y-%m-%d %H:%M} UTC",
            "find out what deleted it (retention/runs in the report store, the bucket's log),"
            " restore its objects from the bucket's versions, or, once whoever wanted it knows,"
            " take the hold off: `pgdrill hold remove`",
        )
        for hold in broken(inventory)
    ]


def clock_refusal(host: datetime, store: datetime) -> Problem | None:
    """Return the refusal of a host whose clock does not agree with the store's, or None.

    This host's clock decides what is old.
    """
    if abs(host - store) <= CLOCK_TOLERANCE:
        return None
    return Problem(
        "clock",
        "this host's clock",
        f"{host.isoformat(timespec='seconds')}, {abs(host - store)} off",
        f"{store.isoformat(timespec='seconds')}, the store's",
        "set the clock (NTP) of the host that prunes",
    )
