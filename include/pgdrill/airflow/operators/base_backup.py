"""Takes a base backup of a cluster, beside its data directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgdrill.airflow import begun
from pgdrill.airflow.exceptions import airflow_errors
from pgdrill.airflow.operators.base import ClusterOperator, refuse_the_past
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.waiting import waiting
from pgdrill.airflow.xcom import as_xcom

if TYPE_CHECKING:
    from airflow.sdk import Context


class BaseBackupOperator(ClusterOperator):
    """Take a base backup and prove it listed, whole and archived.

    Runs where the data directory is. XCom: the backup's name, LSNs, sizes in bytes and rate; the
    same figures go to the events of the task's outlet assets.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Take the backup, and tell the task's outlet assets."""
        from pgdrill.backup import take_backup

        refuse_the_past(context, "a base backup")
        with airflow_errors():
            access = self.begin(context)  # while it works its DAG stays drawn
            with waiting(context, access.cluster.backup.timeout_seconds, self.log):
                result = take_backup(access, runner=self.runner, progress=ProgressLog(self.log))
        begun.over(self.job(context))
        backup = as_xcom(result)
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"backup": result.name, **backup}
        self.log.info(
            "%s: %.1f MB in %.0f s, stored as %.1f MB in %d parts",
            result.name,
            result.uncompressed_bytes / 1e6,
            result.tool_seconds,
            result.stored_bytes / 1e6,
            result.parts,
        )
        return backup
