"""The DAG that dumps, and restores the dump before it counts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, Asset, Param

from pgdrill.airflow.dags.common import (
    BEGIN_TIMEOUT,
    DESTROY_TIMEOUT,
    MARGIN,
    common,
    cron,
    form_param,
    keep_param,
    listed,
    worded,
)
from pgdrill.airflow.operators import (
    DestroyRestoredDumpOperator,
    DumpPassedOperator,
    LogicalDumpOperator,
    LogicalRestoreOperator,
)
from pgdrill.airflow.operators.base import BEGUN
from pgdrill.airflow.operators.passed import DUMPED

if TYPE_CHECKING:
    from pgdrill.config import Cluster, Settings


def logical_dumps(cluster: Cluster) -> Asset:
    """The cluster's logical dumps, as data that is written and then read back."""
    return Asset(
        name=f"{cluster.name}.logical_dumps",
        uri=f"x-pgdrill://{cluster.name}/logical_dumps",
        group="pgdrill",
    )


def logical_dump_dag(cluster: Cluster, settings: Settings, doc: str | None = None) -> DAG:
    """``<cluster>.logical_dump``: dump, restore and check, destroy."""
    limit = timedelta(seconds=cluster.dump.timeout_seconds)
    with DAG(
        f"{cluster.name}.logical_dump",
        schedule=cron(cluster, settings, "dump"),
        description=(
            f"Dumps cluster {cluster.name} with pg_dump, and restores the dump before it counts"
        ),
        params=dump_params(),
        **common(cluster, "dump", doc, job="logical_dump"),
    ) as dag:
        dump = LogicalDumpOperator(
            task_id="dump",
            cluster=cluster.name,
            databases="{{ params.databases }}",
            outlets=[logical_dumps(cluster)],
            execution_timeout=limit + MARGIN,
            retry_delay=timedelta(minutes=10),
            doc_md=(
                "Dumps each database from one snapshot into the store, and the roles. Red: nothing"
                " of it is left."
            ),
        )
        restore = LogicalRestoreOperator(
            task_id="restore",
            cluster=cluster.name,
            dump=DUMPED,
            bin_dir="{{ params.bin_dir or '' }}",
            migrations="{{ params.migrations or '' }}",
            keep="{{ params.keep }}",
            inlets=[logical_dumps(cluster)],
            # Download, rows and each index have that limit of their own; the drill's ends the
            # server.
            execution_timeout=max(limit, timedelta(seconds=cluster.drill.timeout_seconds)) + MARGIN,
            doc_md=(
                "Restores the dump into a throw-away cluster and compares it with the snapshot;"
                " vector search against exact search. Red: XCom's `findings` has every answer that"
                " is no pass, with its hint."
            ),
        )
        destroy = DestroyRestoredDumpOperator(
            task_id="destroy",
            cluster=cluster.name,
            drill_id=BEGUN,
            keep="{{ params.keep }}",
            execution_timeout=DESTROY_TIMEOUT,
            retry_delay=timedelta(seconds=30),
            doc_md=(
                "Ends the restored server and removes its folder, should the restore have been"
                " killed."
            ),
        )
        passed = DumpPassedOperator(
            task_id="passed",
            cluster=cluster.name,
            execution_timeout=BEGIN_TIMEOUT,
            retry_delay=timedelta(seconds=30),
            doc_md=(
                "Green exactly if the run's newest dump was restored and found right. It reads the"
                " report, whatever was cleared."
            ),
        )
        dump >> restore
        # Teardowns, both: whatever is cleared, Airflow then runs them again.
        restore >> destroy.as_teardown(setups=[dump], on_failure_fail_dagrun=True)
        restore >> passed.as_teardown(setups=[dump], on_failure_fail_dagrun=True)
    return dag


FOLDER = r"^(?=[^\x00-\x1f]{0,1000}$)(/[^/'\"]{0,200})*$"  # as long as file systems take them


def dump_params() -> dict[str, Param]:
    """What a person can choose for a dump by hand."""
    return {
        "databases": form_param(
            [],
            **listed(
                "a list of databases' names, empty for those of the configuration",
                may_be_empty=True,
                **worded(r"^[^,]{1,63}$", "a database's name, without a comma"),
            ),
            title="Databases",
            text="Empty: those of the configuration.",
        ),
        "bin_dir": form_param(
            "",
            **worded(
                FOLDER,
                "a folder's whole path, from / on, without quotes",
                "nothing, for the configured one",
                may_be_empty=True,
            ),
            title="Restore into another PostgreSQL",
            text=(
                "Folder of its programs, on the drill's host: a newer major version, or newer"
                " extensions. Empty: as configured."
            ),
        ),
        "migrations": form_param(
            "",
            **worded(
                FOLDER,
                "a folder's whole path, from / on, without quotes",
                "nothing, for none",
                may_be_empty=True,
            ),
            title="Migrations to rehearse",
            text=(
                "A folder on the drill's host with `*.sql` files, or with `alembic.ini`. Empty:"
                " none."
            ),
        ),
        "keep": keep_param(),
    }
