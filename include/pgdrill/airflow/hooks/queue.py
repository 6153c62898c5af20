"""A configured queue, reached with what its Airflow Connection brings."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from pgdrill.airflow.hooks.cluster import ClusterHook

if TYPE_CHECKING:
    from pgdrill.queue_settings import Queue
    from pgdrill.queues.access import QueueAccess


class QueueHook(BaseHook):
    """Give the library's access to a queue of ``dr.toml``, and to the cluster that it belongs to.

    :param queue_name: the queue's name in ``dr.toml``.
    """

    def __init__(self, queue_name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.queue_name = queue_name

    @cached_property
    def configuration(self) -> Queue:
        """The queue as configured.

        :raises ConfigError: if ``dr.toml`` cannot be used or has no such queue.
        """
        from pgdrill.config import load

        return load().queue(self.queue_name)

    def get_conn(self) -> QueueAccess:
        """Return the queue with its credentials, which are asked of the Connection each time.

        :raises ConfigError: if a Connection is missing or does not fit.
        """
        from pgdrill.queues.access import QueueAccess

        queue = self.configuration
        mask_secret(os.environ.get(queue.password_variable, ""))
        given = redis_words(queue) if queue.conn_id else {}
        return QueueAccess(queue, ClusterHook(queue.cluster).get_conn(), given)


def redis_words(queue: Queue) -> dict[str, Any]:
    """Return address and login of a ``redis`` connection; ``ssl`` of its extra means TLS."""
    from pgdrill.errors import ConfigError

    thing = f"Airflow connection {queue.conn_id!r} ([queues.{queue.name}] conn_id)"
    try:
        connection = BaseHook.get_connection(queue.conn_id)
    except AirflowNotFoundException:
        raise ConfigError(
            "no-connection",
            thing,
            found="no such connection",
            expected="one of type redis",
            hint=f"add it (Admin > Connections, or AIRFLOW_CONN_{queue.conn_id.upper()}), or"
            " correct conn_id in dr.toml",
        ) from None
    if connection.conn_type != "redis":
        raise ConfigError(
            "bad-connection",
            thing,
            found=f"type {connection.conn_type!r}",
            expected="type 'redis'",
            hint="change its type, or name another connection in dr.toml",
        )
    mask_secret(connection.password or "")
    words: dict[str, Any] = {
        "host": connection.host,
        "port": connection.port,
        "username": connection.login,
        "password": connection.password,
    }
    if "ssl" in connection.extra_dejson:
        words["tls"] = bool(connection.extra_dejson["ssl"])
    return {name: value for name, value in words.items() if value not in (None, "")}
