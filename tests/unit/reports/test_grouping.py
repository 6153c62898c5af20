"""Reports as text tell one cause once, most telling first; nothing is lost but in the text."""

from __future__ import annotations

from io import StringIO
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pgdrill.check_names import CHECK_NAMES
from pgdrill.reports.grouping import CAUSES, EFFECTS, Group, by_telling, grouped
from pgdrill.reports.model import CheckResult, Stage, judge
from pgdrill.reports.terminal import SafeConsole, print_results


def red(name: str, thing: str, value: Any = "changed", **more: Any) -> CheckResult:
    return CheckResult(
        name=name,
        family="x",
        status="fail",
        thing=thing,
        value=value,
        threshold="as in production",
        **more,
    )


def catalogs(*things: tuple[str, str, str]) -> list[CheckResult]:
    return [
        red("catalogs", f"agents: {thing}", how, message=catalog) for thing, how, catalog in things
    ]


def printed(results: list[CheckResult]) -> str:
    out = StringIO()
    print_results(results, SafeConsole(file=out, width=200))
    return out.getvalue()


INDEX = catalogs(
    ("index items_hnsw", "missing", "pg_class"),
    ("index items_hnsw", "missing", "pg_index"),
    ("index items_hnsw", "missing", "pg_attribute"),
)
TABLE = catalogs(
    ("column v of table items", "missing", "pg_attrdef"),
    ("table items", "missing", "pg_class"),
    ("type items", "missing", "pg_type"),
    ("type items[]", "missing", "pg_type"),
    ("constraint items_pkey on table items", "missing", "pg_constraint"),
    ("trigger t on table items", "missing", "pg_trigger"),
    ("default value for column id of table items", "missing", "pg_attrdef"),
    ("policy p on table items", "missing", "pg_policy"),
)


def test_one_index_that_is_gone_is_one_line_with_the_catalogs_that_knew_it() -> None:
    (group,) = grouped(INDEX)
    assert group.shown().thing == "agents: index items_hnsw"
    assert group.shown().message == "pg_class; pg_index; pg_attribute"


def test_a_table_and_what_belongs_to_it_is_one_line_that_names_the_table_first() -> None:
    (group,) = grouped(TABLE)
    assert (
        group.shown().thing
        == "8 things: agents: table items, agents: column v of table items, agents: type items and"
        " 5 more"
    )
    assert group.shown().value == "missing"
    assert len(list(grouped(INDEX + TABLE))) == 2


def test_what_was_done_to_one_object_and_to_another_stays_apart() -> None:
    two = catalogs(("table items", "changed", "pg_class"), ("table items2", "missing", "pg_class"))
    assert [group.shown().thing for group in grouped(two)] == [
        "agents: table items",
        "agents: table items2",
    ]


def test_a_missing_database_is_one_line_whichever_checks_miss_it() -> None:
    asked = ("table-content", "catalogs", "sequence-positions", "databases", "collations")
    results = [red(name, "billing", "no such database") for name in asked]
    (group,) = grouped(results)
    assert (group.shown().name, group.shown().thing) == ("databases", "billing")
    several = [red(name, one, "no such database") for one in ("a", "b") for name in asked]
    assert [group.shown().thing for group in grouped(several)] == ["a", "b"]


def test_one_setting_is_told_before_the_indexes_that_it_made_blind_and_those_are_one_line() -> None:
    blind = [
        red(
            "index-recall",
            f"t{n}.v (t{n}_hnsw)",
            round(0.3 + n / 100, 2),
            message=f"recall@10; loss 0.{n} (95 %: 0.1 to 0.2)",
        )
        for n in range(20)
    ]
    results = [
        *blind[:7],
        red("search-settings", "agents: hnsw.ef_search", "database: 1"),
        *blind[7:],
    ]
    first, second = grouped(results)
    assert first.shown().name == "search-settings"
    assert (
        second.shown().thing
        == "20 things: t0.v (t0_hnsw), t1.v (t1_hnsw), t2.v (t2_hnsw) and 17 more"
    )
    assert second.shown().value == "0.3 to 0.49"
    assert (
        judge(Stage(status="ok"), Stage(status="ok"), results)[1]
        == "21 of 21 checks failed, first search-settings agents: hnsw.ef_search"
    )
    text = printed(results)
    assert text.index("search-settings") < text.index("index-recall")
    assert text.count("index-recall") == 1


def test_a_restore_of_another_instant_explains_all_that_differs() -> None:
    results = [
        red("catalogs", "agents: table items"),
        red("table-content", "agents.items"),
        red("stray-timeline", "00000002.history"),
    ]
    assert [r.name for r in by_telling(results)] == ["stray-timeline", "catalogs", "table-content"]
    assert judge(Stage(status="ok"), Stage(status="ok"), results)[1].endswith(
        "first stray-timeline 00000002.history"
    )


def test_every_name_that_is_ranked_is_a_check() -> None:
    assert {*CAUSES, *EFFECTS} <= CHECK_NAMES


def test_the_worst_index_is_named_first() -> None:
    (group,) = grouped(
        [red("index-recall", f"t{n}.v", value) for n, value in enumerate((0.8, 0.1, 0.7))]
    )
    assert group.first.thing == "t1.v"


def test_two_that_say_the_same_are_two_lines() -> None:
    assert (
        len(
            list(
                grouped(
                    [
                        red("table-content", "agents.a", "other content"),
                        red("table-content", "agents.b", "other content"),
                    ]
                )
            )
        )
        == 2
    )


def test_a_warning_and_a_red_answer_are_never_one() -> None:
    warned = [one.model_copy(update={"status": "warn"}) for one in INDEX]
    text = printed([*INDEX, *warned])
    assert text.count("fail ") >= 1
    assert text.count("catalogs") == 2


THINGS = st.sampled_from(
    [
        "agents: table a",
        "agents: index a_i",
        "agents: column c of table a",
        "b: table a",
        "a.v",
        "b.v",
        "c.v",
        "d.v",
        "",
    ]
)
RESULTS = st.lists(
    st.builds(
        CheckResult,
        name=st.sampled_from(["catalogs", "index-recall", "table-content", "search-settings"]),
        family=st.just("x"),
        status=st.just("fail"),
        thing=THINGS,
        value=st.one_of(
            st.none(), st.integers(0, 9), st.floats(0, 1), st.sampled_from(["changed", "missing"])
        ),
        message=THINGS,
    )
)


@given(RESULTS)
def test_each_answer_is_in_one_group_and_each_group_is_of_one_check(
    results: list[CheckResult],
) -> None:
    groups = list(grouped(results))
    assert sorted(map(id, results)) == sorted(id(one) for group in groups for one in group.results)
    assert all(len({one.name for one in group.results}) == 1 for group in groups)
    assert [group.first.name for group in groups] == [
        r.name for r in by_telling([group.first for group in groups])
    ]
    for group in groups:
        assert group.shown().thing or not any(group.things)


def test_figures_that_are_each_held_against_another_are_told_of_the_first_alone() -> None:
    slow = [
        red("search-latency", f"t{n}.v", f"{8 + n}.0 ms warm").model_copy(
            update={"threshold": f"<= {6 + n}.2 ms warm"}
        )
        for n in range(3)
    ]
    shown = Group(tuple(slow)).shown()
    assert (shown.value, shown.threshold) == ("first: 8.0 ms warm", "<= 6.2 ms warm")
