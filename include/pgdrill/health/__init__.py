"""The health of a cluster's backups between two drills: what is watched.

Importing this package registers the checks. Findings are data (:mod:`pgdrill.health.model`);
:func:`look` asks once, a :class:`Watcher` again and again.
"""

from __future__ import annotations

from pgdrill.health import (
    airflow,
    airflow_runs,
    archiving,
    certificates,
    drill_promises,
    failover,
    host,
    promises,
    queues,
    replication,
    repository,
    server,
    settings,
    slots,
    watch_beat,
)
from pgdrill.health.check import HEALTH_CHECKS, PLACES, HealthCheck, in_order
from pgdrill.health.model import HealthFinding, HealthReport, HealthStatus
from pgdrill.health.watcher import COSTS, Watcher, look

__all__ = [
    "COSTS",
    "HEALTH_CHECKS",
    "PLACES",
    "HealthCheck",
    "HealthFinding",
    "HealthReport",
    "HealthStatus",
    "Watcher",
    "airflow",
    "airflow_runs",
    "archiving",
    "certificates",
    "drill_promises",
    "failover",
    "host",
    "in_order",
    "look",
    "promises",
    "queues",
    "replication",
    "repository",
    "server",
    "settings",
    "slots",
    "watch_beat",
]
