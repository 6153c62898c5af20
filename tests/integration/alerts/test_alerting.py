"""From looks to what arrives: two watchers, restarts, cuts, channels and stores that fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pgdrill.alerts import Alerting
from pgdrill.alerts.looks import look_of
from pgdrill.alerts.memory import KEY
from pgdrill.alerts.model import AlertState
from pgdrill.alerts.outbox import claim, with_messages
from pgdrill.alerts.transition import transition
from pgdrill.errors import ConfigError, Unreachable
from tests.integration.alerts.servers import Listening, reply
from tests.unit.alerts.made import NOON, finding, report

Make = Callable[..., Alerting]
BAD, GOOD = finding("archiver", "critical"), finding("archiver", "ok")


def hook(server: Listening, name: str = "hook", **more: Any) -> dict[str, Any]:
    given = {"name": name, "type": "webhook", "url": server.url, "timeout_seconds": 2}
    return {**given, **more}


def kinds(server: Listening) -> list[str]:
    return [one.json["kind"] for one in server.requests]


class Clock:
    """The time, and looks that are each a little later."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> Any:
        return self.now

    def report(self, *findings: Any, seconds: float = 10, host: str = "db1") -> Any:
        self.now += timedelta(seconds=seconds)
        return report(*findings, at=self.now, host=host)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_alert_begins_and_ends_once_over_restarts(
    server: Listening, alerting: Make, clock: Clock
) -> None:
    for one in (BAD, BAD, GOOD, GOOD, GOOD):
        with alerting(hook(server), clock=clock) as alerts:
            alerts.look(clock.report(one))
    assert kinds(server) == ["start", "end"]


@pytest.mark.parametrize("places", [("host", "host"), ("one", "other")])
def test_two_watchers_do_not_send_twice(
    server: Listening, alerting: Make, clock: Clock, places: tuple[str, str]
) -> None:
    with (
        alerting(hook(server), clock=clock, place=places[0]) as one,
        alerting(hook(server), clock=clock, place=places[1]) as other,
    ):
        for found in (BAD, BAD, GOOD, GOOD, GOOD, GOOD):
            one.look(clock.report(found))
            other.look(clock.report(found, host="db2"))
        one.finish()
        other.finish()
    assert kinds(server) == ["start", "end"]


def test_a_send_that_was_cut_is_made_again_under_the_same_id(
    server: Listening, alerting: Make, clock: Clock
) -> None:
    with alerting(hook(server), clock=clock) as killed:
        look = killed._with_links(look_of(clock.report(BAD)), {})

        def step(state: AlertState) -> tuple[AlertState, None]:
            state, messages = transition(state, look, clock.now, killed.policy)
            return claim(with_messages(state, messages), killed.channels, "x", clock.now)[0], None

        killed.memory.change(step)  # claimed, and then it died
    with alerting(hook(server), clock=clock) as alerts:
        alerts.look(clock.report(BAD))
        alerts.finish()
        assert kinds(server) == []
        alerts.look(clock.report(BAD, seconds=121))
    assert kinds(server) == ["start"]


def test_a_channel_that_fails_is_counted_told_through_the_next_and_tried_again(
    server: Listening, second: Listening, alerting: Make, clock: Clock
) -> None:
    server.answer = lambda one, _: reply(one, 500)
    channels = (hook(server, "first"), hook(second, "next", severities=["warning"]))
    with alerting(*channels, clock=clock) as alerts:
        alerts.look(clock.report(BAD))
        alerts.finish()
        (told,) = second.requests
        assert told.json["note"].startswith(
            "sent here because channel first failed: webhook: HTTP 500"
        )
        assert alerts.memory.read().channels["first"].failed == 1
        server.answer = lambda one, _: reply(one, 200)
        server.requests.clear()
        alerts.look(clock.report(BAD, seconds=31))
        alerts.finish()
        for _ in range(2):
            alerts.look(clock.report(GOOD))
        alerts.finish()
    assert kinds(server) == ["start", "end"]
    assert kinds(second) == ["start", "end"]


def test_a_secret_that_is_missing_is_told_through_the_next(
    server: Listening, second: Listening, alerting: Make, clock: Clock
) -> None:
    channels = (
        hook(server, "first", secret_variable="NOT_SET"),
        hook(second, "next", severities=["warning"]),
    )
    with alerting(*channels, clock=clock) as alerts:
        alerts.look(clock.report(BAD))
        alerts.finish()
        failure = alerts.memory.read().channels["first"].failure
    assert failure == "variable NOT_SET is not set in this process"
    assert kinds(second) == ["start"]


def test_without_channels_everything_is_remembered_and_nobody_is_told(
    alerting: Make, clock: Clock
) -> None:
    with alerting(clock=clock) as alerts:
        assert alerts.look(clock.report(BAD)) == []
        assert alerts.memory.read().alerts["archiver"].open
        assert "nobody is told of cluster agents" in alerts.nobody


def test_it_is_told_while_the_store_is_gone_and_not_again_when_it_is_back(
    server: Listening, alerting: Make, clock: Clock
) -> None:
    with alerting(hook(server), clock=clock) as alerts:
        alerts.look(clock.report(GOOD))
        opened = alerts.memory.open_store

        def gone() -> Any:
            raise Unreachable("storage-unreachable", "store", found="gone", expected="x", hint="x")

        alerts.memory.open_store, alerts.memory._store = gone, None
        alerts.look(clock.report(BAD))
        alerts.finish()
        assert kinds(server) == ["start"]
        assert alerts.memory.offline == "gone"
        alerts.memory.open_store, alerts.memory._again_at = opened, -1e9
        alerts.look(clock.report(BAD, seconds=200))
        alerts.look(clock.report(GOOD))
        alerts.look(clock.report(GOOD))
        alerts.finish()
        assert not alerts.memory.offline
    assert kinds(server) == ["start", "end"]
    kept = json.loads(Path(opened().url.removeprefix("file://"), KEY).read_bytes())
    assert kept["alerts"]["archiver"]["open"] is False


@pytest.mark.parametrize("content", [b"{", b'{"alerts": 3}', b"\xff" * 100, b"[" * 100_000])
def test_a_memory_that_cannot_be_read_is_told_and_nothing_is_lost(
    server: Listening, alerting: Make, clock: Clock, content: bytes
) -> None:
    with alerting(hook(server), clock=clock) as alerts:
        alerts.look(clock.report(BAD))
    with alerting(hook(server), clock=clock) as alerts:
        store = alerts.access.reports
        store.write(KEY, content)
        alerts.look(clock.report(BAD))
        alerts.finish()
        for _ in range(2):
            alerts.look(clock.report(BAD))
        alerts.finish()
        aside = [key for key in store.sizes("alerts/") if "unreadable" in key]
        assert [store.read(key) for key in aside] == [content]
    told = [(one.json["kind"], one.json["cause"]) for one in server.requests]
    assert told.count(("start", "archiver")) == 1
    assert told.count(("start", "alert-memory")) == 1


def test_a_silence_of_another_process_counts_at_once(
    server: Listening, alerting: Make, clock: Clock
) -> None:
    with alerting(hook(server), clock=clock) as alerts:
        alerts.look(clock.report(GOOD))
        with alerting(hook(server), clock=clock) as person:
            person.silence(timedelta(minutes=5), why="upgrade", by="me")
        alerts.look(clock.report(BAD))
        alerts.finish()
        assert kinds(server) == []
        alerts.look(clock.report(BAD, seconds=300))
    assert kinds(server) == ["start"]


def test_an_acknowledgement_is_told_and_one_of_nothing_is_refused(
    server: Listening, alerting: Make, clock: Clock
) -> None:
    with alerting(hook(server), clock=clock) as alerts:
        alerts.look(clock.report(BAD))
        alerts.finish()
        alerts.acknowledge("archiver", why="disk ordered", by="me")
        with pytest.raises(ConfigError, match="pgdrill/agents/archiver"):
            alerts.acknowledge("slots", why="x", by="me")
    assert kinds(server) == ["start", "acknowledged"]


def test_a_steady_look_asks_the_store_for_nothing(
    server: Listening, alerting: Make, clock: Clock
) -> None:
    with alerting(hook(server), clock=clock) as alerts:
        alerts.look(clock.report(GOOD))
        before = alerts.memory.written_at, alerts.memory._read_at
        for _ in range(20):
            alerts.look(clock.report(GOOD))
        assert (alerts.memory.written_at, alerts.memory._read_at) == before
