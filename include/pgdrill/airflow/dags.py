"""The DAGs of a configured cluster. Drawing them reads the configuration and nothing else: no server, no Connection.

Pools: the tasks stay in ``default_pool``. A task whose pool does not exist is never run and says nothing, and that is
the wrong way for a backup to fail; one drill and one backup at a time for a cluster is the library's own lock, which
holds for the CLI, too.

Retries: ``retries`` is for what did not answer. What another try cannot change (a damaged backup, a red verdict, a wrong
configuration) is raised as ``AirflowFailException``, which Airflow never tries again.

Time limits: every step has its own in ``dr.toml``, which ends it with an explanation; ``execution_timeout`` stands
behind them. There is no ``dagrun_timeout``: it would skip the teardown, too.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Asset, CronTriggerTimetable, ExceptionRetryPolicy, Param, RetryAction, RetryRule

from pgdrill.airflow.operators import (
    BaseBackupOperator,
    BeginDrillOperator,
    DestroyClusterOperator,
    DestroyDumpClusterOperator,
    LogicalDumpOperator,
    LogicalRestoreOperator,
    PruneOperator,
    RestoreClusterOperator,
    VectorSearchCheckOperator,
)
from pgdrill.airflow.operators.prune import ChoosePruneOperator
from pgdrill.airflow.operators.vector_search_check import FAMILIES
from pgdrill.errors import ConfigError

if TYPE_CHECKING:
    from pgdrill.config import Cluster, Settings

MARGIN = timedelta(minutes=15)  # beyond the library's own limits: listing, baseline, report
BEGIN_TIMEOUT = timedelta(minutes=5)
APPROVAL_TIMEOUT = timedelta(days=3)  # then nothing is deleted
DESTROY_TIMEOUT = timedelta(minutes=30)  # removing terabytes takes its time

# A step that used up its whole time would do so again.
NO_RETRY_AFTER_TIMEOUT = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception="airflow.sdk.exceptions.AirflowTaskTimeout",
            action=RetryAction.FAIL,
            reason="ran into its time limit; another try would, too",
        )
    ]
)


def base_backups(cluster: Cluster) -> Asset:
    """The cluster's base backups, as data that the backup writes and the drill reads.

    Named by the cluster and not by the repository's URL, so that moving the repository does not make two assets of it.
    ``x-`` marks a scheme as one's own: for any other, Airflow looks for its owner and imports every provider (2.9 s).
    """
    return Asset(name=f"{cluster.name}.base_backups", uri=f"x-pgdrill://{cluster.name}/base_backups", group="pgdrill")


def base_backup_dag(cluster: Cluster, settings: Settings, doc: str | None = None) -> DAG:
    """``<cluster>.base_backup``: one task, for the tool, its proof and the record belong together."""
    limits = cluster.backup
    with DAG(
        f"{cluster.name}.base_backup",
        schedule=_cron(cluster, settings, "backup"),
        description=f"Base backup of cluster {cluster.name} with {cluster.repository.tool}",
        doc_md=_doc(doc, cluster),
        tags={"pgdrill", "backup", cluster.name},
        **_common(cluster),
    ) as dag:
        BaseBackupOperator(
            task_id="backup",
            cluster=cluster.name,
            outlets=[base_backups(cluster)],
            execution_timeout=timedelta(seconds=limits.timeout_seconds + limits.archive_wait_seconds) + MARGIN,
            retry_delay=timedelta(minutes=10),
            doc_md="Runs the backup tool beside the data directory, reads the new backup back from the listing, compares"
            " every part, waits for its WAL and records what production held.",
        )
    return dag


def restore_drill_dag(cluster: Cluster, settings: Settings, doc: str | None = None) -> DAG:
    """``<cluster>.restore_drill``: begin, restore, check, destroy.

    The schedule is a cron and not the backup's asset: the promise is a drill every Friday, and it must show most of all
    when there was no new backup. The asset is the restore's inlet, for lineage.
    """
    limit = timedelta(seconds=cluster.drill.timeout_seconds)
    # A form has one default for both, and a person who just clicks expects the latest state.
    target = f"{{{{ '{cluster.drill.scheduled_target}' if dag_run.run_type == 'scheduled' else params.target }}}}"
    with DAG(
        f"{cluster.name}.restore_drill",
        schedule=_cron(cluster, settings, "drill"),
        description=f"Restores the latest backup of cluster {cluster.name} and proves that vector search on it is right",
        doc_md=_doc(doc, cluster),
        tags={"pgdrill", "drill", cluster.name},
        params=drill_params(),
        **_common(cluster),
    ) as dag:
        begin = BeginDrillOperator(
            task_id="begin",
            cluster=cluster.name,
            target=target,
            execution_timeout=BEGIN_TIMEOUT,
            doc_md="Refuses what cannot work before anything is touched. Red: configuration, Connection or parameter.",
        )
        restore = RestoreClusterOperator(
            task_id="restore",
            cluster=cluster.name,
            backup="{{ params.backup }}",
            target=target,
            inlets=[base_backups(cluster)],
            execution_timeout=limit + MARGIN,
            doc_md="Notes what production holds, checks the repository, fetches the backup, replays WAL to the target"
            " and promotes. Red: the message says whether the backup or the drill's host is at fault.",
        )
        check = VectorSearchCheckOperator(
            task_id="check",
            cluster=cluster.name,
            families="{{ params.checks | join(',') }}",
            execution_timeout=limit + MARGIN,
            doc_md="Compares the restored cluster with production and vector search with exact search. Red: XCom's"
            " `findings` has every answer that is no pass, with its mend.",
        )
        destroy = DestroyClusterOperator(
            task_id="destroy",
            cluster=cluster.name,
            keep="{{ params.keep }}",
            execution_timeout=DESTROY_TIMEOUT,
            retry_delay=timedelta(seconds=30),
            doc_md="Ends the restored server and removes its folder, whatever happened before.",
        )
        # A teardown that counts hides the tasks before it from the run's verdict (Airflow looks at the last tasks
        # only): without this one, a failed check with a clean teardown would be a green run.
        passed = EmptyOperator(
            task_id="passed", doc_md="Green exactly if the drill passed; it makes a failed check fail the run."
        )
        begin >> restore >> check >> passed
        # Two set-ups: `begin` lets the teardown run although the restore failed; `restore` is one so that clearing
        # `check` restores again what has been destroyed.
        check >> destroy.as_teardown(setups=[begin, restore], on_failure_fail_dagrun=True)
    return dag


def logical_dumps(cluster: Cluster) -> Asset:
    """The cluster's logical dumps, as data that is written and then read back."""
    return Asset(name=f"{cluster.name}.logical_dumps", uri=f"x-pgdrill://{cluster.name}/logical_dumps", group="pgdrill")


def logical_dump_dag(cluster: Cluster, settings: Settings, doc: str | None = None) -> DAG:
    """``<cluster>.logical_dump``: dump, restore and check, destroy."""
    limit = timedelta(seconds=cluster.dump.timeout_seconds)
    with DAG(
        f"{cluster.name}.logical_dump",
        schedule=_cron(cluster, settings, "dump"),
        description=f"Dumps cluster {cluster.name} with pg_dump, and restores the dump before it counts",
        doc_md=_doc(doc, cluster),
        tags={"pgdrill", "dump", cluster.name},
        params=dump_params(),
        **_common(cluster),
    ) as dag:
        dump = LogicalDumpOperator(
            task_id="dump",
            cluster=cluster.name,
            databases="{{ params.databases | join(',') }}",
            outlets=[logical_dumps(cluster)],
            execution_timeout=limit + MARGIN,
            retry_delay=timedelta(minutes=10),
            doc_md="Dumps each database from one snapshot into the store, and the roles. Red: nothing of it is left.",
        )
        restore = LogicalRestoreOperator(
            task_id="restore",
            cluster=cluster.name,
            dump="{{ ti.xcom_pull(task_ids='dump')['dump_id'] }}",
            bin_dir="{{ params.bin_dir }}",
            migrations="{{ params.migrations }}",
            keep="{{ params.keep }}",
            inlets=[logical_dumps(cluster)],
            # Download, rows and each index have that limit of their own; the drill's ends the server.
            execution_timeout=max(limit, timedelta(seconds=cluster.drill.timeout_seconds)) + MARGIN,
            doc_md="Restores the dump into a throw-away cluster and compares it with the snapshot; vector search against"
            " exact search. Red: XCom's `findings` has every answer that is no pass, with its mend.",
        )
        destroy = DestroyDumpClusterOperator(
            task_id="destroy",
            cluster=cluster.name,
            keep="{{ params.keep }}",
            execution_timeout=DESTROY_TIMEOUT,
            retry_delay=timedelta(seconds=30),
            doc_md="Ends the restored server and removes its folder, should the restore have been killed.",
        )
        passed = EmptyOperator(
            task_id="passed", doc_md="Green exactly if the dump was restored and found right; it makes a red restore fail the run."
        )
        dump >> restore >> passed
        restore >> destroy.as_teardown(setups=[dump], on_failure_fail_dagrun=True)
    return dag


def dump_params() -> dict[str, Param]:
    """What a person can choose for a dump by hand."""
    return {
        "databases": Param(
            [],
            type="array",
            items={"type": "string", "pattern": r"^[^,]{1,63}$"},
            title="Databases",
            description="Empty: those of the configuration.",
            section="What to dump",
        ),
        "bin_dir": Param(
            "",
            type="string",
            pattern=r"^(/[^'\"]*)?$",
            title="Restore into another PostgreSQL",
            description="Folder of its programs, on the drill's host: a newer major version, or newer extensions. Empty: as configured.",
            section="What to restore into",
        ),
        "migrations": Param(
            "",
            type="string",
            pattern=r"^(/[^'\"]*)?$",
            title="Migrations to rehearse",
            description="A folder on the drill's host with `*.sql` files, or with `alembic.ini`. Empty: none.",
            section="What to ask",
        ),
        "keep": Param(
            False,
            type="boolean",
            title="Keep the restored cluster for a look",
            description="The task `destroy` then says where it is. Its server ends by itself at the drill's time limit;"
            " until then no other drill of this cluster can start.",
            section="Afterwards",
        ),
    }


def drill_params() -> dict[str, Param]:
    """What a person can choose for a drill by hand; the form explains itself."""
    restore, checks, afterwards = "What to restore", "What to ask", "Afterwards"
    return {
        "backup": Param(
            "LATEST",
            type="string",
            pattern=r"^[A-Za-z0-9_.:-]{1,200}$",
            title="Base backup",
            description="`LATEST`, or a base backup's full name as `wal-g backup-list` shows it.",
            section=restore,
        ),
        "target": Param(
            "latest",
            type="string",
            pattern=r"^(latest|random|alternate|(time|before):\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)"
            r"|lsn:[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}|name:[^\x00'\\]{1,63})$",
            title="Recovery target",
            description="Where recovery stops: `latest` (a restore point made when the drill begins), `random` (an instant"
            " drawn from all that can be restored), `alternate` (the one of these two that the last drill was not; scheduled"
            " drills do that), `time:2026-11-20T11:00:00Z` (with its zone), `before:` and a time (without what was committed"
            " at it), `lsn:0/3000028` or `name:` and a restore point. Rows and schema are compared with `latest` only.",
            section=restore,
        ),
        "checks": Param(
            list(FAMILIES),
            type="array",
            items={"type": "string", "enum": list(FAMILIES)},
            examples=list(FAMILIES),
            minItems=1,
            uniqueItems=True,
            title="Checks",
            description="Families of checks. Leave something out for a quick look; without `vectors` no drill is green.",
            section=checks,
        ),
        "keep": Param(
            False,
            type="boolean",
            title="Keep the restored cluster for a look",
            description="The task `destroy` then says where it is. Its server ends by itself at the drill's time limit;"
            " until then no other drill of this cluster can start.",
            section=afterwards,
        ),
    }


def retention_dag(cluster: Cluster, settings: Settings, doc: str | None = None) -> DAG:
    """``<cluster>.retention``: plan, perhaps a person's approval, prune. After each base backup, for it moves the window."""
    limit = 6 * timedelta(seconds=cluster.retention.timeout_seconds)
    with DAG(
        f"{cluster.name}.retention",
        schedule=[base_backups(cluster)],
        description=f"Deletes what no promise needs of cluster {cluster.name}'s base backups, WAL and dumps",
        doc_md=_doc(doc, cluster),
        tags={"pgdrill", "retention", cluster.name},
        params=retention_params(),
        **_common(cluster),
    ) as dag:
        by_hand: dict[str, Any] = {"also": "{{ params.also | join(',') }}", "allow": "{{ params.allow | join(',') }}"}
        plan = PruneOperator(
            task_id="plan",
            cluster=cluster.name,
            execution_timeout=limit,
            doc_md="Says what would go, what stays and why, and every promise before and after. Deletes nothing.",
            **by_hand,
        )
        choose = ChoosePruneOperator(
            task_id="choose",
            planned="plan",
            approve="approve",
            prune="prune",
            doc_md="To a person's approval in runs by hand and in the first one, else on; nothing more in a dry run.",
        )
        approve = ApprovalOperator(
            task_id="approve",
            subject=f"Delete backups of cluster {cluster.name}?",
            body="{{ ti.xcom_pull(task_ids='plan')['text'] }}",
            defaults="Reject",
            response_timeout=APPROVAL_TIMEOUT,
            retries=0,
            doc_md="Shows the plan and waits. Rejected, or after three days, nothing is deleted.",
        )
        prune = PruneOperator(
            task_id="prune",
            cluster=cluster.name,
            apply=True,
            approved="{{ ti.xcom_pull(task_ids='plan')['digest'] }}",
            trigger_rule="none_failed_min_one_success",
            execution_timeout=limit,
            doc_md="Does exactly what was planned, asks the tool first, and looks again afterwards. Red: nothing promised is"
            " lost; the message says what was refused, and the mend.",
            **by_hand,
        )
        plan >> choose >> approve >> prune
        choose >> prune
    return dag


def retention_params() -> dict[str, Param]:
    """What a person can choose for a run by hand."""
    section = "Runs by hand"
    return {
        "apply": Param(
            False,
            type="boolean",
            title="Delete, after your approval",
            description="Without it the run shows the plan, with every promise before and after, and deletes nothing.",
            section=section,
        ),
        "also": Param(
            [],
            type="array",
            items={"type": "string", "pattern": r"^[A-Za-z0-9_.:-]{1,200}$"},
            title="Remove these, too",
            description="Full names of leftovers or of another cluster's backups, one a line. They go only if old enough.",
            section=section,
        ),
        "allow": Param(
            [],
            type="array",
            items={"type": "string", "enum": ["too-much", "wal-gap", "nothing-proved"]},
            examples=["too-much", "wal-gap", "nothing-proved"],
            title="Let these refusals pass",
            description="For a first run or a shorter promise, `too-much`. Read the plan's refusals first.",
            section=section,
        ),
    }


def _common(cluster: Cluster) -> dict[str, Any]:
    return {
        # No start_date: with one, unpausing would at once start the run that was due last. Nobody expects a backup or a
        # restore of a production cluster from flipping a switch; Trigger is there for that.
        "catchup": False,
        "max_active_runs": 1,
        "default_args": {
            "owner": cluster.owner,
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_policy": NO_RETRY_AFTER_TIMEOUT,
            **({"queue": cluster.server.queue} if cluster.server.queue else {}),
        },
    }


def _cron(cluster: Cluster, settings: Settings, section: str) -> CronTriggerTimetable:
    """The section's schedule, in UTC; one that is no cron is an error in the file and says where."""
    expression: str = getattr(cluster, section).schedule
    try:
        from croniter import croniter  # type: ignore[import-untyped]

        valid = croniter.is_valid(expression) and len(expression.split()) <= 5
    except ImportError:  # a worker with the task SDK alone, which asks for no schedule
        valid = True
    if not valid:
        raise ConfigError(
            "bad-schedule", f"{settings.source} [clusters.{cluster.name}.{section}] schedule", found=repr(expression),
            expected="a cron expression of five fields, in UTC", mend="for example 0 2 * * 0: Sundays at 02:00",
        )  # fmt: skip
    # Zero: unpausing starts no run that was due a while ago (False does, within a tenth of the period).
    return CronTriggerTimetable(expression, timezone="UTC", run_immediately=timedelta(0))


def _doc(doc: str | None, cluster: Cluster) -> str:
    """The DAG file's own words, and what is configured for this cluster."""
    rows = {
        "Cluster": f"`{cluster.name}`, data directory `{cluster.server.data_directory}`",
        "Repository": f"`{cluster.repository.url}`, by {cluster.repository.tool}",
        "Reports": f"`{cluster.reports_url or cluster.repository.url + '/pgdrill'}/reports`",
        "Drills work in": f"`{cluster.state_directory}`",
        "Promised": f"vector search correct within {cluster.drill.rto_seconds:g} s (RTO),"
        f" at most {cluster.drill.rpo_seconds:g} s of work lost (RPO)",
        "Owner": cluster.owner,
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"{(doc or '').strip()}\n\n### As configured\n\n| | |\n| --- | --- |\n{table}\n"
