"""Deletes the snapshots of a queue that no promise needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowSkipException

from pgdrill.airflow.exceptions import airflow_errors
from pgdrill.airflow.operators.queue import QueueOperator
from pgdrill.airflow.operators.templates import yes_or_no
from pgdrill.airflow.waiting import waiting
from pgdrill.airflow.xcom import as_xcom

if TYPE_CHECKING:
    from airflow.sdk import Context


class QueuePruneOperator(QueueOperator):
    """Keep the newest good snapshot of each hour and day that is promised; delete the others.

    XCom: how many were kept, which were deleted, which somebody reads, and the bytes freed.

    :param cluster: the cluster that it belongs to (templated).
    :param queue_name: the queue's name in ``dr.toml`` (templated).
    :param wanted: whether anything is to be deleted in this run (templated).
    """

    template_fields: Sequence[str] = (*QueueOperator.template_fields, "wanted")
    native_fields: ClassVar[frozenset[str]] = frozenset({"wanted"})

    def __init__(self, *, wanted: bool | str = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wanted = wanted

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete the snapshots that no promise needs and nobody reads."""
        from pgdrill.queues.prune import prune

        with airflow_errors():
            if not yes_or_no(self.wanted, "wanted"):
                raise AirflowSkipException("nothing is to be deleted in this run")
            access = self.access(context)
            with waiting(context, access.queue.timeout_seconds, self.log):
                return as_xcom(prune(access, apply=True))
