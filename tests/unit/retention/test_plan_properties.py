"""Whatever happened to a cluster: no plan breaks a promise, at no point of being carried out;
nothing stays in vain.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pgdrill.config import Retention
from pgdrill.retention.inventory import Inventory
from pgdrill.retention.plan import Plan, make_plan, remaining
from pgdrill.retention.promises import chain_of, evaluate
from tests.unit.retention.histories import World, invented

POLICIES = st.builds(
    Retention,
    window_days=st.sampled_from([5.0, 12.0, 20.0]),
    weekly=st.integers(1, 5),
    daily=st.integers(0, 3),
    monthly=st.integers(0, 2),
    yearly=st.integers(0, 1),
    dumps_monthly=st.integers(0, 3),
    require_drill=st.booleans(),
)
HISTORIES = st.builds(
    lambda seed, days, adverse: invented(Random(seed), days, adverse=adverse),
    st.integers(0, 2**32),
    st.integers(10, 60),
    st.booleans(),
)


def promised_instants(world: World, policy: Retention) -> set:
    return world.instants(world.now - timedelta(days=policy.window_days))


def worse(inventory: Inventory, left: Inventory, policy: Retention, world: World) -> list[str]:
    before = {promise.name: promise for promise in evaluate(inventory, policy, world.now)}
    after = {promise.name: promise for promise in evaluate(left, policy, world.now)}
    return [name for name, promise in before.items() if promise.worsened_by(after[name])]


@settings(max_examples=120, deadline=None)
@given(HISTORIES, POLICIES)
def test_at_every_point_of_a_plan_every_promised_instant_and_backup_is_restored(
    world: World, policy: Retention
) -> None:
    inventory = world.inventory()
    plan = make_plan(inventory, policy, world.now, world.timelines())
    instants = promised_instants(world, policy)
    stays = {
        d.name
        for d in plan.decisions
        if d.kind == "backup" and d.stays and world.restorable(d.name)
    }
    doing = copy.deepcopy(world)
    for count, step in enumerate(plan.steps, 1):
        doing.do(step, plan)
        assert instants <= promised_instants(doing, policy), step
        assert all(doing.restorable(name) for name in stays), step
        assert not worse(
            inventory, replace(doing.inventory(), doubted=plan.doubts), policy, world
        ), step
        left = remaining(inventory, plan.steps[:count], plan.wal)
        assert {b.name: b.mark for b in left.backups} == {
            b.name: b.mark for b in doing.backups.values()
        }
    assert {
        (run.timeline, n)
        for run in doing.inventory().wal.runs
        for n in range(run.first, run.last + 1)
    } == doing.archive
    freed = {
        (run.timeline, n)
        for run in (*plan.wal, *plan.lines)
        for n in range(run.first, run.last + 1)
    }
    assert world.archive - doing.archive == freed, "the plan names exactly what the tool deletes"


@settings(max_examples=120, deadline=None)
@given(HISTORIES, POLICIES)
def test_planning_again_after_a_plan_changes_nothing(world: World, policy: Retention) -> None:
    inventory = world.inventory()
    plan = make_plan(inventory, policy, world.now, world.timelines())
    left = replace(remaining(inventory, plan.steps, plan.wal), doubted=plan.doubts)
    again = make_plan(left, policy, world.now, world.timelines())
    assert again.steps == ()
    assert not again.segments
    assert {d.name for d in again.decisions} == {d.name for d in plan.decisions if d.stays}
    assert make_plan(inventory, policy, world.now, world.timelines()).digest == plan.digest


def in_vain(inventory: Inventory, plan: Plan, policy: Retention, world: World) -> list[str]:
    """Backups before the anchor that stay although everything promised would be there without
    them."""
    anchor = next(b for b in inventory.backups if b.name == plan.anchor)
    builds_on = {
        backup.parent for backup in inventory.backups if backup.name not in plan.going("backup")
    }
    excused = (
        "hold",
        "by hand",
        "moves nothing",
        "another cluster",
        "unreadable",
        "inside the window",
        "chain",
    )
    found = []
    for backup in inventory.backups:
        why = next(d.why for d in plan.decisions if d.kind == "backup" and d.name == backup.name)
        if (
            backup.name in plan.going("backup")
            or backup.start_time >= anchor.start_time
            or backup.name in builds_on
        ):
            continue
        if any(word in reason for reason in why for word in excused):
            continue
        left = remaining(inventory, plan.steps, plan.wal)
        without = replace(left, backups=tuple(b for b in left.backups if b.name != backup.name))
        counted = {p.name: p.found for p in evaluate(left, policy, world.now)}
        # What else is left of its week may be there for another promise's or a delta's sake: each
        # takes the newest.
        shared = bool(
            policy.daily
            or policy.monthly
            or policy.yearly
            or inventory.holds
            or any(other.parent for other in left.backups)
        )
        for_slot = shared and any(": newest of" in reason for reason in why)
        drilled = any("drilled" in reason for reason in why)
        if (
            {p.name: p.found for p in evaluate(without, policy, world.now)} == counted
            and not for_slot
            and not drilled
        ):
            found.append(backup.name)
    return found


@settings(max_examples=100, deadline=None)
@given(HISTORIES, POLICIES)
def test_nothing_before_the_anchor_stays_without_a_promise_that_needs_it(
    world: World, policy: Retention
) -> None:
    inventory = world.inventory()
    plan = make_plan(inventory, policy, world.now)
    assert all(decision.why for decision in plan.decisions)
    if plan.anchor:
        assert in_vain(inventory, plan, policy, world) == []
    cut = next((step.name for step in plan.steps if step.kind == "delete-wal"), None)
    if cut:  # all before it goes but what some backup that stays cannot start without
        left = remaining(inventory, plan.steps, plan.wal)
        own = {
            (r.timeline, n)
            for b in left.backups
            for r in [b.own_wal(inventory.wal)]
            for n in range(r.first, r.last + 1)
        }
        segments = (
            (run.timeline, n) for run in left.wal.runs for n in range(run.first, run.last + 1)
        )
        assert {p for p in segments if inventory.wal.name(p) < cut} <= own
        known = {b.name: b for b in inventory.backups}
        half = any(
            b.mark == "hand" and not known[link].mark
            for b in left.backups
            for link in chain_of(b.name, known)
        )
        # The tool marks whole chains, and a damaged one that is held keeps all its WAL: who knows
        # what can still be saved.
        plain = (
            not plan.doubts
            and len({b.system for b in inventory.backups}) == 1
            and not half
            and not any(b.damage for b in left.backups)
        )
        if plain:  # and it goes up to what the window needs
            known = {b.name: b for b in left.backups}
            needed = [
                link
                for b in left.backups
                if b.start_time >= known[plan.anchor].start_time
                for link in chain_of(b.name, known)
            ]
            assert cut == min(
                inventory.wal.name(known[name].position(inventory.wal)) for name in needed
            )
