"""Destroys the throw-away cluster that a dump was restored into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgdrill.airflow.operators.destroy_restored_cluster import DestroyRestoredClusterOperator
from pgdrill.airflow.xcom import DestroyResult

if TYPE_CHECKING:
    from pgdrill.access import Access


class DestroyRestoredDumpOperator(DestroyRestoredClusterOperator):
    """End the server that a dump was restored into and remove its folder, whatever became of the
    restore. Done already is fine; the dump stays.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: which drill; from the DAG run by default (templated).
    :param keep: leave it for a look, if it runs (templated).
    """

    def _kept(self, access: Access, drill_id: str) -> DestroyResult | None:
        from pgdrill.logical.store import local_report
        from pgdrill.recovery.workspace import Workspace

        workspace = Workspace.of(access, drill_id)
        server, report = workspace.server(access), local_report(access, drill_id)
        if server.process() is None or report is None or report.restored is None:
            self.log.warning("nothing to keep: no restored server runs in %s", workspace.directory)
            return None
        self.log.warning(
            "kept %s on this host until %s; look at it with: psql %r",
            workspace.directory,
            report.restored.expires_at.isoformat(timespec="seconds"),
            server.conninfo(),
        )
        return DestroyResult(
            drill_id,
            self.cluster,
            False,
            str(workspace.directory),
            server.conninfo(),
            report.restored.expires_at,
            None,
        )
