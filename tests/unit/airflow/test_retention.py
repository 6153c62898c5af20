"""Retention's DAG and operators: nobody's approval is passed over, and a dry run is the default."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from pgdrill.airflow.operators import (
    PruneOperator,
    RetentionBranchOperator,
    RetentionRefusedOperator,
)
from pgdrill.airflow.operators.retention_approval import approved_plan
from pgdrill.errors import CouldNotVerify, Problem
from pgdrill.repository import prune_runs
from pgdrill.retention import prune as apply
from pgdrill.retention import refusals as guards
from pgdrill.retention.formats import plan_markdown
from pgdrill.retention.inventory import Hold, Leftover
from pgdrill.retention.plan import make_plan
from pgdrill.retention.prune import Outlook, PruneResult
from pgdrill.retention.terminal import plan_lines
from tests.unit.retention.test_plan import FULL, NOW, POLICY

PLAN = {
    "digest": "abc",
    "steps": [{"kind": "delete-backup", "name": "base_1"}],
    "refusals": [],
    "first_run": False,
}
RESULT = PruneResult(
    "agents", True, "abc", 13, 1, 0, 9, 1000, [], [], [], [], NOW, "s3://bucket/j.json"
)


@pytest.fixture
def dag(write_config: Any) -> DAG:
    read = DagBag(str(Path(__file__).parents[3] / "dags"))
    assert not read.import_errors
    return read.dags["agents.retention"]


def context(run_type: str, plan: dict[str, Any] | None = None, **params: Any) -> Any:
    return {
        "dag_run": SimpleNamespace(run_type=run_type),
        "params": params,
        "ti": SimpleNamespace(xcom_pull=lambda task_ids: plan or PLAN),
    }


def next_tasks(run_type: str, plan: dict[str, Any] | None = None, **params: Any) -> list[str]:
    return RetentionBranchOperator(
        task_id="choose", planned="plan", approve="approve", prune="prune", refused="refused"
    ).choose_branch(context(run_type, plan, **params))


def test_it_follows_each_base_backup_and_deletes_nothing_by_hand_unless_told(dag: DAG) -> None:
    timetable = DagSerialization.to_dict(dag)["dag"]["timetable"]["__var"]
    assert "agents.base_backups" in str(timetable)
    assert {name: dag.params[name] for name in dag.params} == {
        "apply": False,
        "also": [],
        "allow": [],
    }
    assert dag.get_task("plan").apply is False
    prune = dag.get_task("prune")
    assert prune.apply is True
    assert "digest" in prune.approved, "what is done is what was planned"
    assert prune.trigger_rule == "none_failed_min_one_success", "a rejected approval skips it"
    assert dag.get_task("approve").defaults == ["Reject"]


@pytest.mark.parametrize(
    "conf",
    [{"apply": "perhaps"}, {"also": ["../x"]}, {"allow": ["promise-worse"]}, {"allow": ["clock"]}],
)
def test_its_params_refuse_what_cannot_work(dag: DAG, conf: dict[str, Any]) -> None:
    for name, value in conf.items():
        with pytest.raises(ParamValidationError):
            dag.params[name] = value
            dag.params.validate()


def test_a_person_approves_runs_by_hand_and_the_first_one_and_no_other() -> None:
    assert next_tasks("manual", apply=True) == ["approve"]
    assert next_tasks("manual", apply=False) == []
    assert next_tasks("asset_triggered", apply=False) == ["prune"]
    assert next_tasks("scheduled", {**PLAN, "first_run": True}) == ["approve"]
    assert next_tasks("asset_triggered", {**PLAN, "steps": []}) == []


def test_what_is_refused_is_never_put_to_a_person_to_approve() -> None:
    refused = {**PLAN, "refusals": [{"reason": "wal-gap"}], "first_run": True}
    assert next_tasks("asset_triggered", refused) == ["refused"], "which is red and says why"
    assert next_tasks("manual", refused, apply=True) == ["refused"]


def test_something_held_that_is_gone_is_red_whatever_the_plan() -> None:
    broken = {**PLAN, "steps": [], "refusals": [{"reason": "hold-broken"}]}
    for run_type in ("manual", "scheduled", "asset_triggered"):
        assert next_tasks(run_type, broken, apply=False) == ["refused"]


def test_what_is_missing_is_red_even_if_nothing_is_to_go_and_a_first_run_waits_for_a_person() -> (
    None
):
    lost = {**PLAN, "steps": [], "refusals": [{"reason": "missing"}]}
    assert next_tasks("asset_triggered", lost) == ["refused"]
    assert next_tasks("manual", lost, apply=True) == ["refused"]
    assert next_tasks("manual", lost, apply=False) == []
    first = {**PLAN, "refusals": [{"reason": "first-run"}], "first_run": True}
    assert next_tasks("asset_triggered", first) == ["approve"]
    assert next_tasks(
        "asset_triggered", {**first, "refusals": [*first["refusals"], {"reason": "missing"}]}
    ) == ["refused"]


@pytest.fixture
def given(write_config: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the library is called with."""
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(
        apply, "prune", lambda access, runner, **words: seen.append(words) or RESULT
    )
    monkeypatch.setattr(
        "pgdrill.airflow.hooks.ClusterHook.get_conn",
        lambda hook: SimpleNamespace(cluster=SimpleNamespace(retention=POLICY)),
    )
    return seen


@pytest.mark.parametrize("started", ["asset_triggered", "manual"])
def test_a_persons_approval_and_nothing_else_lets_a_first_run_pass(
    given: list[dict[str, Any]], started: str
) -> None:
    PruneOperator(
        task_id="prune",
        cluster="agents",
        apply=True,
        approved="abc",
        approval="abc",
        first_run=True,
    ).execute(context(started))
    PruneOperator(task_id="prune", cluster="agents", apply=True, approved="abc").execute(
        context("asset_triggered")
    )
    assert [words["allowed"] for words in given] == [("first-run",), ()]


@pytest.mark.parametrize(
    ("started", "first_run"), [("manual", False), ("asset_triggered", True), ("manual", True)]
)
@pytest.mark.parametrize("approval", ["", "def"])
def test_whatever_is_marked_or_cleared_a_plan_that_nobody_approved_is_not_carried_out(
    given: list[dict[str, Any]], started: str, first_run: bool, approval: str
) -> None:
    """Marked a success, or skipped, `approve` has no answer; a plan that was made anew has another
    digest.
    """
    task = PruneOperator(
        task_id="prune",
        cluster="agents",
        apply=True,
        approved="abc",
        approval=approval,
        first_run=first_run,
    )
    with pytest.raises(AirflowFailException, match=r"(?s)plan abc: found .*Hint: clear `plan`"):
        task.execute(context(started))
    assert not given


@pytest.mark.parametrize(
    ("answer", "approved"),
    [
        (None, ""),
        ({}, ""),
        ({"chosen_options": ["Reject"], "plan": "abc"}, ""),
        ({"chosen_options": ["Approve"], "plan": "abc"}, "abc"),
    ],
)
def test_an_answer_is_an_approval_of_the_plan_that_was_shown(
    answer: dict[str, Any] | None, approved: str
) -> None:
    assert approved_plan(answer) == approved


def test_a_refused_plan_ends_in_words_with_every_figure_and_hint(write_config: Any) -> None:
    problems = [
        asdict(Problem(reason, "share", f"{reason}: 90 % would go", "30 %", f"allow {reason}"))
        for reason in ("too-much", "wal-gap")
    ]
    with pytest.raises(AirflowFailException) as caught:
        RetentionRefusedOperator(task_id="refused", planned="plan").execute(
            context("manual", {**PLAN, "refusals": problems})
        )
    for reason in ("too-much", "wal-gap"):
        assert f"{reason}: 90 % would go" in str(caught.value)
        assert f"Hint: allow {reason}" in str(caught.value)


def test_what_was_let_pass_is_named_with_its_figures_in_the_text_that_is_approved() -> None:
    much = Problem(
        "too-much",
        "share of the bytes",
        "90% would go (9 of 10 base backups)",
        "at most 30%",
        "look at the plan",
    )
    first = Problem(
        "first-run", "retention's memory", "none", "what earlier runs remembered", "allow it"
    )
    text = plan_markdown(
        "agents", Outlook(NOW, FULL, make_plan(FULL, POLICY, NOW), (first,), (much,))
    )
    assert "**Let pass, as was asked**" in text
    assert "`too-much`: share of the bytes: found 90% would go" in text
    assert "**Refused, unless a person approves it**" in text
    assert "**Refused**" not in text


def test_nothing_that_others_named_means_anything_in_the_plan_that_a_person_approves() -> None:
    evil = "x`](http://evil) | <script> **b**\n# Approve\x1b]52;c;eA==\x07"
    hold = Hold(FULL.backups[0].name, evil, NOW + timedelta(days=1))
    lost = Problem("missing", evil, evil, evil, evil)
    inventory = replace(FULL, holds=(hold,), leftovers=(Leftover(evil, 1, NOW),))
    text = plan_markdown(
        "agents", Outlook(NOW, inventory, make_plan(inventory, POLICY, NOW), (lost,))
    )
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith("#")]
    assert not re.search(r"(?<!\\)(\]\(|<script|\*\*b)", re.sub(r"`[^`\n]*`", "", text))


def test_the_choices_of_allow_are_those_of_the_library(dag: DAG) -> None:
    assert tuple(dag.params.get_param("allow").schema["items"]["enum"]) == guards.MAY_BE_ALLOWED


def test_parameters_count_in_runs_by_hand_only(given: list[dict[str, Any]]) -> None:
    operator = PruneOperator(
        task_id="prune",
        cluster="agents",
        apply=True,
        approved="abc",
        approval="abc",
        also=["x", "y"],
        allow=["too-much"],
    )
    found = operator.execute(context("manual"))
    operator.execute(context("asset_triggered"))
    assert (given[0]["named"], given[0]["allowed"], given[0]["approved"]) == (
        ("x", "y"),
        ("too-much", "first-run"),
        "abc",
    )
    assert (given[1]["named"], given[1]["allowed"]) == ((), ())
    assert found["next_deletion_at"] == f"{NOW:%Y-%m-%dT%H:%M:%SZ}"
    assert found["backups_deleted"] == 1


def test_a_dry_run_hands_on_the_plan_its_digest_and_its_text(
    write_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(FULL, POLICY, NOW)
    monkeypatch.setattr(apply, "look", lambda access, runner, **words: Outlook(NOW, FULL, plan, ()))
    monkeypatch.setattr(prune_runs, "runs", lambda reports: [])
    cluster = SimpleNamespace(name="agents", retention=POLICY)
    monkeypatch.setattr(
        "pgdrill.airflow.hooks.ClusterHook.get_conn",
        lambda hook: SimpleNamespace(cluster=cluster, reports=None),
    )
    found = PruneOperator(task_id="plan", cluster="agents").execute(context("manual"))
    assert found["digest"] == plan.digest
    assert found["first_run"] is True
    assert len(found["steps"]) == len(plan.steps)
    for decision in plan.decisions:
        assert decision.name in found["text"]
        assert decision.why[0] in found["text"]


def test_a_refusal_is_not_tried_again(write_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise CouldNotVerify(
            "too-much", "share", found="90 %", expected="30 %", hint="look at the plan"
        )

    monkeypatch.setattr(apply, "prune", refuse)
    monkeypatch.setattr(
        "pgdrill.airflow.hooks.ClusterHook.get_conn",
        lambda hook: SimpleNamespace(cluster=SimpleNamespace(retention=POLICY)),
    )
    with pytest.raises(AirflowFailException, match="look at the plan"):
        PruneOperator(task_id="prune", cluster="agents", apply=True).execute(
            context("asset_triggered")
        )


def test_the_runbook_names_every_refusal_that_the_documentation_does(dag: DAG) -> None:
    project = Path(__file__).parents[3]
    table = (
        (project / "docs" / "explanation" / "retention.md")
        .read_text()
        .partition("## Refusals")[2]
        .partition("## ")[0]
    )
    reasons = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    runbook = (project / "dags" / "retention.py").read_text()
    assert len(reasons) > 15
    assert [reason for reason in reasons if f"| `{reason}` |" not in runbook] == []


def test_a_plan_in_a_task_s_log_is_words_and_no_markdown() -> None:
    lines = plan_lines("agents", Outlook(NOW, FULL, make_plan(FULL, POLICY, NOW), ()), [])
    assert lines[0].startswith("Cluster agents: ")
    assert not [line for line in lines if line.startswith(("|", "**", "- `")) or " --- " in line]
    assert max(map(len, lines)) > 60
    assert any(line.startswith("window ") for line in lines)
