"""[alerts] of dr.toml: what is wrong is named, and keeps no other channel from telling."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from pgdrill import config
from pgdrill.config import Settings

FILE = Path("some/dr.toml")
CLUSTER = {"server": {"data_directory": "/pgdata"}, "repository": {"url": "s3://bucket/agents"}}
HOOK = {
    "name": "hook",
    "type": "webhook",
    "url": "https://example.org/hook",
    "secret_variable": "HOOK_KEY",
}
MAIL = {
    "name": "mail",
    "type": "smtp",
    "host": "mail.example.org",
    "sender": "pgdrill@example.org",
    "to": ["dba@example.org"],
}


def parsed(**alerts: Any) -> Settings:
    return config.parse({"clusters": {"agents": copy.deepcopy(CLUSTER)}, "alerts": alerts}, FILE)


def found(settings: Settings) -> str:
    return settings.wrong[""].problem.found


def test_a_file_without_alerts_is_right_and_tells_nobody() -> None:
    settings = config.parse({"clusters": {"agents": CLUSTER}}, FILE)
    assert (settings.wrong, settings.alerts.channels) == ({}, ())


def test_channels_stand_in_their_order() -> None:
    settings = parsed(channels=[MAIL, HOOK], good_looks=3)
    assert [one.name for one in settings.alerts.channels] == ["mail", "hook"]
    assert (settings.alerts.good_looks, settings.wrong) == (3, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "pigeon"}, "[alerts.channels.1.type] Input should be 'smtp'"),
        ({"url": ""}, "[alerts.channels.1] type webhook needs url"),
        ({"url": "ftp://x"}, "[alerts.channels.1.url] must be http://"),
        ({"url": "https://u:p@x/"}, "[alerts.channels.1.url] holds credentials"),
        ({"secret_variable": ""}, "[alerts.channels.1] needs secret_variable or conn_id"),
        ({"secret_variable": "xoxb-real"}, "[alerts.channels.1.secret_variable] is no variable's"),
        ({"to": ["a@b.c"]}, "[alerts.channels.1] type webhook takes no to"),
        ({"severities": ["bad"]}, "[alerts.channels.1.severities.0] Input should be 'critical'"),
        ({"clusters": ["other"]}, "[alerts.channels.1.clusters] 'other' is no cluster"),
        ({"name": "mail"}, "[alerts.channels.1.name] 'mail' is there twice"),
        ({"name": "a b"}, "[alerts.channels.1.name] is no channel's name"),
        ({"chanel": "x"}, "[alerts.channels.1.chanel] is no known key; did you mean channel?"),
    ],
)
def test_a_channel_that_is_wrong_is_named_and_the_others_stay(
    change: dict[str, Any], words: str
) -> None:
    settings = parsed(channels=[MAIL, {**HOOK, **change}])
    assert words in found(settings)
    assert "xoxb-real" not in found(settings)
    assert [one.name for one in settings.alerts.channels] == ["mail"]
    assert settings.cluster("agents").name == "agents"


@pytest.mark.parametrize(
    ("mail", "words"),
    [
        ({"to": ["a@b.c\nBcc: x@y.z"]}, "is no mail address"),
        ({"user": "pgdrill"}, "needs secret_variable or conn_id"),
        ({"user": "x", "secret_variable": "P", "security": "none"}, "password in clear"),
    ],
)
def test_a_mail_channel_that_is_wrong_is_refused(mail: dict[str, Any], words: str) -> None:
    assert words in found(parsed(channels=[{**MAIL, **mail}]))


def test_a_ping_names_a_cluster_of_the_file_and_where_its_secret_is() -> None:
    ping = {"cluster": "agents", "promise": "archiver", "secret_variable": "PING_KEY"}
    settings = parsed(pings=[ping, {**ping, "cluster": "x"}, {**ping, "secret_variable": ""}])
    assert [one.name for one in settings.alerts.pings] == ["ping agents-archiver"]
    assert "[alerts.pings.1.cluster] 'x' is no cluster" in found(settings)
    assert "[alerts.pings.2] needs secret_variable" in found(settings)


def test_a_key_of_alerts_that_is_wrong_leaves_the_channels() -> None:
    settings = parsed(channels=[MAIL], bad_looks=0, nonsense=1)
    assert "[alerts.bad_looks]" in found(settings)
    assert "[alerts.nonsense] is no known key" in found(settings)
    assert [one.name for one in settings.alerts.channels] == ["mail"]


@pytest.mark.parametrize("table", ["no", {"channels": {"a": 1}}, {"channels": ["x"]}])
def test_what_is_no_table_of_channels_is_told(table: Any) -> None:
    settings = config.parse({"clusters": {"agents": CLUSTER}, "alerts": table}, FILE)
    assert "[alerts" in found(settings)
