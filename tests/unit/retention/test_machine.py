"""A cluster that lives on and is pruned again and again, by pruners that are killed half-way.

``python -m tests.unit.retention.test_machine 1000000`` is the long form: so many operations, in
lives of a few hundred.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import timedelta
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pgdrill.config import Retention
from pgdrill.retention.inventory import Dump, Hold
from pgdrill.retention.plan import make_plan
from pgdrill.retention.promises import evaluate
from tests.unit.retention.histories import World, mishap

DAY = timedelta(days=1)


class Life:
    """A world, what is promised about it, and what must be true of it whatever was done so far."""

    def __init__(self, policy: Retention, seed: int) -> None:
        self.policy, self.world = policy, World(Random(seed))
        self.weeks: set[tuple[int, int]] = set()
        self.doubted: dict[str, str] = {}
        self.unharmed = True  # nothing but pruning has taken anything away yet
        self.world.write(2, DAY)
        self.back_up(delta=False)
        self.first = self.world.now

    def write(self, segments: int) -> None:
        self.world.write(segments, DAY * 0.7)

    def back_up(self, delta: bool) -> None:
        self.weeks.add(self.world.now.isocalendar()[:2])
        self.last = self.world.back_up(delta)

    def drill(self) -> None:
        if self.last in self.world.backups:
            self.world.drill(self.last)

    def dump(self, good: bool) -> None:
        name = f"dump-{self.world.now:%Y%m%d%H%M}"
        self.world.dumps[name] = Dump(
            name, self.world.now, 500, "" if good else "unreadable archive"
        )

    def hold(self, days: int) -> None:
        self.world.holds.append(Hold(self.last, "a lawsuit", self.world.now + DAY * days))

    def fail_over(self) -> None:
        self.world.fail_over()

    def go_back(self, ticks: int) -> None:
        """Production is restored to a little ago: what was backed up meanwhile leads nowhere any
        more.
        """
        if len(self.world.ticks) > ticks + 2:
            self.world.restore_to(len(self.world.ticks) - ticks)

    def suffer(self) -> None:
        mishap(self.world)
        self.unharmed = False

    def prune(self, steps: int) -> None:
        """Plan, and carry out so many steps; at each of them everything promised can be
        restored."""
        world, policy = self.world, self.policy
        inventory = replace(world.inventory(), doubted=self.doubted)
        plan = make_plan(inventory, policy, world.now, world.timelines())
        since = world.now - timedelta(days=policy.window_days)
        instants = world.instants(since)
        stays = [
            d.name
            for d in plan.decisions
            if d.kind == "backup" and d.stays and world.restorable(d.name)
        ]
        before = {promise.name: promise for promise in plan.before}
        self.doubted = dict(plan.doubts)
        for step in plan.steps[:steps]:
            world.do(step, plan)
            if step.kind in ("delete-backup", "delete-wal", "delete-timeline"):
                assert instants <= world.instants(since), step
                assert all(world.restorable(name) for name in stays), step
        left = replace(world.inventory(), doubted=self.doubted)
        assert not [
            p.name for p in evaluate(left, policy, world.now) if before[p.name].worsened_by(p)
        ]

    def check(self) -> None:
        """Where nothing else took anything away, everything that ever could be promised is
        there."""
        if not self.unharmed:
            return
        found = {
            p.name: p.found for p in evaluate(self.world.inventory(), self.policy, self.world.now)
        }
        assert found["weekly"] == min(self.policy.weekly, len(self.weeks))
        assert found["window"] >= min(
            self.policy.window_days, (self.world.now - self.first).total_seconds() / 86400 - 0.01
        )


class Machine(RuleBasedStateMachine):
    """Hypothesis chooses what happens."""

    @initialize(
        weekly=st.integers(1, 4),
        window=st.sampled_from([4.0, 9.0, 15.0]),
        seed=st.integers(0, 2**20),
    )
    def begin(self, weekly: int, window: float, seed: int) -> None:
        self.life = Life(Retention(window_days=window, weekly=weekly, dumps_monthly=2), seed)

    @rule(segments=st.integers(1, 4))
    def write(self, segments: int) -> None:
        self.life.write(segments)

    @rule(delta=st.booleans())
    def back_up(self, delta: bool) -> None:
        self.life.back_up(delta)

    @rule()
    def drill(self) -> None:
        self.life.drill()

    @rule(good=st.booleans())
    def dump(self, good: bool) -> None:
        self.life.dump(good)

    @rule(days=st.integers(1, 30))
    def hold(self, days: int) -> None:
        self.life.hold(days)

    @rule()
    def fail_over(self) -> None:
        self.life.fail_over()

    @rule(ticks=st.integers(2, 5))
    def go_back(self, ticks: int) -> None:
        self.life.go_back(ticks)

    @rule()
    def suffer(self) -> None:
        self.life.suffer()

    @rule(steps=st.integers(0, 3) | st.just(1000))
    def prune(self, steps: int) -> None:
        self.life.prune(steps)

    @invariant()
    def everything_promised_is_there(self) -> None:
        self.life.check()


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
TestMachine = Machine.TestCase


def endure(operations: int, seed: int = 0, life_operations: int = 400) -> int:
    """So many operations chosen at random; gives how many backups went."""
    gone = 0
    for begun in range(0, operations, life_operations):
        random = Random(seed + begun)
        life = Life(
            Retention(window_days=random.choice([4.0, 9.0, 15.0]), weekly=random.randint(1, 4)),
            seed + begun,
        )
        for _ in range(min(life_operations, operations - begun)):
            had = len(life.world.backups)
            operate(life, random)
            gone += max(0, had - len(life.world.backups))
            life.check()
    return gone


def operate(life: Life, random: Random) -> None:
    """One operation."""
    luck = random.random()
    if luck < 0.45:
        life.write(random.randint(1, 3))
    elif luck < 0.65:
        life.back_up(random.random() < 0.3)
    elif luck < 0.8:
        life.prune(random.choice([0, 1, 2, 3, 1000]))
    elif luck < 0.88:
        life.drill()
    elif luck < 0.93:
        life.dump(random.random() < 0.8)
    elif luck < 0.95:
        life.hold(random.randint(1, 30))
    elif luck < 0.97:
        life.fail_over()
    elif luck < 0.985:
        life.go_back(random.randint(2, 5))
    elif luck < 0.988:
        life.suffer()


def test_a_thousand_operations_at_random_delete_much_and_nothing_promised() -> None:
    assert endure(1_600) > 100


if __name__ == "__main__":
    started = time.monotonic()
    wanted = int(sys.argv[1])
    print(
        f"{wanted} operations, {endure(wanted)} backups deleted, {time.monotonic() - started:.0f} s"
    )
