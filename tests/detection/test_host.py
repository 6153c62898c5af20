"""A host that restores with other libraries, other databases or another order of text than
production is named.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgdrill.baseline import Baseline
from tests.detection.conftest import Copy, Mould, copied

FAMILIES = ("schema",)


@pytest.fixture(scope="module")
def healthy(mould: Mould) -> Iterator[Copy]:
    """One copy for all that leave it as it is: what differs is what production had."""
    with copied(mould, FAMILIES) as made:
        yield made


@pytest.fixture
def other(mould: Mould) -> Baseline:
    """A baseline to change."""
    return mould.baseline.model_copy(deep=True)


def _as_default_collation_on_production(baseline: Baseline, **update: str) -> None:
    collations = baseline.databases["agents"].collations
    collations["default"] = collations["default"].model_copy(update=update)


def test_a_library_of_another_version_sorts_otherwise_until_reindexed(
    healthy: Copy, other: Baseline
) -> None:
    _as_default_collation_on_production(other, actual="2.31")
    (found,) = healthy.red("schema", baseline=other)["collations"]
    assert found.startswith("agents: default no version")
    assert "REINDEX" in found
    (answer,) = [
        r
        for r in healthy.results("schema", baseline=other)
        if r.name == "collations" and r.status == "fail"
    ]
    assert (answer.threshold, "REFRESH COLLATION VERSION" in answer.hint) == (
        "2.31, as on production",
        True,
    )


def test_another_order_of_text_is_found_where_the_library_tells_no_version(
    healthy: Copy, other: Baseline
) -> None:
    _as_default_collation_on_production(other, order="0" * 16)
    (found,) = healthy.red("schema", baseline=other)["collations"]
    assert "sorts otherwise" in found


def test_a_version_that_production_itself_has_not_caught_up_with_is_a_warning(
    copy: Copy, other: Baseline
) -> None:
    copy.sql("UPDATE pg_database SET datcollversion = '2.28' WHERE datname = 'agents'")
    (answer,) = [
        r
        for r in copy.results("schema", baseline=other)
        if r.name == "collations" and r.status != "pass"
    ]
    assert (answer.status, answer.threshold) == ("warn", "2.28, with which its objects were made")
    assert any("database agents" in line for line in copy.red("schema", baseline=other)["catalogs"])


def test_a_database_of_another_encoding_is_named(copy: Copy) -> None:
    copy.sql("UPDATE pg_database SET encoding = 8 WHERE datname = 'postgres'")
    (found,) = copy.red("schema")["databases"]
    assert found.startswith("postgres LATIN1")


def test_a_missing_and_a_surplus_database_are_named(copy: Copy, other: Baseline) -> None:
    other.database_forms["billing"] = other.database_forms["agents"]
    other.databases["billing"] = other.databases["agents"]
    other.database_forms_later = None
    copy.sql("CREATE DATABASE surplus")
    found = copy.red("schema", "rows", baseline=other)
    assert sorted(found["databases"]) == [
        "billing no such database ",
        f"surplus {other.database_forms['agents']} ",
    ]
    assert all(
        any(line.startswith("billing no such database") for line in found[name])
        for name in (
            "catalogs",
            "table-content",
            "sequence-positions",
            "collations",
            "extension-versions",
        )
    )


def test_a_database_that_production_made_and_dropped_around_the_restore_point_is_no_alarm(
    copy: Copy, other: Baseline
) -> None:
    other.end_xid = int(str(copy.one("SELECT pg_snapshot_xmax(pg_current_snapshot())"))) + 100
    copy.sql("CREATE DATABASE passing")
    assert "databases" not in copy.red("schema", baseline=other)
    other.end_xid = other.oldest_xid + 1  # made by nobody who may have been at it
    assert "databases" in copy.red("schema", baseline=other)


def test_what_production_changed_meanwhile_is_allowed_in_either_state(
    healthy: Copy, other: Baseline
) -> None:
    other.database_forms["dropped"] = other.database_forms["agents"]
    other.databases["dropped"] = other.databases["agents"]
    other.databases["agents"].extensions["vector"] = "0.7.0"
    other.databases["agents"].extensions_later = dict(
        other.databases["agents"].extensions, vector="0.8.6"
    )
    assert healthy.red("schema", baseline=other) == {}


def test_another_major_version_is_red_and_nothing_is_compared_with_it(
    healthy: Copy, other: Baseline
) -> None:
    other.settings["server_version"] = "16.9"
    answers = healthy.results("schema", "rows", baseline=other)
    assert [r.name for r in answers if r.status == "fail"] == ["server-version"]
    skipped = [
        r
        for r in answers
        if r.name
        in ("catalogs", "table-content", "sequence-positions", "state-tables", "collations")
    ]
    assert {(r.status, r.required) for r in skipped} == {("skip", True)}
    assert all("16" in r.message for r in skipped)


def test_a_library_of_another_version_or_none_at_all_is_named(
    healthy: Copy, other: Baseline
) -> None:
    other.databases["agents"].libraries["vector"] = "0.7.0"
    answers = {
        r.thing: r.status
        for r in healthy.results("schema", baseline=other)
        if r.name == "extension-libraries"
    }
    assert answers["agents.vector"] == "warn"
