"""What the operators share: the cluster's name, the drill's id, and a runner that a kill can
reach."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from pgdrill.airflow import begun
from pgdrill.airflow.hooks import ClusterHook
from pgdrill.airflow.operators.templates import TypedTemplates
from pgdrill.errors import ConfigError
from pgdrill.host.logs import keep_lines_whole

if TYPE_CHECKING:
    from airflow.sdk import Context
    from rich.console import Console

    from pgdrill.access import Access
    from pgdrill.config import Cluster
    from pgdrill.host.process import Runner

keep_lines_whole()  # in every process that runs a task of ours
THIS_RUN = "{{ run_id }}"
DRILL_ID = "drill_id"  # the XCom's key under which a restore says which drill it began
# For the tasks after a restore: the drill that it began, which after a *Clear* is another one than
# the run's first.
BEGUN = "{{ ti.xcom_pull(task_ids='restore', key='drill_id') or '' }}"


def trigger_of(context: Context) -> str:
    """Return what started a drill, as reports say it."""
    return f"airflow: {context['run_id']}"


def log_report(log: Any, show: Callable[[Console], None]) -> None:
    """Show a report in the task's log as `pgdrill report` shows it, a line of the log for each of
    its lines.
    """
    from pgdrill.reports.one_screen import log_lines

    for line in log_lines(show):
        log.info("%s", line)


def refuse_the_past(context: Context, what: str) -> None:
    """Refuse a backfill of what can be had of today only: it would be today's under an old
    date.
    """
    if run_type(context) == "backfill":
        raise AirflowFailException(
            f"{what} of the past cannot be taken, and one of today belongs to no old date. Hint:"
            " trigger the DAG by hand"
        )


def run_type(context: Context) -> str:
    """Return what started the run: manual, scheduled, backfill or asset_triggered."""
    kind = context["dag_run"].run_type
    return str(getattr(kind, "value", kind))


def started_by_hand(context: Context) -> bool:
    """Tell whether a person started this run; what Airflow starts has nobody who looked at its
    parameters.
    """
    return run_type(context) == "manual"


OURS = "pgdrill"  # the tag of the DAGs that are drawn here


def refuse_unknown(operator: BaseOperator, context: Context) -> None:
    """Refuse a run's parameter that no form has: what was meant by it would not be done.

    Airflow takes every key. In DAGs of others that use these operators it may be theirs.
    """
    dag = operator.get_dag()
    if dag is None or OURS not in dag.tags:
        return
    known = list(dag.params)
    unknown = sorted(set(getattr(context["dag_run"], "conf", None) or {}) - set(known))
    if unknown:
        near = [match for key in unknown for match in difflib.get_close_matches(key, known, n=1)]
        raise ConfigError(
            "unknown-parameter",
            f"parameters of this run of {dag.dag_id}",
            found=", ".join(map(repr, unknown))
            + (f" (did you mean {', '.join(near)}?)" if near else ""),
            expected=f"only {', '.join(known)}" if known else "none: this DAG has no parameters",
            hint="trigger it again without them",
        )


class ClusterOperator(TypedTemplates):
    """Works on a configured cluster.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    """

    template_fields: Sequence[str] = ("cluster",)
    ui_color = "#e8f1f2"

    def __init__(self, *, cluster: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster = cluster

    def pre_execute(self, context: Context) -> None:
        """Let nobody else write to what this task makes, whatever umask the worker has."""
        from pgdrill.host.private import closed_to_writers

        super().pre_execute(context)
        closed_to_writers()

    @cached_property
    def hook(self) -> ClusterHook:
        """The cluster as it is configured now."""
        return ClusterHook(self.cluster)

    def begin(self, context: Context) -> Access:
        """Give the cluster as it is configured now: what the run's tasks after this one work with,
        whatever becomes of the file.
        """
        refuse_unknown(self, context)
        begun.keep(self.job(context), self.hook.configuration)
        return self.hook.get_conn()

    def go_on(self, context: Context) -> Access:
        """Give the cluster as it was configured when the run's first task began."""
        return ClusterHook(self.as_begun(context)).get_conn()

    def as_begun(self, context: Context) -> Cluster:
        """Give that configuration, without its Connections; today's where none was kept."""
        cluster = begun.kept(self.job(context))
        return cluster if cluster and cluster.name == self.cluster else self.hook.configuration

    def as_configured(self, context: Context) -> Access:
        """Give the cluster as it is configured now, for a job that means what holds when it
        works.
        """
        refuse_unknown(self, context)
        return self.hook.get_conn()

    def job(self, context: Context) -> str:
        """The run, as what it began with is kept under."""
        return f"{self.dag_id} {context['run_id']}"

    @cached_property
    def runner(self) -> Runner:
        """Runs the programs of this task, one after another."""
        from pgdrill.host.process import Runner

        return Runner()

    def on_kill(self) -> None:
        """End what runs: five seconds later this process is gone."""
        self.runner.stop()


class DrillOperator(ClusterOperator):
    """Works on a drill.

    :param drill_id: which drill, from the DAG run by default so that every task and every try means
        the same one (templated; made fit for file names by
        :func:`pgdrill.airflow.drill_id.drill_id_of`). After a *Clear* the restore begins another
        one and says so by XCom, key ``drill_id``: hand that to the tasks after it (:data:`BEGUN`).
    """

    template_fields: Sequence[str] = (*ClusterOperator.template_fields, "drill_id")

    def __init__(self, *, drill_id: str = THIS_RUN, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drill_id = drill_id
