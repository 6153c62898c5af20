"""Known deviations: accepted is one check's answer about the objects that are named, until a date,
and never anything else.
"""

from __future__ import annotations

import fnmatch
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdrill import config
from pgdrill.check_names import CHECK_NAMES
from pgdrill.checks import CHECKS
from pgdrill.config import Deviation
from pgdrill.errors import ConfigError
from pgdrill.logical.checks import DUMP_CHECKS
from pgdrill.reports.deviations import accept, noted
from pgdrill.reports.model import CheckResult, CheckStatus, Stage, judge

DAY = date(2026, 11, 27)


def known(
    check: str = "vector-values", object: str = "items.emb2", days: int = 7, **more: Any
) -> Deviation:
    return Deviation(
        check=check,
        object=object,
        reason="not filled yet",
        until=DAY + timedelta(days=days),
        **more,
    )


def red(
    name: str = "vector-values", thing: str = "items.emb2", status: CheckStatus = "fail"
) -> CheckResult:
    return CheckResult(
        name=name,
        family="vectors",
        status=status,
        thing=thing,
        value=8309,
        threshold="0 NULL vectors",
        message="first at (0,1)",
    )


def test_the_names_that_the_configuration_knows_are_those_of_all_checks() -> None:
    every = {*CHECKS, *(check.name for check in DUMP_CHECKS), "rto"}
    assert every == CHECK_NAMES, "correct include/pgdrill/check_names.py"


def test_an_accepted_answer_warns_with_reason_and_date_and_keeps_its_figures() -> None:
    found = accept(red(), [known()], DAY)
    assert (found.status, found.value, found.threshold) == ("warn", 8309, "0 NULL vectors")
    assert found.message == "accepted until 2026-12-04: not filled yet; first at (0,1)"
    assert found.accepted == "accepted until 2026-12-04: not filled yet"


def test_the_day_after_it_is_red_again_and_says_since_when() -> None:
    assert accept(red(), [known(days=0)], DAY).status == "warn"
    found = accept(red(), [known(days=-1)], DAY)
    assert found.status == "fail"
    assert (
        found.message
        == "first at (0,1); was accepted until 2026-11-26 (not filled yet), and is no longer"
    )
    assert not found.accepted


def test_one_that_was_prolonged_holds_beside_the_one_that_is_over() -> None:
    assert accept(red(), [known(days=-30), known(days=30)], DAY).status == "warn"


@given(
    name=st.sampled_from(sorted(CHECK_NAMES)),
    thing=st.text(max_size=20),
    object_=st.text(max_size=20),
)
def test_nothing_is_hidden_but_that_check_s_answer_about_that_object(
    name: str, thing: str, object_: str
) -> None:
    deviation = Deviation.model_construct(
        check="vector-values", object=object_, reason="x", until=DAY, model=""
    )
    result = CheckResult(name=name, family="vectors", status="fail", thing=thing)
    found = accept(result, [deviation], DAY)
    meant = name == "vector-values" and (
        object_ == result.thing or fnmatch.fnmatchcase(result.thing, object_)
    )
    assert (found.status == "warn") == meant
    assert (found.name, found.thing, found.family) == (result.name, result.thing, result.family)


@pytest.mark.parametrize("status", ["pass", "warn", "skip"])
def test_only_red_answers_are_touched(status: CheckStatus) -> None:
    assert accept(red(status=status), [known()], DAY) == red(status=status)


def test_a_name_with_brackets_is_taken_as_it_is_and_a_glob_fits_others() -> None:
    thing = "items[1].v (items_hnsw)"
    assert accept(red(thing=thing), [known(object=thing)], DAY).status == "warn"
    assert (
        accept(red(thing="items.v (items_hnsw)"), [known(object="items.v (*)")], DAY).status
        == "warn"
    )
    assert (
        accept(red(thing="items2.v (items_hnsw)"), [known(object="items.v (*)")], DAY).status
        == "fail"
    )


def test_a_drill_with_an_accepted_answer_is_green_and_one_with_another_red_answer_is_not() -> None:
    ok, another = Stage(status="ok"), red(thing="items.embedding")
    assert judge(ok, ok, [accept(red(), [known()], DAY)])[0] == "passed"
    assert judge(ok, ok, [accept(one, [known()], DAY) for one in (red(), another)]) == (
        "failed",
        "1 of 2 checks failed, first vector-values items.embedding",
    )


def test_each_report_shows_every_deviation_and_whether_it_still_is_one() -> None:
    deviations = [
        known(),
        known("catalogs", "agents: table x*"),
        known("canary", "items.embedding", days=-2),
    ]
    results = [
        accept(red(), deviations, DAY),
        accept(red("canary", "items.embedding"), deviations, DAY),
    ]
    first, second, third = map(str, noted(deviations, results, DAY))
    assert first == "vector-values of items.emb2: not filled yet; accepted until 2026-12-04"
    assert second.endswith(
        "accepted until 2026-12-04; nothing deviates now: take it out of the configuration"
    )
    assert third.endswith("accepted until 2026-11-25 and NO LONGER")
    assert [one.answers for one in noted(deviations, results, DAY)] == [1, 0, 1]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"check": "vector-value"}, "is no check; did you mean vector-values?"),
        ({"check": "qqqq"}, "is no check; `pgdrill checks` lists them"),
        ({"object": "*"}, "name the object"),
        ({"reason": ""}, "at least 1 character"),
        ({"until": "soon"}, "valid date"),
        ({"model": "ada@2"}, "vector-values looks at no models"),
        ({"check": "canary", "model": "ada"}, "no model@version"),
    ],
)
def test_the_configuration_refuses_one_that_means_nothing_or_everything(
    keys: dict[str, Any], words: str
) -> None:
    good = {
        "check": "vector-values",
        "object": "items.emb2",
        "reason": "why",
        "until": "2027-01-31",
    }
    cluster = {"server": {"data_directory": "/d"}, "repository": {"url": "s3://b/p"}}
    assert config.parse(
        {"clusters": {"a": {**cluster, "deviations": [good]}}}, Path("dr.toml")
    ).cluster("a").deviations[0].until == date(2027, 1, 31)
    with pytest.raises(ConfigError) as caught:
        config.parse(
            {"clusters": {"a": {**cluster, "deviations": [{**good, **keys}]}}}, Path("dr.toml")
        )
    assert words in caught.value.problem.found
