"""The hook: a configured cluster with what its Airflow Connections bring."""

from __future__ import annotations

from pgdrill.airflow.hooks.cluster import ClusterHook

__all__ = ["ClusterHook"]
