"""Takes a snapshot of a queue's server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pgdrill.airflow.exceptions import airflow_errors
from pgdrill.airflow.operators.base import refuse_the_past
from pgdrill.airflow.operators.queue import QueueOperator
from pgdrill.airflow.progress import ProgressLog
from pgdrill.airflow.waiting import waiting
from pgdrill.airflow.xcom import SnapshotResult, as_xcom

if TYPE_CHECKING:
    from airflow.sdk import Context


class QueueSnapshotOperator(QueueOperator):
    """Copy a queue's server to the store, from a replica where one keeps up; the record comes last.

    It counts only once :class:`QueueVerifyOperator` has passed. XCom: id, instant, sizes in bytes,
    seconds, version, counts of live jobs and of history, PostgreSQL's LSNs meanwhile.

    :param cluster: the cluster that it belongs to (templated).
    :param queue_name: the queue's name in ``dr.toml`` (templated).
    :param snapshot: an earlier snapshot's id: then none is taken, and it is handed on (templated).
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "snapshot")

    def __init__(self, *, snapshot: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot = snapshot

    def execute(self, context: Context) -> dict[str, Any]:
        """Take the snapshot, and tell the task's outlet assets."""
        from pgdrill.queues import record as records
        from pgdrill.queues.take import take_snapshot

        with airflow_errors():
            access = self.access(context)
            if self.snapshot:
                record = records.read(access, records.find(access, self.snapshot))
                return as_xcom(SnapshotResult.of(record))
            refuse_the_past(context, "a snapshot")
            with waiting(context, access.queue.timeout_seconds, self.log):
                record = take_snapshot(access, runner=self.runner, progress=ProgressLog(self.log))
        result = as_xcom(SnapshotResult.of(record))
        for asset in self.outlets:
            context["outlet_events"][asset].extra = result
        return result
