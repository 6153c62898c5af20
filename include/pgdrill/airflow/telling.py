"""Tells of a run by the cluster's alerts, if somebody is to be told at all."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pgdrill.airflow import begun
from pgdrill.errors import ConfigError, PgdrillError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.access import Access
    from pgdrill.alerts import Alerting
    from pgdrill.config import Cluster, Settings
    from pgdrill.health.answer import Answer
    from pgdrill.health.model import HealthFinding
    from pgdrill.health.runs import Least, Run
    from pgdrill.reports.model import Report

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Telling:
    """The alerts of one cluster, for what Airflow's callbacks know of its runs."""

    access: Access
    alerting: Alerting

    def report_of(self, job: str, run_id: str) -> Report | None:
        """Return the report of a drill's run."""
        from pgdrill.airflow.run_facts import report_of

        return report_of(self.access, run_id) if job == "restore_drill" else None

    def knows_failed(self, job: str, run_id: str) -> bool:
        """Return whether it was told already that this run failed, in better words than ours."""
        from pgdrill.health.runs import FAILED, check_of

        alert = self.alerting.memory.read().alerts.get(check_of(job))
        return bool(
            alert
            and alert.open
            and any((one.reason, one.thing) == (FAILED, run_id) for one in alert.findings)
        )

    def tell(
        self,
        job: str,
        run: Run,
        *,
        report: Report | None = None,
        promised_seconds: float = 0,
        least: Least = "ok",
    ) -> None:
        """Hand what is to say of a run, and of its drill's report, to the alerts."""
        from pgdrill.airflow.run_facts import url_of
        from pgdrill.alerts import Link
        from pgdrill.health.drill_promises import judged
        from pgdrill.health.model import HealthReport
        from pgdrill.health.runs import check_of, judge_run
        from pgdrill.reports.deadlines import deadline_seconds

        now, cluster = datetime.now(UTC), self.access.cluster
        promised = promised_seconds or deadline_seconds(cluster, job)
        answers = {check_of(job): judge_run(run, promised, now, least=least)}
        if report is not None and report.ended_at:
            answers |= judged(report, cluster.drill.search_seconds)
        address = url_of(run.dag_id, run.run_id)
        links = (Link(text="run", url=address),) if address.startswith("http") else ()
        look = HealthReport(
            cluster=cluster.name,
            host=socket.gethostname(),
            started_at=now,
            seconds=0,
            findings=[self._finding(check, answer, now) for check, answer in answers.items()],
        )
        for message in self.alerting.look(look, dict.fromkeys(answers, links)):
            logger.info("%s %s: told to %s", message.kind, message.key, ", ".join(message.to))

    def _finding(self, check: str, answer: Answer, now: datetime) -> HealthFinding:
        from pgdrill.health import HEALTH_CHECKS
        from pgdrill.health.findings import finding_of
        from pgdrill.host.process import masking

        return finding_of(
            HEALTH_CHECKS[check],
            answer,
            cluster=self.access.cluster.name,
            at=now,
            hide=masking(self.access.environment),
        )


def tell_ended(context: Context, state: str) -> None:
    """Tell that a run has failed, or end the alert of one that has passed; of a drill, also what
    its report says of the promises.
    """
    from pgdrill.airflow.run_facts import ended_run, job_of, with_report

    name, job, run_id = job_of(context)
    with telling(name) as told:
        if told is None:
            return
        if state == "failed" and "exception" not in context and told.knows_failed(job, run_id):
            logger.info("told already that run %s failed", run_id)
            return
        report = told.report_of(job, run_id)
        told.tell(job, with_report(ended_run(context, state), report), report=report)


def tell_late(
    name: str, job: str, dag_run: Mapping[str, Any], severity: Least, promised_seconds: float
) -> None:
    """Tell that a run's deadline has passed, by what has become of the run meanwhile."""
    from pgdrill.airflow.run_facts import late_run, state_of, with_report

    with telling(name) as told:
        if told is None:
            return
        run = late_run(dag_run)
        if run.state == "failed" and told.knows_failed(job, run.run_id):
            logger.info("told already that run %s failed", run.run_id)
            return
        run = with_report(run, told.report_of(job, run.run_id))
        told.tell(job, run, promised_seconds=promised_seconds, least=severity)
        # It may have passed meanwhile, and its alert have been ended before it began.
        if run.state != "success" and state_of(run.dag_id, run.run_id) == "success":
            told.tell(job, replace(run, state="success", ended_at=datetime.now(UTC)))


@contextlib.contextmanager
def telling(name: str) -> Iterator[Telling | None]:
    """Give the alerts of a cluster; None where nobody is to be told. At the end all is sent."""
    settings, cluster = _configured(name)
    channels = [one for one in settings.alerts.channels if not one.clusters or name in one.clusters]
    if not channels:
        logger.info("nobody is told: dr.toml has no [[alerts.channels]] for cluster %s", name)
        yield None
        return
    from pgdrill.airflow.alert_secrets import from_connections
    from pgdrill.alerts import Alerting
    from pgdrill.watch.cluster import consequences

    access = _access(cluster)
    with Alerting(
        access, settings.alerts, secrets=from_connections, hides=consequences()
    ) as alerting:
        yield Telling(access, alerting)


def _configured(name: str) -> tuple[Settings, Cluster]:
    """Return the configuration, and the cluster: as a job at work began with, where it is gone."""
    from pgdrill.config import load

    settings = load()
    try:
        return settings, settings.cluster(name)
    except ConfigError:
        if cluster := begun.at_work().get(name):
            return settings, cluster
        raise


def _access(cluster: Cluster) -> Access:
    """Return the cluster with its Connections; without, where one of them is what is wrong: the
    alerts are then remembered on this host.
    """
    from pgdrill.access import Access
    from pgdrill.airflow.hooks import ClusterHook

    try:
        return ClusterHook(cluster).get_conn()
    except PgdrillError as error:
        logger.warning("told without its Connections: %s", error)
        return Access(cluster)
