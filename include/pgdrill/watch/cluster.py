"""One cluster's watch: a look at its health, handed to its alerts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pgdrill.access import Access
from pgdrill.alerts import Alerting, Link, Message, SecretSource, from_environment
from pgdrill.config import Settings
from pgdrill.health import COSTS, HEALTH_CHECKS, HealthFinding, HealthReport, Watcher
from pgdrill.health.check import Cost
from pgdrill.health.watcher import SECONDS

# What is seen from one host only: that it is not seen from another says nothing of it.
ELSEWHERE = ("not-beside",)
# A server that is restarted is gone for a moment: it is asked once more before anybody is woken.
GONE = ("server-gone", "standby-gone")
CONFIRM_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Looked:
    """A look, and the messages that it gave rise to.

    ``nobody``: why nobody is told of this cluster; empty where somebody is.
    """

    report: HealthReport
    messages: tuple[Message, ...]
    nobody: str


class ClusterWatch:
    """Looks at one cluster and tells. Use it as a context: what is on its way is sent before it
    ends.

    Any number of them may watch one cluster, from whatever hosts: what one has told no other tells
    again, for all of them remember it in the report store.
    """

    def __init__(
        self,
        access: Access,
        settings: Settings,
        secrets: SecretSource = from_environment,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.pause = pause
        self._gone = False
        self.name = access.cluster.name
        self.watcher = Watcher(access)
        # in a hurry as the looks are: a store that hangs keeps none from being taken
        self.alerting = Alerting(
            self.watcher.subject.access, settings.alerts, hides=consequences(), secrets=secrets
        )

    def __enter__(self) -> ClusterWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections, and wait until what is on its way is sent or has failed for now."""
        self.watcher.close()
        self.alerting.__exit__()

    def look(
        self,
        costs: Collection[Cost] = (),
        *,
        seconds: float = SECONDS,
        more: Iterable[HealthFinding] = (),
        links: Mapping[str, Sequence[Link]] | None = None,
    ) -> Looked:
        """Look, and tell of what is found; without ``costs`` at what is due by now.

        ``more``: findings of others that belong to this look. ``links``: by check, what a message
        leads to. Raises :class:`pgdrill.errors.Momentary` where alerts can be remembered nowhere.
        """
        seen = self._confirmed(costs, seconds)
        report = seen.model_copy(update={"findings": [*seen.findings, *more]})
        messages = self.alerting.look(_of_the_cluster(report), links)
        return Looked(report, tuple(messages), self.alerting.nobody)

    def _confirmed(self, costs: Collection[Cost], seconds: float) -> HealthReport:
        seen = self.watcher.look(costs, seconds=seconds)
        if _gone(seen) and not self._gone:
            self.pause(CONFIRM_SECONDS)
            again = self.watcher.look(costs or COSTS[:1], seconds=seconds)
            seen = again.after(seen)
        self._gone = _gone(seen)
        return seen


def once(
    access: Access,
    settings: Settings,
    *,
    costs: Collection[Cost] = COSTS,
    seconds: float = SECONDS,
    more: Iterable[HealthFinding] = (),
    links: Mapping[str, Sequence[Link]] | None = None,
    secrets: SecretSource = from_environment,
) -> Looked:
    """Look at a cluster once, and tell of what is found; return when all messages are sent, or have
    failed for now.
    """
    with ClusterWatch(access, settings, secrets) as watch:
        return watch.look(costs, seconds=seconds, more=more, links=links)


def consequences() -> dict[str, tuple[str, ...]]:
    """Return for each check those whose bad state is a consequence of its own."""
    return {name: check.hides for name, check in HEALTH_CHECKS.items() if check.hides}


def _gone(report: HealthReport) -> bool:
    return any(one.reason in GONE for one in report.findings)


def _of_the_cluster(report: HealthReport) -> HealthReport:
    """Return the look without what this host is in no place to say."""
    told = [one for one in report.findings if one.reason not in ELSEWHERE]
    return report.model_copy(update={"findings": told})
