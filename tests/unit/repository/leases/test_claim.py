"""One at a time, whatever the order of steps of those who contend, however long one is stopped,
whoever is killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pgdrill.errors import CouldNotVerify
from pgdrill.repository.leases import Board
from pgdrill.repository.leases.claim import claim
from pgdrill.repository.leases.held import HeldLease
from pgdrill.repository.leases.model import new_lease
from tests.conftest import thorough
from tests.unit.repository.leases.interleaved import Killed, Reports, World

LIFE = 90.0
CONFIRMS = 3


@dataclass
class Watch:
    """Who was told that it is alone, and when the lease that says so was sent."""

    world: World
    inside: dict[str, HeldLease] = field(default_factory=dict)
    entered: list[str] = field(default_factory=list)

    def alone(self, name: str, held: HeldLease) -> None:
        """Of all the others that were told so, nobody's lease is within its life."""
        others = [one for one, other in self.inside.items() if one != name and not other.ran_out]
        assert not others, f"{name} and {others} are both told that they are alone"
        self.inside[name] = held

    def job(self, name: str, *, conditions: bool) -> object:
        def run(reports: Reports) -> None:
            reports.conditions = conditions
            board = Board(reports, name)  # type: ignore[arg-type]
            board.__dict__["conditional"] = conditions
            held = HeldLease(
                board, board.key("prune"), new_lease("prune", name, LIFE), exclusive=True
            )
            try:
                claim(
                    held,
                    dead=frozenset(),
                    wait_seconds=20,
                    pause=lambda _: reports.process.wait(),
                    clock=lambda: self.world.seconds,
                )
                self.entered.append(name)
                self.alone(name, held)
                for _ in range(CONFIRMS):
                    held.confirm()
                    self.alone(name, held)
            except CouldNotVerify as error:
                assert error.problem.reason in ("busy", "lease-lost")
            self.inside.pop(name, None)
            held.end()

        return run


@contextlib.contextmanager
def new_world() -> Iterator[World]:
    """A world whose clock is every process's."""
    made = World()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("board", "held"):
            patch.setattr(f"pgdrill.repository.leases.{module}.boot_seconds", lambda: made.seconds)
        yield made


def play(world: World, order: Random, *, conditions: bool, contenders: int) -> None:
    """Steps in a drawn order, each after a drawn time; some are stopped for long, some killed."""
    watch = Watch(world)
    world.run(*(watch.job(f"host{n}", conditions=conditions) for n in range(contenders)))  # type: ignore[arg-type]
    for _ in range(400):
        waiting = world.waiting
        if not waiting:
            break
        world.seconds += order.choice((0.0, 0.0, 0.01, 1.0, 30.0, 100.0))
        process = order.choice(waiting)
        if order.randrange(60) == 0:
            process.kill()
        else:
            process.step()
    for process in world.waiting:
        process.kill()
    for process in world.processes:
        if process.error and not isinstance(process.error, Killed):
            raise process.error


# One draw an example: a shrunk order of steps would be another race.
@given(st.randoms(use_true_random=False), st.booleans(), st.integers(2, 4))
@settings(
    max_examples=20_000 if thorough() else 500,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_of_any_contenders_one_at_a_time_is_told_that_it_is_alone(
    order: Random, conditions: bool, contenders: int
) -> None:
    with new_world() as world:
        play(world, order, conditions=conditions, contenders=contenders)


@pytest.mark.parametrize("conditions", [False, True])
def test_who_contends_without_being_disturbed_comes_in_one_after_the_other(
    conditions: bool,
) -> None:
    with new_world() as world:
        in_turns(world, conditions=conditions)


def in_turns(world: World, *, conditions: bool) -> None:
    watch = Watch(world)
    world.run(*(watch.job(f"host{n}", conditions=conditions) for n in range(3)))  # type: ignore[arg-type]
    at = 0
    while waiting := world.waiting:
        world.seconds += 0.05
        waiting[at % len(waiting)].step()
        at += 1
        assert at < 5000
    assert sorted(watch.entered) == ["host0", "host1", "host2"]
    assert [process.error for process in world.processes] == [None] * 3


@pytest.mark.parametrize("off", [timedelta(days=-400), timedelta(days=400)])
def test_a_host_whose_clock_is_off_takes_no_lease_that_stands(off: timedelta) -> None:
    """Age is told by the store's times alone, of which a job's own lease is one."""
    with new_world() as world:
        world.beginning = datetime.now(UTC) + off
        watch = Watch(world)
        world.run(watch.job("host0", conditions=False))  # type: ignore[arg-type]
        while not watch.entered:
            world.waiting[0].step()
        world.seconds += LIFE - 1
        world.run(watch.job("host1", conditions=False))  # type: ignore[arg-type]
        second = world.processes[1]
        for _ in range(10):
            second.step()
        assert watch.entered == ["host0"]
        world.seconds += 5
        while not second.ended and len(watch.entered) == 1:
            second.step()
        assert watch.entered == ["host0", "host1"], (
            "which comes in once the first one's has run out"
        )
        for process in world.waiting:
            process.kill()
