"""What is wrong in ``dr.toml``, told with the looks at clusters that can be looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

from pgdrill.errors import ConfigError
from pgdrill.health import HealthFinding
from pgdrill.health.configuration import CHECK, PROMISE, misconfigured


def of_configuration(
    cluster: str, wrong: Mapping[str, ConfigError], watched: Collection[str]
) -> Iterator[HealthFinding]:
    """Yield what is wrong for a look at ``cluster``.

    What is no watched cluster's own is told by the first of them: nobody else could. A cluster that
    is not watched is critical; one that goes on as it was before is a warning.
    """
    now = datetime.now(UTC)
    told = 0
    for name, error in wrong.items():
        others = name not in watched and cluster == min(watched)
        if name != cluster and not others:
            continue
        told += 1
        unwatched = bool(name) and name not in watched
        yield misconfigured(
            cluster,
            error,
            "critical" if unwatched else "warning",
            now,
            f"cluster {name}, which nobody watches" if unwatched else "",
        )
    if not told:
        yield HealthFinding(
            cluster=cluster,
            check=CHECK,
            status="ok",
            found="it is right",
            promise=PROMISE,
            looked_at=now,
        )
