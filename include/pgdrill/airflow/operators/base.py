"""What the operators share: the cluster's name, the drill's id, and a runner that a kill can reach."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from pgdrill.logs import keep_lines_whole

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.process import Runner

keep_lines_whole()  # in every process that runs a task of ours
THIS_RUN = "{{ run_id }}"
DRILL_ID = "drill_id"  # the XCom's key under which a restore says which drill it began
# For the tasks after a restore: the drill that it began, which after a *Clear* is another one than the run's first.
BEGUN = "{{ ti.xcom_pull(task_ids='restore', key='drill_id') or '' }}"


def trigger_of(context: Context) -> str:
    """As reports say what started a drill."""
    return f"airflow: {context['run_id']}"


def refuse_the_past(context: Context, what: str) -> None:
    """A backfill of what can be had of today only would be today's under an old date."""
    if run_type(context) == "backfill":
        raise AirflowFailException(f"{what} of the past cannot be taken, and one of today belongs to no old date. Mend: trigger the DAG by hand")


def run_type(context: Context) -> str:
    """What started the run: ``manual``, ``scheduled``, ``backfill`` or ``asset_triggered``."""
    kind = context["dag_run"].run_type
    return str(getattr(kind, "value", kind))


class ClusterOperator(BaseOperator):
    """Works on a configured cluster.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    """

    template_fields: Sequence[str] = ("cluster",)
    ui_color = "#e8f1f2"

    def __init__(self, *, cluster: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster = cluster

    @cached_property
    def runner(self) -> Runner:
        """Runs the programs of this task, one after another."""
        from pgdrill.process import Runner

        return Runner()

    def on_kill(self) -> None:
        """End what runs: five seconds later this process is gone."""
        self.runner.stop()


class DrillOperator(ClusterOperator):
    """Works on a drill.

    :param drill_id: which drill, from the DAG run by default so that every task and every try means the same one
        (templated; made fit for file names by :func:`pgdrill.airflow.drill_id.drill_id_of`). After a *Clear* the restore
        begins another one and says so by XCom, key ``drill_id``: hand that to the tasks after it (:data:`BEGUN`).
    """

    template_fields: Sequence[str] = (*ClusterOperator.template_fields, "drill_id")

    def __init__(self, *, drill_id: str = THIS_RUN, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drill_id = drill_id
