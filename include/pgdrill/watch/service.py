"""The service: every cluster of ``dr.toml`` looked at all the time, by ``pgdrill watch``."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

from pgdrill.access import Access
from pgdrill.config import Cluster, Settings
from pgdrill.watch.beating import Beating, writes_here
from pgdrill.watch.config_file import ConfigFile
from pgdrill.watch.findings import of_configuration
from pgdrill.watch.loop import ClusterLoop
from pgdrill.watch.measures import Sample
from pgdrill.watch.metrics import Exposition
from pgdrill.watch.metrics import of_configuration as of_settings
from pgdrill.watch.signals import arriving
from pgdrill.watch.systemd import Notifier

logger = logging.getLogger(__name__)

TICK_SECONDS = 5.0  # the file is looked at so often
STOP_SECONDS = 5.0  # what has not ended by then is left: all that counts is remembered


class Service:
    """Watches until SIGTERM or SIGINT; SIGHUP, or a change, has ``dr.toml`` read again."""

    def __init__(self, path: Path) -> None:
        self.file = ConfigFile(path)
        self.notifier = Notifier.of(os.environ)
        self.loops: dict[str, ClusterLoop] = {}
        self.beating: dict[str, Beating] = {}
        self.exposition = Exposition(self.samples)

    def run(self) -> bool:
        """Watch. Returns whether everything had ended in time when it was told to stop.

        Raises :class:`pgdrill.errors.ConfigError` if the file cannot be used from the beginning.
        """
        with arriving() as signals:
            self.file.read()
            self._follow()
            self.tick()
            self.notifier.say("READY=1", self._status())
            while not (came := signals.wait(self._tick)) & {signal.SIGTERM, signal.SIGINT}:
                if signal.SIGHUP in came or self.file.changed():
                    self.file.read()
                    self._follow()
                    self.notifier.say(self._status())
                self.tick()
            self.notifier.say("STOPPING=1")
            self.exposition.close()
            return self._stop([*self.loops.values(), *self.beating.values()])

    def tick(self) -> None:
        """Tell systemd that it lives, as long as every cluster is looked at."""
        stuck = [name for name, one in self.loops.items() if not one.alive]
        if stuck:
            logger.error("no look ends at %s", ", ".join(stuck))
        else:
            self.notifier.say("WATCHDOG=1")
        if self.file.settings:
            self.exposition.follow(self.file.settings.watch)

    def samples(self) -> list[Sample]:
        """Return the metrics of all clusters."""
        found = list(of_settings(self.file.wrong, list(self.file.clusters)))
        for loop in list(self.loops.values()):
            found += loop.samples()
        return found

    @property
    def _tick(self) -> float:
        waited = self.notifier.watchdog_seconds
        return min(TICK_SECONDS, waited / 3) if waited else TICK_SECONDS

    def _status(self) -> str:
        return f"STATUS=watching {', '.join(sorted(self.loops))}"

    def _follow(self) -> None:
        """Watch what the file names now: what it does not is ended, what changed begins anew."""
        settings = self.file.settings
        assert settings is not None  # noqa: S101 - it has been read
        wanted = self.file.clusters
        over = {
            name
            for name, loop in self.loops.items()
            if name not in wanted or not _same(loop, wanted[name], settings)
        }
        self._end(over)
        for name in sorted(wanted.keys() - self.loops.keys()):
            self._begin(wanted[name], settings)
        logger.info("watching %s", ", ".join(sorted(self.loops)) or "nothing")

    def _begin(self, cluster: Cluster, settings: Settings) -> None:
        access, name = Access(cluster), cluster.name
        self.loops[name] = ClusterLoop(
            access, settings, lambda: of_configuration(name, self.file.wrong, self.file.clusters)
        )
        self.loops[name].start()
        if writes_here(access):
            self.beating[name] = Beating(access, settings.watch.heartbeat_seconds)
            self.beating[name].start()

    def _end(self, names: set[str]) -> None:
        ended: list[ClusterLoop | Beating] = [self.loops.pop(name) for name in names]
        ended += [self.beating.pop(name) for name in names & self.beating.keys()]
        self._stop(ended)

    def _stop(self, running: list[ClusterLoop | Beating]) -> bool:
        deadline = time.monotonic() + STOP_SECONDS
        for one in running:
            one.stopped.set()
        left = [one for one in running if not one.join(deadline - time.monotonic())]
        return not left


def _same(loop: ClusterLoop, cluster: Cluster, settings: Settings) -> bool:
    """Return whether a cluster is watched as the settings have it."""
    of_now = (cluster, settings.alerts, settings.watch)
    return (loop.access.cluster, loop.settings.alerts, loop.settings.watch) == of_now
