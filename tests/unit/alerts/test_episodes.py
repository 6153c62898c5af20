"""Whatever happens, each episode has one start and one end: with two watchers, restarts, silences,
looks that see nothing, sends that are cut.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from obstore.store import MemoryStore

from pgdrill.alerts.looks import Look
from pgdrill.alerts.memory import Memory
from pgdrill.alerts.model import AlertState, Silence
from pgdrill.alerts.outbox import Claimed, Result, claim, finish, with_messages
from pgdrill.alerts.policy import Policy
from pgdrill.alerts.transition import transition
from pgdrill.repository.object_store import Storage
from tests.unit.alerts.made import NOON, finding

CHECKS = ("server", "archiver", "slots")
CHANNELS = ("pager", "mail")
POLICY = Policy(
    hides={"server": ("archiver",)},
    routes={"critical": ("pager", "mail"), "warning": ("mail",), "unknown": ("mail",)},
)
STATUS = st.sampled_from(["ok", "ok", "warning", "critical", "unknown", None])


class Watched(RuleBasedStateMachine):
    """Two watchers on two hosts, one store that keeps to conditions, two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory(prefix="pgdrill-")
        store = MemoryStore()
        self.storage = Storage("memory:///alerts", store, lambda *_, **__: store)
        self.watchers = [self.memory(0), self.memory(1)]
        self.now = NOON
        self.looks = 0
        self.cut: list[Claimed] = []
        # what each channel's people see: a message that comes again is known by its id
        self.seen: dict[str, dict[str, Any]] = {name: {} for name in CHANNELS}
        self.times: dict[str, int] = {}
        self.open_before: set[str] = set()

    def memory(self, number: int) -> Memory:
        return Memory(lambda: self.storage, Path(self.home.name) / f"host{number}")

    def teardown(self) -> None:
        self.home.cleanup()

    @rule(
        watcher=st.integers(0, 1),
        statuses=st.tuples(STATUS, STATUS, STATUS),
        seconds=st.sampled_from([5, 10, 300, 90000]),
        how=st.sampled_from(["sent", "sent", "sent", "cut", "mail fails"]),
    )
    def look(self, watcher: int, statuses: tuple[Any, ...], seconds: int, how: str) -> None:
        self.now += timedelta(seconds=seconds)
        self.looks += 1
        found = [
            finding(check, status, looked_at=self.now)
            for check, status in zip(CHECKS, statuses, strict=True)
            if status
        ]
        look = Look("agents", f"host{watcher} {self.looks}", tuple(found))
        before = self.watchers[watcher].read()

        def step(state: AlertState) -> tuple[AlertState, list[Claimed]]:
            state, messages = transition(state, look, self.now, POLICY)
            return claim(with_messages(state, messages), CHANNELS, look.name, self.now)

        claimed = self.watchers[watcher].change(step)
        after = self.watchers[1 - watcher].read()
        for cause, alert in before.alerts.items():
            if alert.open and not after.alerts[cause].open:
                status = dict(zip(CHECKS, statuses, strict=True))[cause.removesuffix(".unknown")]
                assert status == "ok" or (
                    cause.endswith(".unknown") and status not in (None, "unknown")
                )
        if how == "cut":  # killed before it could note what it sent; half of it went out
            self.take(claimed[: len(claimed) // 2])
            return
        while claimed:
            claimed = self.send(watcher, claimed, failing="mail" if how == "mail fails" else "")

    def send(self, watcher: int, claimed: list[Claimed], failing: str) -> list[Claimed]:
        results = [
            Result(one.message, one.delivery.channel, "broken")
            if one.delivery.channel == failing
            else Result(one.message, one.delivery.channel)
            for one in claimed
        ]
        self.take([one for one in claimed if one.delivery.channel != failing])
        return self.watchers[watcher].change(
            lambda state: claim(
                finish(state, results, CHANNELS, self.now), CHANNELS, "again", self.now
            )
        )

    def take(self, claimed: list[Claimed]) -> None:
        for one in claimed:
            place = self.seen[one.delivery.channel]
            place.setdefault(one.message.id, one.message)

    @rule(watcher=st.integers(0, 1))
    def restart(self, watcher: int) -> None:
        self.watchers[watcher] = self.memory(watcher)

    @rule(watcher=st.integers(0, 1), minutes=st.integers(1, 60))
    def silence(self, watcher: int, minutes: int) -> None:
        made = Silence(
            id=f"s{self.looks}",
            why="work",
            by="me",
            made_at=self.now,
            until=self.now + timedelta(minutes=minutes),
        )
        self.watchers[watcher].change(
            lambda state: (state.model_copy(update={"silences": (*state.silences, made)}), None)
        )

    @rule(watcher=st.integers(0, 1))
    def come_back(self, watcher: int) -> None:
        """Everything that was cut or failed is sent some time."""
        for _ in range(20):
            self.now += timedelta(minutes=16)
            claimed = self.watchers[watcher].change(
                lambda state: claim(state, CHANNELS, "late", self.now)
            )
            while claimed:
                claimed = self.send(watcher, claimed, failing="")
        assert self.watchers[watcher].read().outbox == ()

    @invariant()
    def each_episode_has_at_most_one_start_one_worse_and_one_end(self) -> None:
        for place in self.seen.values():
            kinds: dict[tuple[str, Any], list[str]] = {}
            for message in place.values():
                kinds.setdefault((message.key, message.since), []).append(message.kind)
            for told in kinds.values():
                for kind in ("start", "worse", "end"):
                    assert told.count(kind) <= 1, told

    @precondition(lambda self: self.looks)
    @rule()
    def after_good_looks_every_start_has_its_end(self) -> None:
        for _ in range(2):
            self.look(0, ("ok", "ok", "ok"), 5, "sent")
        self.come_back(0)
        assert not any(alert.open for alert in self.watchers[1].read().alerts.values())
        for name, place in self.seen.items():
            told: dict[tuple[str, Any], set[str]] = {}
            for message in place.values():
                told.setdefault((message.key, message.since), set()).add(message.kind)
            for kinds in told.values():
                assert "end" in kinds, (name, kinds)


TestWatched = Watched.TestCase
TestWatched.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
