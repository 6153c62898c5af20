"""Shows retention's plan to a person, and waits for the answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from pgdrill.airflow.operators.templates import TypedTemplates

if TYPE_CHECKING:
    from airflow.sdk import Context

SHOWN_PLAN = "shown_plan"


def approved_plan(answer: Mapping[str, Any] | None) -> str:
    """Return the digest of the plan that a person approved; empty where nobody did."""
    return (
        str(answer.get("plan", ""))
        if answer and answer.get("chosen_options") == [ApprovalOperator.APPROVE]
        else ""
    )


class RetentionApprovalOperator(TypedTemplates, ApprovalOperator):
    """Show a plan to a person and wait.

    The answer is of that plan and of no other that was made meanwhile.

    :param plan: the digest of the plan that is shown (templated).
    """

    template_fields: Collection[str] = (*ApprovalOperator.template_fields, "plan")

    def __init__(self, *, plan: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> Any:
        """Show the plan, remember which one it was, and wait for the answer without a slot."""
        context["task_state_store"].set(SHOWN_PLAN, self.plan)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Hand on the answer with the plan that was shown."""
        answer = super().execute_complete(context, event)
        return {**answer, "plan": context["task_state_store"].get(SHOWN_PLAN)}
