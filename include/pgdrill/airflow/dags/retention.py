"""The DAG that deletes what no promise needs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param

from pgdrill.airflow.dags.common import (
    APPROVAL_TIMEOUT,
    base_backups,
    common,
    form_param,
    listed,
    worded,
    yes_or_no,
)
from pgdrill.airflow.operators import (
    PruneOperator,
    RetentionApprovalOperator,
    RetentionBranchOperator,
    RetentionRefusedOperator,
)
from pgdrill.airflow.operators.retention_approval import approved_plan
from pgdrill.retention.allowed import MAY_BE_ALLOWED

if TYPE_CHECKING:
    from pgdrill.config import Cluster, Settings


def retention_dag(cluster: Cluster, settings: Settings, doc: str | None = None) -> DAG:
    """``<cluster>.retention``: plan, perhaps a person's approval, prune.

    After each base backup, for it moves the window.
    """
    limit = 6 * timedelta(seconds=cluster.retention.timeout_seconds)
    with DAG(
        f"{cluster.name}.retention",
        schedule=[base_backups(cluster)],
        description=(
            f"Deletes what no promise needs of cluster {cluster.name}'s base backups, WAL and dumps"
        ),
        params=retention_params(),
        user_defined_macros={"approved_plan": approved_plan},
        **common(cluster, "retention", doc, job="retention"),
    ) as dag:
        by_hand: dict[str, Any] = {"also": "{{ params.also }}", "allow": "{{ params.allow }}"}
        plan = PruneOperator(
            task_id="plan",
            cluster=cluster.name,
            execution_timeout=limit,
            doc_md=(
                "Says what would go, what stays and why, and every promise before and after."
                " Deletes nothing."
            ),
            **by_hand,
        )
        choose = RetentionBranchOperator(
            task_id="choose",
            planned="plan",
            approve="approve",
            prune="prune",
            refused="refused",
            doc_md=(
                "To a person's approval in runs by hand and in the first one, else on; nothing more"
                " in a dry run."
            ),
        )
        refused = RetentionRefusedOperator(
            task_id="refused",
            planned="plan",
            doc_md=(
                "Red where the plan is refused: each refusal with its figures and its hint. Nothing"
                " is deleted."
            ),
        )
        approve = RetentionApprovalOperator(
            task_id="approve",
            subject=f"Delete backups of cluster {cluster.name}?",
            body="{{ ti.xcom_pull(task_ids='plan')['text'] }}",
            plan="{{ ti.xcom_pull(task_ids='plan')['digest'] }}",
            defaults="Reject",
            response_timeout=APPROVAL_TIMEOUT,
            retries=0,
            doc_md="Shows the plan and waits. Rejected, or after three days, nothing is deleted.",
        )
        prune = PruneOperator(
            task_id="prune",
            cluster=cluster.name,
            apply=True,
            approved="{{ ti.xcom_pull(task_ids='plan')['digest'] }}",
            approval="{{ approved_plan(ti.xcom_pull(task_ids='approve')) }}",
            first_run="{{ ti.xcom_pull(task_ids='plan')['first_run'] }}",
            trigger_rule="none_failed_min_one_success",
            execution_timeout=limit,
            doc_md=(
                "Does exactly what was planned, asks the tool first, and looks again afterwards."
                " Red: nothing promised is lost; the message says what was refused, and the hint."
            ),
            **by_hand,
        )
        plan >> choose >> approve >> prune
        choose >> [prune, refused]
    return dag


def retention_params() -> dict[str, Param]:
    """What a person can choose for a run by hand."""
    return {
        "apply": form_param(
            False,
            **yes_or_no(),
            title="Delete, after your approval",
            text=(
                "Without it the run shows the plan, with every promise before and after, and"
                " deletes nothing."
            ),
        ),
        "also": form_param(
            [],
            **listed(
                "a list of full names, as the plan shows them",
                may_be_empty=True,
                **worded(r"^[A-Za-z0-9_.:-]{1,200}$", "a full name, as the plan shows it"),
            ),
            title="Remove these, too",
            text=(
                "Full names of leftovers, abandoned timelines (`00000003`) or another cluster's"
                " backups, one a line. They go only if old enough."
            ),
        ),
        "allow": form_param(
            [],
            **listed(
                f"a list of {', '.join(MAY_BE_ALLOWED)}, or empty",
                may_be_empty=True,
                enum=list(MAY_BE_ALLOWED),
                type="string",
            ),
            examples=list(MAY_BE_ALLOWED),
            title="Let these refusals pass",
            text=(
                "For a first run or a shorter promise, `too-much`. Read the plan's refusals first."
            ),
        ),
    }
