"""Takes a logical dump of a cluster's databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pgdrill.airflow.exceptions import airflow_errors
from pgdrill.airflow.operators.base import ClusterOperator, refuse_the_past
from pgdrill.airflow.operators.templates import names_of
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.waiting import waiting
from pgdrill.airflow.xcom import DumpResult, as_xcom

if TYPE_CHECKING:
    from airflow.sdk import Context


class LogicalDumpOperator(ClusterOperator):
    """Dump every configured database from one snapshot each, streamed to the store; the manifest is
    written last.

    A dump that fails or is killed is invisible, and it counts only once
    :class:`LogicalRestoreOperator` has passed. XCom: the dump's id, sizes in bytes, seconds, rows,
    versions, snapshot LSNs.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param databases: the list of databases; empty: those of the configuration (templated).
    """

    template_fields: Sequence[str] = (*ClusterOperator.template_fields, "databases")
    template_fields_renderers: ClassVar[dict[str, str]] = {"databases": "json"}
    native_fields: ClassVar[frozenset[str]] = frozenset({"databases"})

    def __init__(self, *, databases: str | Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.databases = databases

    def execute(self, context: Context) -> dict[str, Any]:
        """Dump the databases, and tell the task's outlet assets."""
        from pgdrill.logical.take import take_dump

        refuse_the_past(context, "a dump")
        with airflow_errors():
            databases = names_of(self.databases, "databases")
            access = self.begin(context)
            with waiting(context, access.cluster.dump.timeout_seconds, self.log):
                manifest = take_dump(
                    access, databases=databases, runner=self.runner, progress=ProgressLog(self.log)
                )
        result = as_xcom(DumpResult.of(manifest))
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"dump": manifest.dump_id, **result}
        self.log.info(
            "%s: %.1f MB stored in %.0f s",
            manifest.dump_id,
            manifest.stored_bytes / 1e6,
            manifest.seconds,
        )
        return result
