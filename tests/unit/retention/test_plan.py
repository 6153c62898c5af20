"""The planner on histories that a person can follow: what stays, what goes, and in which words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pgdrill.config import Retention
from pgdrill.errors import Problem
from pgdrill.postgres.wal import Segment, TimelineSwitch
from pgdrill.repository.wal_ranges import Run, Wal
from pgdrill.retention.inventory import (
    Backup,
    Dump,
    Hold,
    Inventory,
    Leftover,
    ToolRules,
    Unreadable,
)
from pgdrill.retention.plan import Plan, make_plan
from pgdrill.retention.promises import evaluate
from pgdrill.retention.refusals import clock_refusal, refusals
from pgdrill.retention.unused_objects import findings
from pgdrill.retention.window import window_of

NOW = datetime(2026, 11, 21, 14, tzinfo=UTC)  # a Saturday
SIZE = 16 * 2**20
DAY = timedelta(days=1)
POLICY = Retention(dumps_monthly=0)
EACH = 10  # segments from one Sunday to the next


def backup(weeks_ago: int, **more: object) -> Backup:
    """The Sunday backup of some weeks ago, in the segment of ten times its number."""
    number = 20 - weeks_ago
    started = datetime(2026, 11, 15, 2, tzinfo=UTC) - 7 * DAY * weeks_ago
    first = number * EACH
    made = Backup(
        f"base_{Segment(1, first).name}",
        7,
        18,
        1,
        first * SIZE + 40,
        (first + 1) * SIZE - 8,
        started,
        started + timedelta(hours=1),
        stored_bytes=1000,
    )
    return replace(made, **more)


def inventory(*backups: Backup, **more: object) -> Inventory:
    first = min(b.start_lsn for b in backups) // SIZE
    made = Inventory(
        backups, Wal((Run(1, first, 209, (210 - first) * 10),)), drilled={backups[-1].name: NOW}
    )
    return replace(made, **more)


SUNDAYS = tuple(backup(ago) for ago in range(15, -1, -1))
FULL = inventory(*SUNDAYS)


def stays(plan: Plan, name: str) -> str:
    """The reasons why something stays; empty if it goes."""
    decision = next(d for d in plan.decisions if d.name == name)
    return "; ".join(decision.why) if decision.stays else ""


def reasons(found: list[Problem]) -> list[str]:
    assert all(all((p.thing, p.found, p.expected, p.hint)) for p in found), (
        "every refusal names its hint"
    )
    return [problem.reason for problem in found]


def test_thirteen_weeks_and_thirty_five_days_stay_and_the_rest_goes() -> None:
    plan = make_plan(FULL, POLICY, NOW)
    assert plan.going("backup") == {b.name for b in SUNDAYS[:3]}
    anchor = backup(5)  # 11 October: the newest that ended before 17 October, 14:00
    assert plan.anchor == anchor.name
    assert "anchor" in stays(plan, anchor.name)
    assert "window" in stays(plan, backup(4).name)
    assert "weekly: newest of 2026-W34" in stays(plan, backup(12).name)
    assert [s.name for s in plan.steps if s.kind == "mark"] == [
        backup(ago).name for ago in range(12, 5, -1)
    ]
    assert next(s for s in plan.steps if s.kind == "delete-wal").name == Segment(1, 150).name
    own = {backup(ago).start_lsn // SIZE for ago in range(12, 5, -1)}
    assert {n for run in plan.wal for n in range(run.first, run.last + 1)} == set(
        range(50, 150)
    ) - own
    kinds = [step.kind for step in plan.steps]
    assert kinds == sorted(kinds, key=["mark", "delete-backup", "delete-wal"].index), (
        "what protects comes first"
    )


def test_every_promise_is_shown_before_and_after_with_what_is_to_spare() -> None:
    plan = make_plan(FULL, POLICY, NOW)
    before, after = ({p.name: p for p in promises} for promises in (plan.before, plan.after))
    assert set(before) == {"window", "weekly", "drilled"}
    assert (before["window"].found, after["window"].found) == (111.458, 41.458)
    assert after["window"].slack == 6.458
    assert all(promise.kept for promise in plan.after)
    assert plan.next_deletion_at == backup(4).finish_time + 35 * DAY


def test_a_young_cluster_loses_nothing_and_is_refused_nothing() -> None:
    young = inventory(backup(2), backup(1), backup(0))
    plan = make_plan(young, POLICY, NOW)
    assert plan.steps == ()
    assert refusals(young, plan, POLICY, NOW) == []
    assert not next(p for p in plan.before if p.name == "weekly").kept


def test_a_pause_in_backing_up_deletes_nothing() -> None:
    later = NOW + 300 * DAY
    assert make_plan(inventory(*SUNDAYS[3:]), POLICY, later).going("backup") == set()


def test_the_last_backup_that_passed_a_drill_stays_however_old() -> None:
    old = replace(FULL, drilled={SUNDAYS[0].name: NOW - 90 * DAY})
    plan = make_plan(old, POLICY, NOW)
    assert "drilled" in stays(plan, SUNDAYS[0].name)
    assert SUNDAYS[1].name in plan.going("backup")


def test_a_hold_keeps_until_its_day_and_says_why() -> None:
    held = replace(
        FULL,
        holds=(
            Hold(SUNDAYS[1].name, "case 77/26", NOW + DAY),
            Hold(SUNDAYS[2].name, "over", NOW - DAY),
        ),
    )
    plan = make_plan(held, POLICY, NOW)
    assert "case 77/26" in stays(plan, SUNDAYS[1].name)
    assert SUNDAYS[2].name in plan.going("backup")
    assert SUNDAYS[1].name in {s.name for s in plan.steps if s.kind == "mark"}
    later = make_plan(
        replace(
            held,
            backups=tuple(
                replace(b, mark="pgdrill" if b.name == SUNDAYS[1].name else "") for b in SUNDAYS
            ),
        ),
        POLICY,
        NOW + 2 * DAY,
    )
    steps = [(s.kind, s.name) for s in later.steps]
    assert steps.index(("unmark", SUNDAYS[1].name)) + 1 == steps.index(
        ("delete-backup", SUNDAYS[1].name)
    )


def test_grandfathers_stay_beside_the_promises() -> None:
    plan = make_plan(FULL, Retention(monthly=5, yearly=1, dumps_monthly=0), NOW)
    assert "monthly: newest of 2026-08" in stays(plan, backup(11).name)
    assert plan.going("backup") == {SUNDAYS[0].name, SUNDAYS[1].name, SUNDAYS[2].name}
    assert make_plan(FULL, Retention(weekly=1, dumps_monthly=0), NOW).going("backup") > plan.going(
        "backup"
    )


def test_a_delta_keeps_what_it_builds_on_and_both_are_marked() -> None:
    chain = tuple(replace(b, parent=SUNDAYS[0].name) if b == SUNDAYS[4] else b for b in SUNDAYS)
    plan = make_plan(replace(FULL, backups=chain), POLICY, NOW)
    assert stays(plan, SUNDAYS[0].name) == f"chain: {SUNDAYS[4].name} builds on it"
    assert {SUNDAYS[0].name, SUNDAYS[4].name} <= {s.name for s in plan.steps if s.kind == "mark"}


def test_deltas_go_before_what_they_build_on() -> None:
    chain = tuple(replace(b, parent=SUNDAYS[0].name) if b == SUNDAYS[1] else b for b in SUNDAYS)
    deletions = [
        s.name
        for s in make_plan(replace(FULL, backups=chain), POLICY, NOW).steps
        if s.kind == "delete-backup"
    ]
    assert deletions[:2] == [SUNDAYS[1].name, SUNDAYS[0].name]


def test_a_damaged_backup_is_no_anchor_and_fills_no_week() -> None:
    hurt = tuple(
        replace(b, damage="part missing") if b.name in (backup(5).name, backup(9).name) else b
        for b in SUNDAYS
    )
    plan = make_plan(replace(FULL, backups=hurt), POLICY, NOW)
    assert plan.anchor == backup(6).name
    assert backup(9).name in plan.going("backup")
    assert "weekly" in stays(plan, backup(13).name), "an older week takes the place"
    assert "although damaged" in stays(plan, backup(5).name)


def test_a_backup_from_the_future_or_with_a_wrong_clock_moves_nothing() -> None:
    plain = make_plan(FULL, POLICY, NOW)
    for wrong in (
        replace(backup(0), start_time=NOW + 200 * DAY, finish_time=NOW + 200 * DAY),
        replace(backup(3), start_time=NOW - 400 * DAY, finish_time=NOW - 400 * DAY),
    ):
        known = replace(
            FULL,
            backups=tuple(wrong if b.name == wrong.name else b for b in SUNDAYS),
            drilled={backup(1).name: NOW},
        )
        plan = make_plan(known, POLICY, NOW)
        assert plan.anchor == plain.anchor
        assert plan.going("backup") <= plain.going("backup")
        assert "moves nothing" in stays(plan, wrong.name)
        assert wrong.name in plan.doubts


def test_two_exchanged_clocks_are_both_doubted() -> None:
    a, b = backup(8), backup(7)
    swapped = tuple(
        (
            replace(it, start_time=other.start_time, finish_time=other.finish_time)
            if it.name == me.name
            else it
        )
        for it in SUNDAYS
        for me, other in [(a, b) if it.name == a.name else (b, a)]
    )
    assert set(make_plan(replace(FULL, backups=swapped), POLICY, NOW).doubts) == {a.name, b.name}


def test_an_unreadable_backup_keeps_everything_older_and_its_wal_and_is_refused() -> None:
    broken = Unreadable("base_X", "no JSON", (1, 55))
    known = replace(FULL, unreadable=(broken,))
    plan = make_plan(known, POLICY, NOW)
    assert "unreadable" in stays(plan, SUNDAYS[0].name), "segment 50 is before 55"
    assert SUNDAYS[1].name in plan.going("backup"), "segment 60 is not"
    assert plan.wal == ()
    assert reasons(refusals(known, plan, POLICY, NOW)) == ["inventory-incomplete"]
    nowhere = make_plan(replace(FULL, unreadable=(replace(broken, position=None),)), POLICY, NOW)
    assert nowhere.going("backup") == set()


def test_another_system_is_not_mixed_and_goes_only_when_named_and_old() -> None:
    other = replace(
        backup(15),
        name="base_000000010000000000000005",
        system_identifier=6,
        major_version=17,
        start_lsn=5 * SIZE,
    )
    known = replace(FULL, backups=(other, *SUNDAYS))
    plan = make_plan(known, POLICY, NOW)
    assert "another cluster's" in stays(plan, other.name)
    assert make_plan(known, POLICY, NOW, named=[other.name]).going("backup") == plan.going(
        "backup"
    ) | {other.name}
    young = replace(other, start_time=NOW - DAY, finish_time=NOW - DAY)
    named = make_plan(
        replace(known, backups=(young, *SUNDAYS), system_identifier=7),
        POLICY,
        NOW,
        named=[other.name],
    )
    assert "another cluster's" in stays(named, other.name)


def test_production_restored_to_an_earlier_time_keeps_what_leads_to_both_ways() -> None:
    """Timeline 2 left timeline 1 three weeks ago and has no backup yet: only backups from before
    that lead there.
    """
    wal = Wal(
        (Run(1, 50, 209, 1600), Run(2, 175, 230, 500)), {2: (TimelineSwitch(1, 175 * SIZE + 5),)}
    )
    plan = make_plan(
        replace(FULL, wal=wal), Retention(window_days=10, weekly=2, dumps_monthly=0), NOW
    )
    assert plan.anchor == backup(3).name, "the newest that timeline 2 can start from"
    assert plan.going("backup") == {b.name for b in SUNDAYS[:12]}


def test_wal_stays_where_the_anchor_is_marked_by_hand() -> None:
    """wal-g would take the next backup for the oldest, and delete what the anchor needs to go
    on."""
    marked = tuple(replace(b, mark="hand") if b.name == backup(5).name else b for b in SUNDAYS)
    plan = make_plan(replace(FULL, backups=marked), POLICY, NOW)
    assert plan.wal == ()
    assert "marked permanent by hand" in plan.wal_words
    assert "delete-wal" not in {step.kind for step in plan.steps}


def test_barman_frees_wal_with_the_oldest_backup_only() -> None:
    rules = ToolRules(marks=False, wal_alone=False)
    plan = make_plan(replace(FULL, rules=rules), POLICY, NOW)
    assert {s.kind for s in plan.steps} == {"delete-backup", "delete-wal"}
    assert [(run.first, run.last) for run in plan.wal] == [(50, 79)], "up to the oldest that stays"
    assert make_plan(replace(inventory(*SUNDAYS[3:]), rules=rules), POLICY, NOW).wal == ()


def test_a_gap_in_the_window_is_refused_and_may_be_allowed_by_hand() -> None:
    gap = replace(FULL, wal=Wal((Run(1, 50, 180, 1310), Run(1, 183, 209, 270))))
    plan = make_plan(gap, POLICY, NOW)
    (problem,) = refusals(gap, plan, POLICY, NOW)
    assert problem.reason == "wal-gap"
    assert Segment(1, 181).name in problem.found
    assert refusals(gap, plan, POLICY, NOW, ["wal-gap"]) == []
    before = replace(FULL, wal=Wal((Run(1, 50, 120, 710), Run(1, 125, 209, 850))))
    assert reasons(refusals(before, make_plan(before, POLICY, NOW), POLICY, NOW)) == [], (
        "before the window it harms nothing"
    )


def test_too_much_at_once_is_refused() -> None:
    small = Retention(weekly=1, dumps_monthly=0)
    plan = make_plan(FULL, small, NOW)
    assert reasons(refusals(FULL, plan, small, NOW)) == ["too-much"]
    assert refusals(FULL, plan, small, NOW, ["too-much"]) == []


def test_nothing_goes_while_nothing_is_proved() -> None:
    unproved = replace(FULL, drilled={})
    plan = make_plan(unproved, POLICY, NOW)
    assert reasons(refusals(unproved, plan, POLICY, NOW)) == ["nothing-proved"]
    assert refusals(unproved, plan, Retention(require_drill=False, dumps_monthly=0), NOW) == []


def test_a_plan_that_would_break_a_promise_is_refused_whoever_allows_it() -> None:
    plan = make_plan(FULL, POLICY, NOW)
    worse = replace(
        plan, after=tuple(replace(p, found=3) if p.name == "weekly" else p for p in plan.after)
    )
    assert reasons(refusals(FULL, worse, POLICY, NOW, ["promise-worse", "too-much"])) == [
        "promise-worse"
    ]


def test_a_clock_that_differs_from_the_stores_is_refused() -> None:
    assert clock_refusal(NOW, NOW + timedelta(minutes=4)) is None
    problem = clock_refusal(NOW + 300 * DAY, NOW)
    assert problem
    assert problem.reason == "clock"


def test_leftovers_go_only_when_named_and_old() -> None:
    old, new = Leftover("base_old", 500, NOW - 30 * DAY), Leftover("base_new", 700, NOW - DAY)
    known = replace(FULL, leftovers=(old, new))
    assert make_plan(known, POLICY, NOW).going("leftover") == set()
    assert make_plan(known, POLICY, NOW, named=["base_old", "base_new"]).going("leftover") == {
        "base_old"
    }


def test_a_timeline_that_does_not_lead_to_now_goes_only_when_named_old_and_no_backups() -> None:
    """Timeline 5 was archived by a clone, from before the first backup; its history file is not WAL
    and is no part of it.
    """
    wal = Wal((Run(1, 50, 209, 1600), Run(5, 400, 402, 30)), {5: (TimelineSwitch(1, 20 * SIZE),)})
    known = replace(FULL, wal=wal, written={5: NOW - 30 * DAY})
    name = "00000005"
    assert "abandoned; removed when named" in stays(make_plan(known, POLICY, NOW), name)
    plan = make_plan(known, POLICY, NOW, named=[name])
    assert plan.going("timeline") == {name}
    assert plan.steps[-1].kind == "delete-timeline"
    assert plan.lines == (Run(5, 400, 402, 30),)
    assert plan.freed_bytes == make_plan(known, POLICY, NOW).freed_bytes + 30
    # lately; four days before the newest backup; nobody knows
    for written in ({5: NOW - DAY}, {5: NOW - 10 * DAY}, {}):
        lately = make_plan(replace(known, written=written), POLICY, NOW, named=[name])
        assert "production may be on it" in stays(lately, name), written
    own = replace(
        backup(14),
        name="base_clone",
        system_identifier=6,
        timeline=5,
        start_lsn=400 * SIZE + 40,
        finish_lsn=401 * SIZE,
    )
    assert "base_clone is of it" in stays(
        make_plan(replace(known, backups=(*SUNDAYS, own)), POLICY, NOW, named=[name]), name
    )
    broken = replace(known, unreadable=(Unreadable("base_X", "no JSON", (1, 55)),))
    assert "unreadable" in stays(make_plan(broken, POLICY, NOW, named=[name]), name)
    assert make_plan(known, POLICY, NOW, named=["00000001"]).going("timeline") == frozenset(), (
        "production's own"
    )


def test_a_clone_of_a_higher_number_does_not_hide_the_timeline_that_production_was_promoted_to() -> (  # noqa: E501
    None
):
    wal = Wal(
        (Run(1, 50, 204, 1550), Run(2, 205, 209, 50), Run(3, 5, 6, 20)),
        {2: (TimelineSwitch(1, 205 * SIZE),), 3: (TimelineSwitch(1, 5 * SIZE),)},
    )
    known = replace(FULL, backups=SUNDAYS[:-1], wal=wal, written={2: NOW, 3: NOW - 30 * DAY})
    assert {found.name for found in findings(known, POLICY, NOW)} == {"00000003"}
    assert window_of("agents", known, POLICY, NOW).timeline == 2
    assert make_plan(known, POLICY, NOW, named=["00000002", "00000003"]).going("timeline") == {
        "00000003"
    }


def test_twelve_months_of_good_dumps_stay() -> None:
    dumps = tuple(
        Dump(f"d{n:02}", NOW - n * 31 * DAY, 10, "no restore of it has passed" if n == 3 else "")
        for n in range(15)
    )
    plan = make_plan(replace(FULL, dumps=dumps), Retention(), NOW)
    assert plan.going("dump") == {"d03", "d13", "d14"}
    newest_bad = (replace(dumps[0], damage="x"), *dumps[1:])
    assert "although damaged" in stays(
        make_plan(replace(FULL, dumps=newest_bad), Retention(), NOW), "d00"
    )


def test_what_lies_about_is_found_with_its_size() -> None:
    wal = Wal((Run(1, 30, 209, 1800), Run(5, 400, 402, 30)), {5: (TimelineSwitch(1, 20 * SIZE),)})
    other = replace(backup(15), name="base_000000010000000000000005", system_identifier=6)
    found = {
        f.kind: f
        for f in findings(
            replace(FULL, wal=wal, backups=(*SUNDAYS, other), leftovers=(Leftover("l", 5, NOW),)),
            POLICY,
            NOW,
        )
    }
    assert set(found) == {"leftover", "orphaned-wal", "foreign-timeline", "foreign-system"}
    assert found["orphaned-wal"].stored_bytes == 200
    assert "20 segments" in found["orphaned-wal"].words
    assert (found["foreign-timeline"].name, found["foreign-timeline"].stored_bytes) == (
        "00000005",
        30,
    )


def test_the_window_shows_spans_gaps_volumes_and_a_forecast() -> None:
    gap = replace(FULL, wal=Wal((Run(1, 50, 180, 1310), Run(1, 183, 209, 270))))
    window = window_of("agents", gap, POLICY, NOW)
    first, second = window.spans
    assert (first.start, first.end) == (SUNDAYS[0].finish_time, backup(2).finish_time)
    assert (second.start, second.end) == (backup(1).finish_time, None)
    assert window.wal_bytes_a_day == pytest.approx(10 * 10 / 7, rel=0.01)
    assert window.backup_bytes_a_day == pytest.approx(1000 / 7, rel=0.01)
    assert window.stored_bytes == 16 * 1000 + 1580
    assert window.forecast_30_days_bytes is not None
    assert window.forecast_30_days_bytes <= window.stored_bytes + 30 * (1100 / 7)


def test_after_a_switch_only_the_new_timelines_file_goes_on() -> None:
    history = {2: (TimelineSwitch(1, 205 * SIZE + 100),)}
    newest = replace(
        backup(0), timeline=2, name="base_n", start_lsn=208 * SIZE + 40, finish_lsn=209 * SIZE - 1
    )
    whole = Wal((Run(1, 50, 205, 1560), Run(2, 205, 209, 50)), history)
    without = Wal((Run(1, 50, 205, 1560), Run(2, 206, 209, 40)), history)
    backups = (*SUNDAYS[:-1], newest)
    found = [
        next(p.found for p in evaluate(replace(FULL, backups=backups, wal=wal), POLICY, NOW))
        for wal in (whole, without)
    ]
    assert found[0] > 100
    assert found[1] < 8
