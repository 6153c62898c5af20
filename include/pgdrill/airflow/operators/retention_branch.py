"""Chooses what comes after retention's plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.branch import BaseBranchOperator

from pgdrill.airflow.operators.base import started_by_hand
from pgdrill.airflow.operators.prune import FIRST_RUN

if TYPE_CHECKING:
    from airflow.sdk import Context


class RetentionBranchOperator(BaseBranchOperator):
    """Choose what comes after the plan: a person's approval, the deletion, or nothing.

    Runs by hand with ``apply``, and the first run ever, are approved by a person. Others go on by
    themselves, within the library's guards. Runs by hand without ``apply`` end with the plan. A
    plan that is refused goes to the task that says why; something held that is gone does so
    whatever the plan.

    :param planned: task id of the plan.
    :param approve: task id of the approval.
    :param prune: task id of the deletion.
    :param refused: task id of what says why nothing is deleted.
    """

    def __init__(
        self, *, planned: str, approve: str, prune: str, refused: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.planned, self.approve, self.prune, self.refused = planned, approve, prune, refused

    def choose_branch(self, context: Context) -> list[str]:
        """Return the task that comes next, if any."""
        plan = context["ti"].xcom_pull(task_ids=self.planned)
        by_hand = started_by_hand(context)
        dry = by_hand and not context["params"].get("apply")
        refused = {refusal["reason"] for refusal in plan["refusals"]} - {FIRST_RUN}
        if "hold-broken" in refused or (refused and not dry):
            return [self.refused]  # even if nothing is to go
        if dry or not plan["steps"]:
            self.log.info(
                "nothing is deleted: %s", "a dry run" if plan["steps"] else "nothing is to go"
            )
            return []
        return [self.approve] if by_hand or plan["first_run"] else [self.prune]
