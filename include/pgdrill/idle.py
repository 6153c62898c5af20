"""How much of the cores nobody uses: of those that this process may run on, and of what its container may use."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pgdrill.tuning import cores

SHORTEST_SECONDS = 0.02  # the kernel counts in hundredths
CGROUP = Path("/sys/fs/cgroup")  # version 2; a container sees its own


@dataclass
class IdleCores:
    """What was idle since the last look, this process's own work counted as idle."""

    cgroup: Path = CGROUP
    _before: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        self._before = self._now()

    def look(self) -> float:
        """The share (0 to 1) of the cores, or of the container's limit if less of that is left; 0 where nothing can be told yet."""
        before, now = self._before, self._now()
        self._before = now
        seconds, own, idle, used = (b - a for a, b in zip(before, now, strict=True))
        if seconds < SHORTEST_SECONDS:
            return 0.0
        limit = self._limit()
        of_limit = 1 - (used - own) / seconds / limit if limit else 1.0
        return max(0.0, min((idle + own) / seconds / cores(), of_limit, 1.0))

    def _now(self) -> tuple[float, float, float, float]:
        """Clock, own CPU seconds, idle ones of our cores, those used in the container."""
        ours = os.sched_getaffinity(0)
        idle = sum(times.idle + times.iowait for number, times in enumerate(psutil.cpu_times(percpu=True)) if number in ours)
        used = 0.0
        with contextlib.suppress(OSError, ValueError, IndexError):
            used = int((self.cgroup / "cpu.stat").read_text().split("usage_usec ")[1].split()[0]) / 1e6
        return time.monotonic(), time.process_time(), idle, used

    def _limit(self) -> float | None:
        """Cores' worth of time that the container gets; None: no limit."""
        with contextlib.suppress(OSError, ValueError):
            quota, period = (self.cgroup / "cpu.max").read_text().split()
            return int(quota) / int(period)  # "max" is no number
        return None
