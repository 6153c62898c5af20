"""Looks at the health of a cluster's backups, and tells whom it may concern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgdrill.airflow.exceptions import airflow_errors, failure
from pgdrill.airflow.operators.base import ClusterOperator, log_report, refuse_the_past
from pgdrill.airflow.xcom import HealthResult, as_xcom

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.health import HealthReport
    from pgdrill.watch import Looked

LOOK_SECONDS = 60.0  # what has not answered by then is unknown


class BackupHealthOperator(ClusterOperator):
    """Ask every health check once, and hand what is found to the alerts.

    It may look beside a running `pgdrill watch`: what one has told the other does not tell again.
    What is found makes no red task, for the alerts tell of it; one that could not look at anything
    is red. XCom: how many answers of each kind, the worst of them, how many messages went out, and
    why nobody is told, where that is so.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Look, tell, and log every answer that is not ok.

        :raises AirflowException: if nothing could be looked at, or no alert be remembered.
        """
        from pgdrill.airflow.alert_secrets import from_connections
        from pgdrill.config import load
        from pgdrill.health.render import print_health
        from pgdrill.watch import once

        refuse_the_past(context, "a look at backups")
        with airflow_errors():
            access = self.as_configured(context)
            looked = once(
                access, load(), seconds=LOOK_SECONDS, links=self._links(), secrets=from_connections
            )
        report = looked.report
        log_report(self.log, lambda console: print_health([report], console, full=False))
        if looked.nobody:
            self.log.warning("%s", looked.nobody)
        if not any(one.status in ("ok", "warning", "critical") for one in report.findings):
            # the next look is the other try
            raise failure(*_blind(report), retryable=False)
        if not looked.nobody:
            self._end_own_alert(context)
        return as_xcom(result_of(looked))

    def _links(self) -> dict[str, list[Any]]:
        """By check of a DAG's runs, the page of that DAG."""
        from pgdrill.airflow.run_facts import url_of
        from pgdrill.alerts import Link
        from pgdrill.health.runs import JOBS, check_of

        pages = {check_of(job): url_of(f"{self.cluster}.{job}") for job in JOBS}
        return {
            check: [Link(text="runs", url=url)]
            for check, url in pages.items()
            if url.startswith("http")
        }

    def _end_own_alert(self, context: Context) -> None:
        """Say that this run passes, here and not by a callback: every five minutes one more process
        would be too much.
        """
        from pgdrill.airflow.callbacks import run_passed

        if self.dag_id == f"{self.cluster}.backup_health":
            run_passed(context)


def result_of(looked: Looked) -> HealthResult:
    """Return what a look hands on: its counts, and the worst answers."""
    return HealthResult.of(looked.report, len(looked.messages), looked.nobody)


def _blind(report: HealthReport) -> tuple[str, str]:
    first = next(iter(report.worst_first), None)
    why = f"{first.check}: {first.found}" if first else "no check has answered"
    hint = first.hint if first else "see the log"
    return f"nothing of cluster {report.cluster} could be looked at; {why}", f"Hint: {hint}"
