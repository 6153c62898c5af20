"""The DAG that copies a queue's server, proves the copy, and deletes what no promise needs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, Asset, CronTriggerTimetable, Param

from pgdrill.airflow.dags.common import BEGIN_TIMEOUT, MARGIN, form_param, untold, worded, yes_or_no
from pgdrill.airflow.operators import QueuePruneOperator, QueueSnapshotOperator, QueueVerifyOperator
from pgdrill.airflow.schedules import check_queue_schedule

if TYPE_CHECKING:
    from pgdrill.config import Settings
    from pgdrill.queue_settings import Queue

TAKEN = "{{ ti.xcom_pull(task_ids='snapshot')['snapshot_id'] }}"


def queue_snapshots(queue: Queue) -> Asset:
    """The queue's snapshots, as data that is written and then loaded."""
    return Asset(
        name=f"{queue.name}.queue_snapshots",
        uri=f"x-pgdrill://{queue.name}/queue_snapshots",
        group="pgdrill",
    )


def queue_snapshot_dag(queue: Queue, settings: Settings, doc: str | None = None) -> DAG:
    """``<queue>.queue_snapshot``: copy, load and ask, prune."""
    cluster = settings.cluster(queue.cluster)
    limit = timedelta(seconds=queue.timeout_seconds)
    schedule = CronTriggerTimetable(
        check_queue_schedule(queue, settings.source), timezone="UTC", run_immediately=timedelta(0)
    )
    whose = {"cluster": cluster.name, "queue_name": queue.name}
    with DAG(
        f"{queue.name}.queue_snapshot",
        schedule=schedule,
        description=f"Copies the job queues of {queue.name}, and loads the copy before it counts",
        params=queue_params(),
        **untold(cluster, "queue", doc),
    ) as dag:
        snapshot = QueueSnapshotOperator(
            task_id="snapshot",
            **whose,
            snapshot="{{ params.snapshot or '' }}",
            outlets=[queue_snapshots(queue)],
            execution_timeout=limit + MARGIN,
            doc_md=(
                "Copies the server's data to the store, from a replica where one keeps up. Red:"
                " nothing of it is left."
            ),
        )
        verify = QueueVerifyOperator(
            task_id="verify",
            **whose,
            snapshot=TAKEN,
            inlets=[queue_snapshots(queue)],
            # fetching and loading have that limit of their own, each
            execution_timeout=2 * limit + MARGIN,
            doc_md=(
                "Loads it into a throw-away server inside a fence, and asks whether its queues hold"
                " together. Red: XCom's `findings` has every answer that is no pass, with its hint."
            ),
        )
        prune = QueuePruneOperator(
            task_id="prune",
            **whose,
            wanted="{{ params.prune }}",
            execution_timeout=MARGIN,
            retry_delay=BEGIN_TIMEOUT,
            doc_md=(
                f"Keeps the newest good one of {queue.hourly} hours and {queue.daily} days, and"
                " deletes the others. Only after a snapshot that passed."
            ),
        )
        snapshot >> verify >> prune
    return dag


def queue_params() -> dict[str, Param]:
    """What a person can choose for a run by hand."""
    return {
        "snapshot": form_param(
            "",
            **worded(
                r"^([0-9]{8}T[0-9]{6}Z-[0-9a-f]{6})?$",
                "a snapshot's id, as `pgdrill queue list` shows it",
                "nothing, to take a new one",
                may_be_empty=True,
            ),
            title="An earlier snapshot",
            text="Is loaded and asked once more, and none is taken. Empty: a new one is taken.",
        ),
        "prune": form_param(
            True,
            **yes_or_no(),
            title="Delete what no promise needs",
            text="Hours and days that are kept stand in `dr.toml`. Off: nothing is deleted.",
        ),
    }
