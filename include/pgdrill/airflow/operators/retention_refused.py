"""Says why retention's plan is not carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from pgdrill.airflow.exceptions import failure, lines
from pgdrill.errors import Problem

if TYPE_CHECKING:
    from airflow.sdk import Context


class RetentionRefusedOperator(BaseOperator):
    """Say why a plan is not carried out, each refusal with its figures and its hint, and fail:
    nothing is deleted meanwhile.

    :param planned: task id of the plan.
    """

    def __init__(self, *, planned: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planned = planned

    def execute(self, context: Context) -> None:
        """Log each refusal, and fail with all of them.

        :raises AirflowFailException: always.
        """
        refused = [
            Problem(**words) for words in context["ti"].xcom_pull(task_ids=self.planned)["refusals"]
        ]
        for problem in refused:
            self.log.warning("%s: %s", problem.reason, problem)
        raise failure(
            "nothing is deleted and nothing promised is lost, for the plan is refused",
            *(
                line
                for problem in refused
                for wrong, hint in [lines(problem)]
                for line in (f"{problem.reason}: {wrong}", hint)
            ),
            retryable=False,
        )
