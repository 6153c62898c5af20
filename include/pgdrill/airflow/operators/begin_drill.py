"""Begins a drill: refuses what cannot work before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pgdrill.airflow.drill_id import drill_id_of
from pgdrill.airflow.exceptions import airflow_errors
from pgdrill.airflow.operators.base import DrillOperator, trigger_of
from pgdrill.airflow.xcom import BeginResult, as_xcom

if TYPE_CHECKING:
    from airflow.sdk import Context


class BeginDrillOperator(DrillOperator):
    """Check configuration and recovery target, log in to production, and say which drill this is.

    Production that refuses the login is red, with a report that says *could not verify*. One that
    is gone keeps no drill from going on; the verdict says so.

    It is the set-up that nothing else can spoil: a teardown runs only if one of its set-ups
    succeeded, and the restored cluster has to go exactly when the restore did *not* succeed.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: which drill; from the DAG run by default (templated).
    :param target: where recovery is to stop, as for :class:`RestoreClusterOperator` (templated).
    """

    template_fields: Sequence[str] = (*DrillOperator.template_fields, "target")

    def __init__(self, *, target: str = "latest", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target

    def execute(self, context: Context) -> dict[str, Any]:
        """Check what was given, and log in to production; nothing is changed.

        :raises AirflowFailException: if configuration, target or login is refused.
        """
        with airflow_errors():
            from pgdrill.airflow.attempts import next_attempt
            from pgdrill.drill import begin_stage
            from pgdrill.recovery.targets import parse_target

            access = self.begin(context)
            target = parse_target(self.target)
            drill_id = next_attempt(
                access, drill_id_of(self.drill_id), trigger_of(context)
            ).drill_id
            gone = begin_stage(access, drill_id, trigger=trigger_of(context))
        self.log.info("drill %s of cluster %s, to %s", drill_id, self.cluster, target)
        if gone:
            self.log.warning("production is not there, so the drill goes on without it: %s", gone)
        return as_xcom(
            BeginResult(
                drill_id=drill_id,
                cluster=self.cluster,
                tool=access.tool.name,
                repository=access.cluster.repository.url,
                target=str(target),
                production=gone or "there",
            )
        )
