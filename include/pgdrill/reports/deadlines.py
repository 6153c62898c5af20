"""When a run of a DAG has to be over, by the configuration and by what the last drill took.

Asked whenever Airflow reads a DAG file: no server, no store, and nothing that is slow to import.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pgdrill.config import Cluster

# The DAGs of a cluster, each with its section of the configuration; health has none.
SECTIONS = {
    "base_backup": "backup",
    "restore_drill": "drill",
    "logical_dump": "dump",
    "retention": "retention",
    "backup_health": "",
}
WARNING_SHARE = 0.75
HEALTH_SECONDS = 900.0  # three of its looks
CHECKS_MARGIN = 1.5
ROUNDED_SECONDS = 600  # so that not every drill makes a new version of its DAG
READ_REPORTS = 5
CONTENT_BYTES = 32 * 2**20


def deadline_seconds(cluster: Cluster, job: str) -> float:
    """Return after how many seconds a run of a job counts as late, as configured or derived.

    A drill has its RTO, and besides that, what the last one that passed on this host needed for
    the baseline and (with half as much again) for all checks; as much as the RTO where none has.
    """
    section = SECTIONS[job]
    if not section:
        return HEALTH_SECONDS
    configured = float(getattr(cluster, section).deadline_seconds)
    if configured:
        return configured
    if job == "base_backup":
        return cluster.backup.timeout_seconds
    if job == "logical_dump":
        return 2 * cluster.dump.timeout_seconds
    if job == "retention":
        return 6 * cluster.retention.timeout_seconds
    drill = cluster.drill
    besides = _besides_recovery(cluster.state_directory / "reports")
    wanted = drill.rto_seconds + (drill.rto_seconds if besides is None else besides)
    return min(math.ceil(wanted / ROUNDED_SECONDS) * ROUNDED_SECONDS, drill.timeout_seconds)


def _besides_recovery(folder: Path) -> float | None:
    """Return the seconds of baseline and checks of the newest drill that passed, of the copies that
    this host keeps; None where there is none.
    """
    try:
        files = sorted(folder.glob("*.json"), reverse=True)[:READ_REPORTS]
        for file in files:
            if file.stat().st_size <= CONTENT_BYTES and (found := _taken(file)) is not None:
                return found
    except OSError:
        return None
    return None


def _taken(file: Path) -> float | None:
    try:
        report: Any = json.loads(file.read_bytes())
        if report["verdict"] != "passed":
            return None
        baseline, checks = report["timings"]["baseline_seconds"], report["checks"]["seconds"]
        taken = float(baseline or 0) + CHECKS_MARGIN * float(checks or 0)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return taken if math.isfinite(taken) and taken >= 0 else None
