"""Recovery targets: their forms, and PostgreSQL's settings for them."""

from __future__ import annotations

import pytest

from pgdrill.errors import ConfigError
from pgdrill.recovery.targets import FORMS, parse_target


@pytest.mark.parametrize(
    "text",
    [
        "latest",
        "random",
        "alternate",
        "time:2026-11-20T11:00:00Z",
        "before:2026-11-20T11:00:00+01:00",
        "lsn:0/3000028",
        "name:before_migration",
    ],
)
def test_every_form_is_understood_and_shown_as_it_was_typed(text: str) -> None:
    assert str(parse_target(f" {text} ")) == text
    assert text.partition(":")[0] in FORMS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "latest:now",
        "random:",
        "random:5",
        "alternate:latest",
        "before:",
        "before:2026-11-20T11:00:00",
        "time:2026-11-20",
        "lsn:3000028",
        "name:",
        "name:it's",
    ],
)
def test_what_is_no_form_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_target(text)
    assert caught.value.problem.expected == FORMS


def test_before_leaves_the_instant_out_and_time_keeps_it() -> None:
    time, before = (
        parse_target(f"{kind}:2026-11-20T12:00:00.5+01:00").settings for kind in ("time", "before")
    )
    assert time == {
        "recovery_target_time": "2026-11-20 11:00:00.500000+00:00",
        "recovery_target_action": "promote",
        "recovery_target_inclusive": "on",
    }
    assert before == {**time, "recovery_target_inclusive": "off"}
    assert parse_target("name:x").settings["recovery_target_name"] == "x"
    assert parse_target("lsn:0/28").settings["recovery_target_lsn"] == "0/28"
