"""Loads a queue's snapshot into a throw-away server, and asks whether its queues hold together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.xcom import BaseXCom

from pgdrill.airflow.exceptions import airflow_errors, failure
from pgdrill.airflow.operators.base import log_report, trigger_of
from pgdrill.airflow.operators.queue import QueueOperator
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.waiting import waiting
from pgdrill.airflow.xcom import QueueVerifyResult, as_xcom

if TYPE_CHECKING:
    from airflow.sdk import Context


class QueueVerifyOperator(QueueOperator):
    """Load a snapshot inside a fence, ask every question of it, and remove it again.

    Anything but the verdict *passed* fails the task. XCom, also of a failed task: verdict and
    reason, keys, live jobs, those that will run twice or fire at once, and every answer that is no
    pass with its hint.

    :param cluster: the cluster that it belongs to (templated).
    :param queue_name: the queue's name in ``dr.toml`` (templated).
    :param snapshot: a snapshot's id, or ``LATEST`` (templated).
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "snapshot")

    def __init__(self, *, snapshot: str = "LATEST", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot = snapshot

    def execute(self, context: Context) -> dict[str, Any]:
        """Load it, ask, and write the report.

        :raises AirflowFailException: if the verdict is not *passed* and another try cannot change
            it; the figures are in XCom all the same.
        """
        from pgdrill.queues.terminal import print_report
        from pgdrill.queues.verify import Wanted, verify

        with airflow_errors():
            access = self.access(context)
            wanted = Wanted(self.snapshot, trigger_of(context))
            with waiting(context, access.queue.timeout_seconds, self.log):
                report = verify(access, wanted, runner=self.runner, progress=ProgressLog(self.log))
        result = as_xcom(QueueVerifyResult.of(report))
        log_report(self.log, lambda console: print_report(report, console))
        if report.verdict != "passed":
            # Before the task fails: a failed check leaves its figures, too.
            context["ti"].xcom_push(BaseXCom.XCOM_RETURN_KEY, result)
            raise failure(*explained(report), retryable=report.worth_another_try)
        return result


def explained(report: Any) -> tuple[str, ...]:
    """Return the verdict and the first trouble, with its hint, as lines."""
    words = [f"{report.verdict}: {report.reason}"]
    stages = (report.restore, report.checks, report.cleanup)
    words += [f"Hint: {one.trouble.hint}" for one in stages if one.trouble][:1]
    words += [
        f"{one.name} {one.thing}: {one.value}. Hint: {one.hint}"
        for one in report.results
        if one.status == "fail"
    ][:3]
    return tuple(words)
