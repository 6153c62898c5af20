"""``dr.toml`` while the service runs: read again when it changes; what was right holds on."""

from __future__ import annotations

import logging
from pathlib import Path

from pgdrill.config import Cluster, Settings, load
from pgdrill.errors import ConfigError

logger = logging.getLogger(__name__)


class ConfigFile:
    """The file, the settings that hold, and what is wrong with what it says now.

    ``wrong``: by cluster, ``""`` for everything else. A cluster that was right before goes on as it
    was; only who takes it out of the file ends its watch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wrong: dict[str, ConfigError] = {}
        self.clusters: dict[str, Cluster] = {}
        self.settings: Settings | None = None
        self._seen = self._stamp()

    def changed(self) -> bool:
        """Return whether the file is another one than when it was read."""
        return self._stamp() != self._seen

    def read(self) -> None:
        """Read the file. Raises :class:`ConfigError` if it never was right."""
        self._seen = self._stamp()
        try:
            settings = load(self.path)
        except ConfigError as error:
            if self.settings is None:
                raise
            logger.warning("%s: what it said before still holds", error)
            self.wrong = {"": error}
            return
        kept = {name: one for name, one in self.clusters.items() if name in settings.wrong}
        right = {name: settings.cluster(name) for name in settings.clusters}
        self.settings, self.clusters, self.wrong = settings, {**kept, **right}, settings.wrong
        for found in settings.wrong.values():
            logger.warning("%s", found)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
