"""How many cores nobody uses: of the machine's, and of what a container may use."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SHORTEST_SECONDS = 0.02  # the kernel counts in hundredths
CGROUP = Path("/sys/fs/cgroup")  # version 2; a container sees its own


@dataclass
class IdleCores:
    """Idle cores since the last look, this process's own work counted as idle."""

    cgroup: Path = CGROUP
    _before: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        self._before = self._now()

    def look(self) -> float:
        """At least so many; 0 where nothing can be told yet."""
        before, now = self._before, self._now()
        self._before = now
        seconds, own, idle, used = (b - a for a, b in zip(before, now, strict=True))
        if seconds < SHORTEST_SECONDS:
            return 0.0
        return min((idle + own) / seconds, self._quota() - (used - own) / seconds)

    def _now(self) -> tuple[float, float, float, float]:
        """Clock, own CPU seconds, the machine's idle ones, those used in the container."""
        times = psutil.cpu_times()
        used = 0.0
        with contextlib.suppress(OSError, ValueError, IndexError):
            used = int((self.cgroup / "cpu.stat").read_text().split("usage_usec ")[1].split()[0]) / 1e6
        return time.monotonic(), time.process_time(), times.idle + times.iowait, used

    def _quota(self) -> float:
        """Cores' worth of time that the container gets."""
        with contextlib.suppress(OSError, ValueError):
            quota, period = (self.cgroup / "cpu.max").read_text().split()
            return int(quota) / int(period)  # "max" is no number
        return float("inf")
