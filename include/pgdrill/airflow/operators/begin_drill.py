"""Begins a drill: refuses what cannot work before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pgdrill.airflow.connections import access_for
from pgdrill.airflow.drill_id import drill_id_of
from pgdrill.airflow.failing import airflow_errors
from pgdrill.airflow.operators.base import DrillOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class BeginDrillOperator(DrillOperator):
    """Check configuration, connections and recovery target, and say which drill this is.

    It is the set-up that nothing else can spoil: a teardown runs only if one of its set-ups succeeded, and the restored
    cluster has to go exactly when the restore did *not* succeed.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: which drill; from the DAG run by default (templated).
    :param target: where recovery is to stop, as for :class:`RestoreClusterOperator` (templated).
    """

    template_fields: Sequence[str] = (*DrillOperator.template_fields, "target")

    def __init__(self, *, target: str = "latest", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target

    def execute(self, context: Context) -> dict[str, Any]:
        """Look, and touch nothing."""
        with airflow_errors():
            from pgdrill.targets import parse_target

            target = parse_target(self.target)
            access = access_for(self.cluster)
        drill_id = drill_id_of(self.drill_id)
        self.log.info("drill %s of cluster %s, to %s", drill_id, self.cluster, target)
        return {
            "drill_id": drill_id,
            "cluster": self.cluster,
            "tool": access.tool.name,
            "repository": access.cluster.repository.url,
            "target": str(target),
        }
