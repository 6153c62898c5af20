"""The thread that looks at one cluster until it is told to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from pgdrill.access import Access
from pgdrill.config import Settings
from pgdrill.errors import PgdrillError
from pgdrill.health import HealthFinding, HealthReport
from pgdrill.health.watch_beat import EVERY_SECONDS, write_beat
from pgdrill.watch.cluster import ClusterWatch, Looked
from pgdrill.watch.measures import Sample, of_drills, of_look
from pgdrill.watch.metrics import of_alerts
from pgdrill.watch.pace import next_look

logger = logging.getLogger(__name__)

# A look has 30 s, and what is remembered of alerts may wait a minute for its lock.
STUCK_SECONDS = 150.0


class ClusterLoop:
    """Looks at a cluster again and again, in a thread of its own: one that hangs stops no other.

    ``latest``: the newest answer of every check. ``more``: findings that belong to each look.
    """

    def __init__(
        self,
        access: Access,
        settings: Settings,
        more: Callable[[], Iterable[HealthFinding]] = tuple,
    ) -> None:
        self.access, self.settings, self.more = access, settings, more
        self.name = access.cluster.name
        self.stopped = threading.Event()
        self.latest: HealthReport | None = None
        self.looks = 0
        self.watch: ClusterWatch | None = None
        self._drills: list[Sample] = []
        self._trouble = ""
        self._beat_at = -EVERY_SECONDS
        self._progress_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"watch-{self.name}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait so long for its end; return whether it has ended."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """True while looks begin and end as they should."""
        return self._thread.is_alive() and time.monotonic() - self._progress_at < STUCK_SECONDS

    def _run(self) -> None:
        self._beat()  # its own first look is to find it back
        while not self.stopped.is_set():
            self._progress_at = began = time.monotonic()
            after = self._look()
            self.stopped.wait(max(0.0, began + after - time.monotonic()))
        if self.watch:
            self.watch.close()

    def _look(self) -> float:
        """Look once; return after how many seconds from its beginning to look again."""
        every = self.settings.watch.look_seconds
        try:
            self.watch = self.watch or ClusterWatch(
                self.access, self.settings, pause=self.stopped.wait
            )
            looked = self.watch.look(more=self.more())
        except PgdrillError as error:
            self._say(str(error))
            return every
        except Exception:  # one look less, and no watch less
            logger.exception("cluster %s: a look broke", self.name)
            return every
        self._say("")
        self._note(looked)
        return next_look(looked.report, every)

    def samples(self) -> list[Sample]:
        """Return the metrics of the newest answers; none before the first look."""
        if self.latest is None or self.watch is None:
            return []
        alerting = self.watch.alerting
        state = alerting.memory.cached(float("inf"))
        pings = [
            Sample(
                "pgdrill_ping_failures_total", "Signs of life that were not taken",
                {"cluster": self.name, "promise": ping.promise},
                alerting.pings.failures.get(ping.name, 0),
            )
            for ping in alerting.pings.pings
        ]  # fmt: skip
        told = of_alerts(self.name, state) if state else ()
        return [*of_look(self.latest, self.looks), *self._drills, *told, *pings]

    def _note(self, looked: Looked) -> None:
        if self.watch and (reports := self.watch.watcher.subject.reports) is not None:
            self._drills = list(of_drills(reports))
        self.latest = looked.report.after(self.latest)
        self.looks += 1
        if self.looks == 1 and looked.nobody:
            logger.warning("%s", looked.nobody)
        for message in looked.messages:
            logger.info("%s: %s of %s", self.name, message.kind, message.cause)
        if time.monotonic() - self._beat_at >= EVERY_SECONDS:
            self._beat()

    def _beat(self) -> None:
        """Leave a sign of life for whoever watches the watch."""
        self._beat_at = time.monotonic()
        try:
            write_beat(self.access.reports.quick)
        except PgdrillError as error:  # the check of the repository tells of it
            logger.info("cluster %s: no sign of life kept: %s", self.name, error)

    def _say(self, trouble: str) -> None:
        """Log what is wrong once, and its end."""
        if trouble != self._trouble:
            logger.warning("cluster %s: %s", self.name, trouble or "looks are made again")
        self._trouble = trouble
