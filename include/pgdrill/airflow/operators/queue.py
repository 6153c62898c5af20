"""What the operators of queues share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pgdrill.airflow.hooks import QueueHook
from pgdrill.airflow.operators.base import ClusterOperator, refuse_unknown

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pgdrill.queues.access import QueueAccess


class QueueOperator(ClusterOperator):
    """Works on a configured queue.

    :param cluster: the cluster that it belongs to (templated).
    :param queue_name: the queue's name in ``dr.toml`` (templated).
    """

    template_fields: Sequence[str] = (*ClusterOperator.template_fields, "queue_name")

    def __init__(self, *, queue_name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.queue_name = queue_name

    def access(self, context: Context) -> QueueAccess:
        """Give the queue as it is configured now."""
        refuse_unknown(self, context)
        return QueueHook(self.queue_name).get_conn()
