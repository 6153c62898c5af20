"""A configured cluster, reached with what its Airflow Connections bring."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.hook import BaseHook

if TYPE_CHECKING:
    from pgdrill.access import Access
    from pgdrill.config import Cluster


class ClusterHook(BaseHook):
    """Give the library's access to a cluster of ``dr.toml``.

    There is no connection type of its own: ``dr.toml`` names Connections of the types ``postgres``
    and ``aws``, and where it names none, the environment counts. The operators use it, and so can a
    task of your own::

        @task
        def stored_bytes(cluster: str) -> int:
            return sum(ClusterHook(cluster).get_conn().repository.sizes().values())

    :param cluster: the cluster's name in ``dr.toml``, or its configuration as it was at another
        time.
    """

    def __init__(self, cluster: str | Cluster, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster = cluster

    @cached_property
    def configuration(self) -> Cluster:
        """The cluster as configured, without its Connections.

        :raises ConfigError: if ``dr.toml`` cannot be used or has no such cluster.
        """
        from pgdrill.config import load

        return load().cluster(self.cluster) if isinstance(self.cluster, str) else self.cluster

    def get_conn(self) -> Access:
        """Return the cluster with its credentials, which are asked of the Connections each time.

        :raises ConfigError: if a Connection is missing or does not fit; it names the key of
            ``dr.toml`` that wants it.
        """
        from pgdrill.access import Access
        from pgdrill.airflow.hooks.credentials import credentials_of

        return Access(*credentials_of(self.configuration))
