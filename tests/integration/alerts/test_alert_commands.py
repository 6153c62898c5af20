"""``pgdrill silence`` and ``pgdrill alert``, as a person types them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from pgdrill.cli import main
from tests.integration.alerts.servers import Listening, reply
from tests.integration.alerts.test_alerting import BAD, Clock, Make, hook, kinds
from tests.unit.alerts.made import NOON


@pytest.fixture
def file(tmp_path: Path, server: Listening, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of the same cluster and places as the fixture ``alerting``."""
    monkeypatch.setenv("ALERT_SECRET", "sekret-of-the-channel")
    found = tmp_path / "dr.toml"
    found.write_text(
        f"""
        [clusters.agents]
        server = {{ data_directory = "/pgdata" }}
        repository = {{ url = "file://{tmp_path}/store" }}
        drill = {{ work_directory = "{tmp_path}/host" }}
        [[alerts.channels]]
        name = "hook"
        type = "webhook"
        url = "{server.url}"
        secret_variable = "ALERT_SECRET"
        timeout_seconds = 2
        """
    )
    return found


def run(file: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(file), *words])
    return int(ended.value.code or 0)


def test_a_test_is_sent_and_a_channel_that_fails_is_code_2(
    file: Path, server: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(file, "alert", "test", "hook") == 0
    assert kinds(server) == ["test", "end"]
    server.answer = lambda one, _: reply(one, 403)
    assert run(file, "alert", "test") == 2
    out = capsys.readouterr().out
    assert out.splitlines() == ["hook: took it", "hook: did not take it: webhook: HTTP 403"]


def test_an_unknown_channel_is_named_with_those_that_there_are(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(file, "alert", "test", "pigeon") == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "unknown-channel" in shown and "only hook" in shown


def test_a_missing_secret_is_named_by_its_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ALERT_SECRET")
    assert run(file, "alert", "test") == 2
    assert "variable ALERT_SECRET is not set" in capsys.readouterr().out


def test_an_alert_is_listed_acknowledged_and_silenced(
    file: Path, alerting: Make, server: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    clock.now = NOON
    with alerting(hook(server), clock=clock) as alerts:
        alerts.look(clock.report(BAD))
    assert run(file, "alert", "list") == 0
    assert "pgdrill/agents/archiver  critical since 2026-11-30 12:00 UTC" in capsys.readouterr().out
    assert run(file, "alert", "ack", "pgdrill/agents/archiver", "--why", "disk ordered") == 0
    assert run(file, "silence", "agents", "--for", "2h", "--why", "upgrade") == 0
    capsys.readouterr()
    assert run(file, "alert", "list", "--json") == 0
    found = json.loads(capsys.readouterr().out)["agents"]
    assert found["alerts"]["archiver"]["acknowledged"]["why"] == "disk ordered"
    (silence,) = found["silences"]
    assert silence["why"] == "upgrade"
    assert run(file, "silence", "agents", "--end") == 0
    assert "no longer silent" in capsys.readouterr().out
    assert kinds(server) == ["start", "acknowledged"]


@pytest.mark.parametrize(
    "words",
    [
        ("silence", "agents", "--for", "2h"),
        ("silence", "agents", "--for", "ever", "--why", "x"),
        ("silence", "agents", "--for", "31d", "--why", "x"),
        ("silence", "agents"),
        ("alert", "ack", "nonsense", "--why", "x"),
        ("alert", "ack", "pgdrill/agents/slots", "--why", "x"),
    ],
)
def test_what_makes_no_sense_is_refused(file: Path, words: tuple[str, ...]) -> None:
    assert run(file, *words) == 2


def test_a_silence_holds_for_its_span(file: Path, alerting: Make, server: Listening) -> None:
    assert run(file, "silence", "agents", "--for", "90m", "--why", "upgrade") == 0
    with alerting(hook(server)) as alerts:
        (silence,) = alerts.memory.read().silences
    assert silence.until - silence.made_at == timedelta(minutes=90)
