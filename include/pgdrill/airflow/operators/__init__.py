"""The operators: read inputs, call one library function, hand its figures on."""

from __future__ import annotations

import warnings
from typing import Any

from pgdrill.airflow.operators.backup_health import BackupHealthOperator
from pgdrill.airflow.operators.base_backup import BaseBackupOperator
from pgdrill.airflow.operators.begin_drill import BeginDrillOperator
from pgdrill.airflow.operators.check_restore import CheckRestoreOperator, VectorSearchCheckOperator
from pgdrill.airflow.operators.destroy_restored_cluster import DestroyRestoredClusterOperator
from pgdrill.airflow.operators.destroy_restored_dump import DestroyRestoredDumpOperator
from pgdrill.airflow.operators.logical_dump import LogicalDumpOperator
from pgdrill.airflow.operators.logical_restore import LogicalRestoreOperator
from pgdrill.airflow.operators.passed import DrillPassedOperator, DumpPassedOperator
from pgdrill.airflow.operators.prune import PruneOperator
from pgdrill.airflow.operators.queue_prune import QueuePruneOperator
from pgdrill.airflow.operators.queue_snapshot import QueueSnapshotOperator
from pgdrill.airflow.operators.queue_verify import QueueVerifyOperator
from pgdrill.airflow.operators.restore_cluster import RestoreClusterOperator
from pgdrill.airflow.operators.retention_approval import RetentionApprovalOperator
from pgdrill.airflow.operators.retention_branch import RetentionBranchOperator
from pgdrill.airflow.operators.retention_refused import RetentionRefusedOperator
from pgdrill.renamed import now_called

__all__ = [
    "BackupHealthOperator",
    "BaseBackupOperator",
    "BeginDrillOperator",
    "CheckRestoreOperator",
    "DestroyRestoredClusterOperator",
    "DestroyRestoredDumpOperator",
    "DrillPassedOperator",
    "DumpPassedOperator",
    "LogicalDumpOperator",
    "LogicalRestoreOperator",
    "PruneOperator",
    "QueuePruneOperator",
    "QueueSnapshotOperator",
    "QueueVerifyOperator",
    "RestoreClusterOperator",
    "RetentionApprovalOperator",
    "RetentionBranchOperator",
    "RetentionRefusedOperator",
    "VectorSearchCheckOperator",
]

RENAMED = {
    "ApprovePlanOperator": RetentionApprovalOperator,
    "ChoosePruneOperator": RetentionBranchOperator,
    "DestroyClusterOperator": DestroyRestoredClusterOperator,
    "DestroyDumpClusterOperator": DestroyRestoredDumpOperator,
    "RefusedOperator": RetentionRefusedOperator,
}


def __getattr__(name: str) -> Any:
    """Give an operator by the name that it had, with a warning."""
    if name not in RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    operator = RENAMED[name]
    words = now_called(f"{__name__}.{name}", operator.__name__)
    warnings.warn(words, DeprecationWarning, stacklevel=2)
    return operator
