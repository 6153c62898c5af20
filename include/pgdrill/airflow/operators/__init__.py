"""The operators: read inputs, call one library function, hand its figures on."""

from __future__ import annotations

from pgdrill.airflow.operators.base_backup import BaseBackupOperator
from pgdrill.airflow.operators.begin_drill import BeginDrillOperator
from pgdrill.airflow.operators.destroy_cluster import DestroyClusterOperator
from pgdrill.airflow.operators.logical_dump import LogicalDumpOperator
from pgdrill.airflow.operators.logical_restore import (
    DestroyDumpClusterOperator,
    LogicalRestoreOperator,
)
from pgdrill.airflow.operators.passed import DrillPassedOperator, DumpPassedOperator
from pgdrill.airflow.operators.prune import PruneOperator
from pgdrill.airflow.operators.restore_cluster import RestoreClusterOperator
from pgdrill.airflow.operators.vector_search_check import VectorSearchCheckOperator

__all__ = [
    "BaseBackupOperator",
    "BeginDrillOperator",
    "DestroyClusterOperator",
    "DestroyDumpClusterOperator",
    "DrillPassedOperator",
    "DumpPassedOperator",
    "LogicalDumpOperator",
    "LogicalRestoreOperator",
    "PruneOperator",
    "RestoreClusterOperator",
    "VectorSearchCheckOperator",
]
