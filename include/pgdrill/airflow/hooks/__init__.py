"""The hooks: a configured cluster, or queue, with what its Airflow Connections bring."""

from __future__ import annotations

from pgdrill.airflow.hooks.cluster import ClusterHook
from pgdrill.airflow.hooks.queue import QueueHook

__all__ = ["ClusterHook", "QueueHook"]
