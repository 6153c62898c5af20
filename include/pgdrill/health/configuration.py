"""A cluster that ``dr.toml`` describes wrongly: nothing of it can be looked at."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from pgdrill.errors import ConfigError
from pgdrill.health.model import HealthFinding, HealthReport, HealthStatus
from pgdrill.text import one_line

CHECK = "configuration"
PROMISE = "a configuration that can be used"


def not_configured(cluster: str, error: ConfigError) -> HealthReport:
    """Return the look at a cluster that cannot be looked at: unknown, which is never ok."""
    now = datetime.now(UTC)
    finding = misconfigured(cluster, error, "unknown", now)
    return HealthReport(
        cluster=cluster, host=socket.gethostname(), started_at=now, seconds=0.0, findings=[finding]
    )


def misconfigured(
    cluster: str, error: ConfigError, status: HealthStatus, now: datetime, thing: str = ""
) -> HealthFinding:
    """Return what is wrong in the file as a finding of ``cluster``."""
    words = error.problem
    return HealthFinding(
        cluster=cluster,
        check=CHECK,
        thing=one_line(thing),
        status=status,
        found=one_line(f"{words.thing}: {words.found}"),
        promise=PROMISE,
        hint=words.hint,
        reason=words.reason,
        looked_at=now,
    )
