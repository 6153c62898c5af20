"""Says whether a run passed: by the newest verdict of its drill, whatever was cleared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pgdrill.airflow.exceptions import airflow_errors, failure
from pgdrill.airflow.operators.base import BEGUN, ClusterOperator, log_report
from pgdrill.airflow.xcom import dump_explanation, explanation

if TYPE_CHECKING:
    from airflow.sdk import Context

DUMPED = "{{ ti.xcom_pull(task_ids='dump')['dump_id'] }}"


class DrillPassedOperator(ClusterOperator):
    """Fail unless the drill that the run's restore began last has passed.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: what the restore's XCom says that it began; empty fails (templated).
    """

    template_fields: Sequence[str] = (*ClusterOperator.template_fields, "drill_id")

    def __init__(self, *, drill_id: str = BEGUN, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drill_id = drill_id

    def execute(self, context: Context) -> str:
        """Read the report, show it on one screen of the log, and return its verdict.

        :raises AirflowFailException: if that is not *passed*.
        """
        from pgdrill.reports.one_screen import print_report
        from pgdrill.reports.store import load_report

        if not self.drill_id:
            raise failure("no drill was begun", "Hint: see the task before", retryable=False)
        with airflow_errors():
            report = load_report(self.go_on(context), self.drill_id)
        log_report(self.log, lambda console: print_report(report, console))
        if report.verdict != "passed":
            raise failure(*explanation(report), retryable=False)
        self.log.info("drill %s: %s (%s)", report.drill_id, report.verdict, report.reason)
        return report.verdict


class DumpPassedOperator(DrillPassedOperator):
    """Fail unless the dump that the run took last was restored and found right.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: what the restore's XCom says that it began; empty fails (templated).
    :param dump: the dump that the run took (templated).
    """

    template_fields: Sequence[str] = (*DrillPassedOperator.template_fields, "dump")

    def __init__(self, *, dump: str = DUMPED, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dump = dump

    def execute(self, context: Context) -> str:
        """Read the reports of that dump's restores, show this run's, and return its verdict.

        :raises AirflowFailException: if that is not *passed*, or this run has restored nothing.
        """
        from pgdrill.logical import store as dump_store
        from pgdrill.logical.terminal import print_report

        with airflow_errors():
            access = self.go_on(context)
            found = next(
                (one for one in dump_store.listed(access) if one.dump_id == self.dump), None
            )
            mine = [
                report
                for report in (found.drills if found else ())
                if report.drill_id == self.drill_id
            ]
        if not mine:
            raise failure(
                f"dump {self.dump} was not restored by this run",
                "Hint: clear `restore`",
                retryable=False,
            )
        report = mine[-1]
        log_report(self.log, lambda console: print_report(report, console))
        if report.verdict != "passed":
            raise failure(*dump_explanation(report), retryable=False)
        self.log.info("dump %s: %s (%s)", self.dump, report.verdict, report.reason)
        return report.verdict
