"""When an alert begins, grows worse, lasts, ends; what hides it, silences it, and what does not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pgdrill.alerts.model import Acknowledgement, Silence
from pgdrill.alerts.policy import RULES, Policy, Rule
from pgdrill.alerts.telling import acknowledge
from pgdrill.health.model import HealthFinding
from tests.unit.alerts.made import ALL, POLICY, Life, finding


def bad(check: str = "archiver", **more: Any) -> HealthFinding:
    return finding(check, "critical", **more)


def good(check: str = "archiver", **more: Any) -> HealthFinding:
    return finding(check, "ok", **more)


def test_one_bad_look_begins_it_and_two_good_ones_end_it() -> None:
    life = Life()
    assert life.look(good()) == []
    assert life.look(bad()) == ["start archiver critical"]
    assert life.look(bad()) == []
    assert life.look(good()) == []
    assert life.look(good()) == ["end archiver critical"]
    assert life.look(good()) == []


def test_a_good_look_between_bad_ones_ends_nothing() -> None:
    life = Life()
    for _ in range(5):
        life.look(bad())
        life.look(good())
    assert life.kinds() == ["start"]


def test_an_alert_that_wants_three_bad_looks_has_them_in_a_row() -> None:
    life = Life(Policy(routes=POLICY.routes, rules={"archiver": Rule(bad_looks=3)}))
    assert [life.look(one) for one in (bad(), bad(), good(), bad(), bad())] == [[]] * 5
    assert life.look(bad()) == ["start archiver critical"]
    assert life.told[0].since == life.told[0].at - timedelta(seconds=20)


def test_the_same_look_twice_counts_once() -> None:
    life = Life(Policy(routes=POLICY.routes, rules={"archiver": Rule(bad_looks=2)}))
    life.look(bad())
    life.looks -= 1
    assert life.look(bad()) == []
    assert life.look(bad()) == ["start archiver critical"]


def test_it_is_told_once_when_it_grows_worse_and_not_when_it_grows_milder() -> None:
    life = Life()
    warning = finding("archiver", "warning")
    assert life.look(warning) == ["start archiver warning"]
    assert life.look(bad()) == ["worse archiver critical"]
    assert life.look(warning) == []
    assert life.look(bad()) == []
    life.look(good())
    assert life.look(good()) == ["end archiver critical"]


def test_it_is_told_once_a_day_while_it_lasts() -> None:
    life = Life()
    for _ in range(3 * 24 + 1):
        life.look(bad(), after=3600)
    assert life.kinds() == ["start", "still", "still", "still"]


def test_the_end_says_how_long_and_goes_to_those_who_heard_of_the_start() -> None:
    life = Life(Policy(routes={"critical": ("pager", "mail"), "warning": ("mail",)}))
    life.look(bad())
    life.look(finding("archiver", "warning"), after=600)
    life.look(good(), after=60)
    life.look(good(), after=60)
    end = life.told[-1]
    assert (end.kind, end.to, end.at - end.since) == (
        "end",
        ("pager", "mail"),
        timedelta(seconds=720),
    )


def test_who_wants_critical_alone_is_told_once_it_is_critical_and_of_the_end() -> None:
    life = Life(Policy(routes={"critical": ("pager",), "warning": ()}))
    assert life.look(finding("archiver", "warning")) == []
    assert life.look(bad()) == ["start archiver critical"]
    life.look(good())
    assert life.look(good()) == ["end archiver critical"]


def test_what_was_told_to_nobody_ends_without_a_word() -> None:
    life = Life(Policy(routes={}))
    for one in (bad(), bad(), good(), good()):
        assert life.look(one) == []
    assert not life.state.alerts["archiver"].open


def test_unknown_ends_nothing_and_becomes_an_alert_of_its_own() -> None:
    life = Life()
    life.look(bad())
    unknown = finding("archiver", "unknown", found="no connection")
    assert [life.look(unknown) for _ in range(2)] == [[], []]
    assert life.look(unknown) == ["start archiver.unknown unknown"]
    assert life.state.alerts["archiver"].open
    assert life.look(good()) == []
    assert sorted(life.look(good())) == ["end archiver critical", "end archiver.unknown unknown"]


def test_an_unknown_look_between_good_ones_makes_them_begin_anew() -> None:
    life = Life()
    life.look(bad())
    assert life.look(good()) == []
    assert life.look(finding("archiver", "unknown")) == []
    assert life.look(good()) == []
    assert life.look(good()) == ["end archiver critical"]


def test_a_check_that_no_look_knows_of_stays_open_and_is_told_daily() -> None:
    life = Life()
    life.look(bad())
    assert life.look(good("slots")) == []
    assert life.look(good("slots"), after=86400) == ["still archiver critical"]


def test_a_check_that_is_not_asked_any_more_ends_and_says_so() -> None:
    life = Life()
    life.look(bad())
    life.look(finding("archiver", "not asked"))
    assert life.look(finding("archiver", "not asked")) == ["end archiver critical"]
    assert life.told[-1].not_asked


def test_lag_begins_at_thirty_seconds_and_ends_below_fifteen() -> None:
    life = Life(Policy(routes=POLICY.routes, rules=RULES))

    def lag(seconds: float) -> list[str]:
        status = "critical" if seconds >= 30 else "ok"
        return life.look(finding("replay-lag", status, value=seconds, promised=30, unit="seconds"))

    assert lag(29) == []
    assert lag(31) == ["start replay-lag critical"]
    assert [lag(29), lag(15), lag(31), lag(16)] == [[]] * 4
    assert lag(14.9) == ["end replay-lag critical"]
    assert lag(20) == []


def test_all_that_is_wrong_under_one_check_is_one_alert() -> None:
    life = Life()
    slots = [finding("slots", "warning", thing=f"slot{n}") for n in range(7)]
    assert life.look(*slots, bad("slots", thing="lost")) == ["start slots critical"]
    (message,) = life.told
    assert (message.count, len(message.findings), message.findings[0].thing) == (8, 5, "lost")


HIDING = Policy(routes=ALL, hides={"server": ("archiver", "replay-lag")})


def test_a_cause_hides_its_consequences_and_says_so() -> None:
    life = Life(HIDING)
    assert life.look(bad("server"), bad(), finding("replay-lag", "unknown")) == [
        "start server critical"
    ]
    assert life.told[0].hides == ("archiver", "replay-lag")
    for _ in range(5):
        assert life.look(bad("server"), bad(), finding("replay-lag", "unknown")) == []
    life.look(good("server"), good(), good("replay-lag"))
    assert life.look(good("server"), good(), good("replay-lag")) == ["end server critical"]


def test_a_consequence_that_outlasts_its_cause_is_told_then_with_its_own_beginning() -> None:
    life = Life(HIDING)
    life.look(bad("server"), bad())
    began = life.now
    life.look(good("server"), bad())
    assert sorted(life.look(good("server"), bad())) == [
        "end server critical",
        "start archiver critical",
    ]
    (start,) = [one for one in life.told if one.cause == "archiver"]
    assert start.since == began


def test_a_consequence_is_told_only_once_it_was_looked_at_again() -> None:
    life = Life(HIDING)
    life.look(bad("server"), bad())
    life.look(good("server"))
    assert life.look(good("server")) == ["end server critical"]
    assert life.look(good("server")) == []
    assert life.look(good()) == []


def test_what_was_told_before_its_cause_came_is_ended_all_the_same() -> None:
    life = Life(HIDING)
    assert life.look(bad()) == ["start archiver critical"]
    assert life.look(bad("server"), bad()) == ["start server critical"]
    life.look(bad("server"), good())
    assert life.look(bad("server"), good()) == ["end archiver critical"]


def test_a_warning_hides_nothing_critical() -> None:
    life = Life(HIDING)
    assert life.look(finding("server", "warning"), bad()) == [
        "start server warning",
        "start archiver critical",
    ]


def silence(life: Life, minutes: float, check: str = "") -> None:
    made = Silence(
        id="s1",
        check=check,
        why="upgrade",
        by="me",
        made_at=life.now,
        until=life.now + timedelta(minutes=minutes),
    )
    life.state = life.state.model_copy(update={"silences": (made,)})


def test_a_silence_keeps_quiet_and_ends_by_itself() -> None:
    life = Life()
    silence(life, 30)
    assert life.look(bad(), after=60) == []
    assert life.look(bad(), after=60 * 28) == []
    assert life.look(bad(), after=120) == ["start archiver critical"]


def test_what_began_and_ended_within_a_silence_was_never_told() -> None:
    life = Life()
    silence(life, 30)
    for one in (bad(), good(), good()):
        assert life.look(one) == []


def test_what_ends_within_a_silence_is_told_as_over() -> None:
    life = Life()
    life.look(bad())
    silence(life, 30)
    life.look(good())
    assert life.look(good()) == ["end archiver critical"]


def test_a_silence_of_one_check_leaves_the_others() -> None:
    life = Life()
    silence(life, 30, check="slots")
    assert life.look(bad(), bad("slots"), finding("slots", "unknown")) == [
        "start archiver critical"
    ]


def test_an_acknowledged_alert_is_not_repeated_but_told_when_it_grows_worse() -> None:
    life = Life()
    life.look(finding("archiver", "warning"))
    mine = Acknowledgement(by="me", why="disk ordered", at=life.now)
    alert, message = acknowledge(life.state.alerts["archiver"], "agents", "archiver", mine)
    assert (message.kind, message.to) == ("acknowledged", ("mail",))
    life.state = life.state.model_copy(update={"alerts": {"archiver": alert}})
    assert life.look(finding("archiver", "warning"), after=2 * 86400) == []
    assert life.look(bad()) == ["worse archiver critical"]
    assert life.look(bad(), after=86400) == ["still archiver critical"]


def test_keys_hold_neither_value_nor_time_and_ids_never_repeat() -> None:
    life = Life()
    for _ in range(3):
        for one in (bad(found="3 files"), bad(found="9 files"), good(), good()):
            life.look(one)
    assert {one.key for one in life.told} == {"pgdrill/agents/archiver"}
    assert len({one.id for one in life.told}) == len(life.told) == 6


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_clock_that_is_set_off_ends_nothing_and_tells_at_most_once_more(hours: int) -> None:
    life = Life()
    life.look(bad())
    life.look(bad(), after=3600 * hours)
    for _ in range(10):
        life.look(bad())
    life.look(bad(), after=-3600 * hours)
    assert life.kinds().count("start") == 1
    assert life.kinds().count("end") == 0
    assert len(life.told) <= 2
