"""Takes a logical dump of a cluster's databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pgdrill.airflow.exceptions import airflow_errors
from pgdrill.airflow.operators.base import ClusterOperator, refuse_the_past
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.waiting import waiting

if TYPE_CHECKING:
    from airflow.sdk import Context


class LogicalDumpOperator(ClusterOperator):
    """Dump every configured database from one snapshot each, streamed to the store; the manifest is
    written last.

    A dump that fails or is killed is invisible, and it counts only once
    :class:`LogicalRestoreOperator` has passed. XCom: the dump's id, sizes in bytes, seconds, rows,
    versions, snapshot LSNs.

    :param cluster: the cluster's name in ``dr.toml`` (templated).
    :param databases: which databases, in a list or with commas between; empty: those of the
        configuration (templated).
    """

    template_fields: Sequence[str] = (*ClusterOperator.template_fields, "databases")

    def __init__(self, *, databases: str | Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.databases = databases

    def execute(self, context: Context) -> dict[str, Any]:
        """Take it."""
        from pgdrill.logical.take import take_dump

        refuse_the_past(context, "a dump")
        chosen = self.databases.split(",") if isinstance(self.databases, str) else self.databases
        with airflow_errors():
            access = self.begin(context)
            with waiting(context, access.cluster.dump.timeout_seconds, self.log):
                manifest = take_dump(
                    access,
                    databases=tuple(name.strip() for name in chosen if name.strip()),
                    runner=self.runner,
                    progress=ProgressLog(self.log),
                )
        result: dict[str, Any] = {
            "dump_id": manifest.dump_id,
            "cluster": manifest.cluster,
            "server_version": manifest.server_version,
            "pg_dump_version": manifest.pg_dump_version,
            "from_standby": manifest.from_standby,
            "stored_bytes": manifest.stored_bytes,
            "database_bytes": sum(database.size_bytes for database in manifest.databases),
            "rows": sum(database.rows for database in manifest.databases),
            "vector_indexes": sum(len(database.vector_indexes) for database in manifest.databases),
            "databases": [database.name for database in manifest.databases],
            "snapshot_lsns": {
                database.name: database.snapshot_lsn for database in manifest.databases
            },
            "seconds": manifest.seconds,
        }
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"dump": manifest.dump_id, **result}
        self.log.info(
            "%s: %.1f MB stored in %.0f s",
            manifest.dump_id,
            manifest.stored_bytes / 1e6,
            manifest.seconds,
        )
        return result
