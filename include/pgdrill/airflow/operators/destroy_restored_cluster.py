"""Destroys the restored cluster of a drill, and never anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pgdrill.airflow import begun
from pgdrill.airflow.drill_id import drill_id_of
from pgdrill.airflow.exceptions import airflow_errors
from pgdrill.airflow.hooks import ClusterHook
from pgdrill.airflow.operators.base import DrillOperator
from pgdrill.airflow.xcom import DestroyResult, as_xcom
from pgdrill.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.access import Access


class DestroyRestoredClusterOperator(DrillOperator):
    """End the restored server of a drill and remove its folder. Production is not touched.

    Done already is fine, and so is a restore that still writes.

    XCom: what was destroyed, or where it is and when it ends by itself.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param drill_id: which drill; from the DAG run by default (templated).
    :param keep: leave a restored cluster for a look (templated). Its server ends at the drill's
        time limit all the same; until then other drills of the cluster wait. One that is kept
        already is destroyed: clearing this task ends it.
    """

    template_fields: Sequence[str] = (*DrillOperator.template_fields, "keep")
    native_fields: ClassVar[frozenset[str]] = frozenset({"keep"})

    def __init__(self, *, keep: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.keep = keep

    def execute(self, context: Context) -> dict[str, Any]:
        """Destroy what every try of the run has restored; or say where it is kept, and until when.

        Connections that are gone keep nothing from being destroyed.
        """
        from pgdrill.airflow.attempts import left_behind
        from pgdrill.drill import destroy_stage
        from pgdrill.recovery.workspace import Workspace

        run = drill_id_of(context["run_id"])
        drill_id = drill_id_of(self.drill_id or run)
        with airflow_errors():
            access = self._whatever_happened(context)
            if (
                self.keep is True  # whatever else it may be, the cluster goes
                and not _kept_already(access, drill_id)
                and (kept := self._kept(access, drill_id))
            ):
                return as_xcom(kept)
            for earlier in left_behind(access, run):
                if earlier != drill_id:
                    destroy_stage(access, earlier)
            report = destroy_stage(access, drill_id)
        begun.over(self.job(context))
        directory = str(Workspace.of(access, drill_id).directory)
        self.log.info("destroyed %s", directory)
        seconds = report.cleanup.seconds if report else None
        return as_xcom(DestroyResult(drill_id, self.cluster, True, directory, "", None, seconds))

    def _whatever_happened(self, context: Context) -> Access:
        """Find folder and server without any Connection, if need be: one that is gone only keeps
        the report on this host.
        """
        from pgdrill.access import Access

        cluster = self.as_begun(context)
        try:
            return ClusterHook(cluster).get_conn()
        except ConfigError as error:
            self.log.warning("destroying without Connections: %s", error)
            return Access(cluster)

    def _kept(self, access: Access, drill_id: str) -> DestroyResult | None:
        """Note that the restored cluster is kept, if there is one that runs; what failed to be
        restored is not worth keeping.
        """
        from pgdrill.drill import note_kept
        from pgdrill.recovery.workspace import Workspace

        workspace = Workspace.of(access, drill_id)
        server = workspace.server(access)
        if server.process() is None or (restored := note_kept(access, drill_id).restored) is None:
            self.log.warning("nothing to keep: no restored server runs in %s", workspace.directory)
            return None
        result = DestroyResult(
            drill_id,
            self.cluster,
            False,
            str(workspace.directory),
            server.conninfo(),
            restored.expires_at,
            None,
        )
        self.log.warning(
            "kept %s on this host until %s, when its server ends by itself; look at it with:"
            " psql %r",
            result.directory,
            restored.expires_at.isoformat(timespec="seconds"),
            result.connection,
        )
        return result


def _kept_already(access: Access, drill_id: str) -> bool:
    from pgdrill.recovery.workspace import Workspace

    lease = Workspace.of(access, drill_id).lease
    return bool(lease and lease.why == "kept")
