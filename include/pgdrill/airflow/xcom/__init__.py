"""What the tasks hand on by XCom: dataclasses, handed on as flat dictionaries of JSON's own types,
with units in the names and no row content.
"""

from __future__ import annotations

from pgdrill.airflow.xcom.drill import BeginResult, DestroyResult, DrillResult, RestoreResult
from pgdrill.airflow.xcom.dump import DumpRestoreResult, DumpResult
from pgdrill.airflow.xcom.explanation import dump_explanation, explanation
from pgdrill.airflow.xcom.health import HealthResult
from pgdrill.airflow.xcom.plain import as_xcom, where
from pgdrill.airflow.xcom.queue import QueueVerifyResult, SnapshotResult

__all__ = [
    "BeginResult",
    "DestroyResult",
    "DrillResult",
    "DumpRestoreResult",
    "DumpResult",
    "HealthResult",
    "QueueVerifyResult",
    "RestoreResult",
    "SnapshotResult",
    "as_xcom",
    "dump_explanation",
    "explanation",
    "where",
]
