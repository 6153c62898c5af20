"""Each channel against a server of its protocol, and against servers that go wrong."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from pgdrill.alert_settings import AlertChannel
from pgdrill.alerts import Alerting
from pgdrill.alerts.channels import Credentials, NotSent, Sending, make_channel
from pgdrill.alerts.model import Message
from pgdrill.alerts.sending import send
from tests.integration.alerts.servers import Listening, in_turn, reply
from tests.unit.alerts.made import NOON, finding, report

SECRET = "sekret-of-the-channel"
Make = Callable[..., Alerting]


def message(kind: str = "start", number: int = 1) -> Message:
    return Message.model_validate(
        {
            "id": f"pgdrill/agents/archiver@20261130.{number}",
            "key": "pgdrill/agents/archiver",
            "cluster": "agents",
            "cause": "archiver",
            "kind": kind,
            "severity": "critical",
            "since": NOON,
            "at": NOON,
            "findings": (finding("archiver", "critical"),),
            "count": 1,
        }
    )


def hook(server: Listening, **more: Any) -> AlertChannel:
    given = {"name": "hook", "type": "webhook", "url": f"{server.url}/hook", "timeout_seconds": 1}
    return AlertChannel.model_validate({**given, "secret_variable": "ALERT_SECRET", **more})


def by(settings: AlertChannel, told: Message, *, thread: str = "", waits: Any = None) -> Any:
    return send(
        told,
        settings,
        lambda _: Credentials(SECRET),
        Sending(told, thread=thread),
        pause=[].append if waits is None else waits.append,
    )


def test_a_webhook_is_signed_and_says_the_same_id_at_each_try(server: Listening) -> None:
    server.answer = in_turn(lambda one, _: reply(one, 500), lambda one, _: reply(one, 200))
    assert by(hook(server), message()).failure == ""
    first, second = server.requests
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == message().id
    for got in (first, second):
        signed = got.headers["X-Pgdrill-Timestamp"].encode() + b"." + got.content
        wanted = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert got.headers["X-Pgdrill-Signature"] == f"v1={wanted}"
        assert abs(int(got.headers["X-Pgdrill-Timestamp"]) - time.time()) < 60
        assert SECRET.encode() not in got.content
    assert first.json["key"] == "pgdrill/agents/archiver"


def test_pagerduty_is_asked_to_trigger_acknowledge_and_resolve_one_key(server: Listening) -> None:
    pager = hook(server, name="pager", type="pagerduty")
    for number, kind in enumerate(("start", "worse", "acknowledged", "end")):
        assert by(pager, message(kind, number)).failure == ""
    events = [one.json for one in server.requests]
    assert [one["event_action"] for one in events] == [
        *("trigger", "trigger", "acknowledge", "resolve")
    ]
    assert {one["dedup_key"] for one in events} == {"pgdrill/agents/archiver"}
    assert {one["routing_key"] for one in events} == {SECRET}
    assert events[0]["payload"]["severity"] == "critical"


def test_a_slack_bot_writes_one_thread(server: Listening) -> None:
    ok = json.dumps({"ok": True, "ts": "1700000000.000100"}).encode()
    server.answer = lambda one, _: reply(one, 200, ok)
    slack = hook(server, name="slack", type="slack", url=server.url, channel="C01")
    thread = by(slack, message()).thread
    assert thread == "1700000000.000100"
    assert by(slack, message("end", 2), thread=thread).failure == ""
    first, last = server.requests
    assert first.path == "/chat.postMessage"
    assert first.headers["Authorization"] == f"Bearer {SECRET}"
    assert "thread_ts" not in first.json
    assert last.json["thread_ts"] == thread


def test_a_slack_refusal_that_comes_with_200_is_told_by_its_code(server: Listening) -> None:
    server.answer = lambda one, _: reply(one, 200, b'{"ok": false, "error": "channel_not_found"}')
    slack = hook(server, name="slack", type="slack", url=server.url, channel="C01")
    assert by(slack, message()).failure == "Slack: refused (channel_not_found)"


def test_a_slack_webhook_is_its_secret_and_stays_out_of_the_words(server: Listening) -> None:
    server.answer = lambda one, _: reply(one, 404, SECRET.encode())
    slack = AlertChannel(name="slack", type="slack", secret_variable="X")
    url = f"{server.url}/services/T0/B0/{SECRET}"
    told = message()
    result = send(told, slack, lambda _: Credentials(url), Sending(told), pause=lambda _: None)
    assert result.failure == "Slack: HTTP 404"
    assert server.requests[0].path.endswith(SECRET)


def test_a_redirect_is_not_followed(server: Listening, second: Listening) -> None:
    server.answer = lambda one, _: reply(one, 307, Location=f"{second.url}/elsewhere")
    assert "a redirect, which is not followed" in by(hook(server), message()).failure
    assert (len(server.requests), second.requests) == (1, [])


def test_a_server_that_hangs_ends_in_time(server: Listening) -> None:
    server.answer = lambda *_: server.over.wait(30)  # type: ignore[assignment,return-value]
    began = time.monotonic()
    assert "no whole answer in 1 s" in by(hook(server), message()).failure
    assert len(server.requests) == 3
    assert time.monotonic() - began < 15


def test_a_server_that_drips_ends_in_time(server: Listening) -> None:
    def drip(one: Any, _: Any) -> None:
        one.send_response(200)
        one.end_headers()
        while not server.over.wait(0.1):
            one.wfile.write(b"x")
            one.wfile.flush()

    server.answer = drip
    began = time.monotonic()
    assert "no whole answer" in by(hook(server), message()).failure
    assert time.monotonic() - began < 15


def test_an_answer_of_two_gigabytes_is_not_read(server: Listening) -> None:
    sent = []

    def flood(one: Any, _: Any) -> None:
        one.send_response(200)
        one.send_header("Content-Length", str(2 * 2**30))
        one.end_headers()
        block = b"x" * 2**20
        for _number in range(2048):
            one.wfile.write(block)
            sent.append(len(block))

    server.answer = flood
    tracemalloc.start()
    try:
        assert by(hook(server, timeout_seconds=10), message()).failure == ""
        assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    finally:
        tracemalloc.stop()
    assert sum(sent) < 200 * 2**20


def test_429_waits_as_long_as_it_was_asked_to(server: Listening) -> None:
    server.answer = in_turn(
        lambda one, _: reply(one, 429, Retry_After="3"), lambda one, _: reply(one, 200)
    )
    waits: list[float] = []
    assert by(hook(server), message(), waits=waits).failure == ""
    assert waits == [3.0]


def test_a_long_wait_is_not_slept_through_but_kept_for_later(server: Listening) -> None:
    server.answer = lambda one, _: reply(one, 429, Retry_After="600")
    result = by(hook(server), message())
    assert (result.wait_seconds, len(server.requests)) == (600, 1)


def test_what_a_server_refuses_is_not_sent_again_at_once(server: Listening) -> None:
    server.answer = lambda one, _: reply(one, 400, b"bad\x1b[31m")
    assert by(hook(server), message()).failure == "webhook: HTTP 400"
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["webhook", "pagerduty", "slack"])
def test_a_channel_without_its_secret_says_so(server: Listening, kind: str) -> None:
    settings = hook(server, type=kind)
    with pytest.raises(NotSent, match="no "):
        make_channel(settings, Credentials())


def test_each_apprise_target_has_its_own_result(server: Listening, second: Listening) -> None:
    pytest.importorskip("apprise")
    server.answer = lambda one, _: reply(one, 200)
    second.answer = lambda one, _: reply(one, 500)
    urls = " ".join(one.url.replace("http://", "json://") + "/x" for one in (server, second))
    settings = AlertChannel(name="rest", type="apprise", secret_variable="X", timeout_seconds=20)
    told = message()
    one = send(told, settings, lambda _: Credentials(urls), Sending(told), pause=lambda _: None)
    assert "not sent" in one.failure and len(one.parts) == 1
    second.answer = lambda each, _: reply(each, 200)
    again = Sending(told, have_it=frozenset(one.parts))
    two = send(told, settings, lambda _: Credentials(urls), again, pause=lambda _: None)
    assert (two.failure, len(two.parts)) == ("", 2)
    assert len(server.requests) == 1


def test_a_ping_goes_out_only_while_its_promise_is_kept(
    server: Listening, alerting: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PING_KEY", "the-ping-key")
    ping = {"cluster": "agents", "promise": "archiver", "url": server.url}
    with alerting(pings=[{**ping, "secret_variable": "PING_KEY"}]) as alerts:
        for status in ("unknown", "critical", "warning"):
            alerts.look(report(finding("archiver", status)))  # type: ignore[arg-type]
        alerts.look(report(finding("slots", "ok")))
        alerts.finish()
        assert server.requests == []
        alerts.look(report(finding("archiver", "ok")))
        alerts.look(report(finding("archiver", "ok")))
    (got,) = server.requests
    assert got.path == "/the-ping-key/agents-archiver?create=1"
    assert got.content == b"archiver is ok"
