"""The DAG that restores the latest base backup and proves it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, Param

from pgdrill.airflow.dags.common import (
    BEGIN_TIMEOUT,
    DESTROY_TIMEOUT,
    MARGIN,
    base_backups,
    common,
    cron,
    form_param,
    keep_param,
    listed,
    worded,
)
from pgdrill.airflow.operators import (
    BeginDrillOperator,
    CheckRestoreOperator,
    DestroyRestoredClusterOperator,
    DrillPassedOperator,
    RestoreClusterOperator,
)
from pgdrill.airflow.operators.base import BEGUN
from pgdrill.airflow.operators.check_restore import FAMILIES

if TYPE_CHECKING:
    from pgdrill.config import Cluster, Settings


def restore_drill_dag(cluster: Cluster, settings: Settings, doc: str | None = None) -> DAG:
    """``<cluster>.restore_drill``: begin, restore, check, destroy.

    The schedule is a cron and not the backup's asset: the promise is a drill every Friday, and it
    must show most of all when there was no new backup. The asset is the restore's inlet, for
    lineage.
    """
    limit = timedelta(seconds=cluster.drill.timeout_seconds)
    # A form has one default for both, and a person who just clicks expects the latest state. A
    # backfill means its date.
    past = "'time:' ~ dag_run.logical_date.isoformat() if dag_run.run_type == 'backfill'"
    target = (
        f"{{{{ '{cluster.drill.scheduled_target}' if dag_run.run_type == 'scheduled' else {past}"
        " else params.target }}"
    )
    with DAG(
        f"{cluster.name}.restore_drill",
        schedule=cron(cluster, settings, "drill"),
        description=(
            f"Restores the latest backup of cluster {cluster.name} and proves that vector search on"
            " it is right"
        ),
        params=drill_params(),
        **common(cluster, "drill", doc, job="restore_drill"),
    ) as dag:
        begin = BeginDrillOperator(
            task_id="begin",
            cluster=cluster.name,
            target=target,
            execution_timeout=BEGIN_TIMEOUT,
            doc_md=(
                "Refuses what cannot work before anything is touched. Red: configuration,"
                " Connection or parameter."
            ),
        )
        restore = RestoreClusterOperator(
            task_id="restore",
            cluster=cluster.name,
            backup="{{ params.backup }}",
            target=target,
            inlets=[base_backups(cluster)],
            execution_timeout=limit + MARGIN,
            doc_md=(
                "Notes what production holds, checks the repository, fetches the backup, replays"
                " WAL to the target and promotes. Red: the message says whether the backup or the"
                " drill's host is at fault."
            ),
        )
        check = CheckRestoreOperator(
            task_id="check",
            cluster=cluster.name,
            drill_id=BEGUN,
            families="{{ params.checks }}",
            execution_timeout=limit + MARGIN,
            doc_md=(
                "Compares the restored cluster with production and vector search with exact search."
                " Red: XCom's `findings` has every answer that is no pass, with its hint."
            ),
        )
        destroy = DestroyRestoredClusterOperator(
            task_id="destroy",
            cluster=cluster.name,
            drill_id=BEGUN,
            keep="{{ params.keep }}",
            execution_timeout=DESTROY_TIMEOUT,
            retry_delay=timedelta(seconds=30),
            doc_md="Ends the restored server and removes its folder, whatever happened before.",
        )
        # A teardown that counts hides the tasks before it from the run's verdict (Airflow looks at
        # the last tasks only): without this one, a failed check with a clean teardown would be a
        # green run. It is a teardown itself, for whatever is cleared, Airflow then runs it again.
        passed = DrillPassedOperator(
            task_id="passed",
            cluster=cluster.name,
            execution_timeout=BEGIN_TIMEOUT,
            retry_delay=timedelta(seconds=30),
            doc_md=(
                "Green exactly if the run's newest drill passed. It reads the report, whatever was"
                " cleared."
            ),
        )
        begin >> restore >> check
        # Two set-ups: `begin` lets the teardown run although the restore failed; `restore` is one
        # so that clearing `check` restores again what has been destroyed.
        check >> destroy.as_teardown(setups=[begin, restore], on_failure_fail_dagrun=True)
        check >> passed.as_teardown(setups=[begin, restore], on_failure_fail_dagrun=True)
    return dag


TARGET = (
    r"^(latest|random|alternate|(time|before):\d{4}-\d\d-\d\d[T"
    r" ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)"
    r"|lsn:[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}|name:[^\x00'\\]{1,63})$"
)


def drill_params() -> dict[str, Param]:
    """What a person can choose for a drill by hand; the form explains itself."""
    return {
        "backup": form_param(
            "LATEST",
            **worded(
                r"^[A-Za-z0-9_.:-]{1,200}$",
                "LATEST",
                "a base backup's full name, as `pgdrill backups` shows it",
            ),
            title="Base backup",
            text="`LATEST`, or a base backup's full name as `pgdrill backups` shows it.",
        ),
        "target": form_param(
            "latest",
            **worded(
                TARGET,
                "latest",
                "random",
                "alternate",
                "time:2026-11-20T11:00:00Z, with its zone",
                "before: and such a time",
                "lsn:0/3000028",
                "name: and a restore point",
            ),
            title="Recovery target",
            text=(
                "Where recovery stops: `latest` (a restore point made when the drill begins),"
                " `random` (an instant drawn from all that can be restored), `alternate` (the one"
                " of these two that the last drill was not; scheduled drills do that),"
                " `time:2026-11-20T11:00:00Z` (with its zone), `before:` and a time (without what"
                " was committed at it), `lsn:0/3000028` or `name:` and a restore point. Rows and"
                " schema are compared with `latest` only."
            ),
        ),
        "checks": form_param(
            list(FAMILIES),
            **listed(
                f"a list of one or more of {', '.join(FAMILIES)}",
                enum=list(FAMILIES),
                type="string",
            ),
            examples=list(FAMILIES),
            minItems=1,
            uniqueItems=True,
            title="Checks",
            text=(
                "Families of checks. Leave something out for a quick look; without `vectors` no"
                " drill is green."
            ),
        ),
        "keep": keep_param(),
    }
