"""What a run costs: wall seconds, CPU seconds, peak memory, bytes read; runs in turn, so that all
have the same weather.
"""

from __future__ import annotations

import contextlib
import random
import resource
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.05
NOT_COUNTED = ("postgres", "rclone")  # servers have the memory that they were given


@dataclass(frozen=True, slots=True)
class Run:
    """One run. ``cpu_seconds``, ``read_bytes``: of this process and all that ended below it;
    ``peak_bytes``: resident, of all processes below it, PostgreSQL and the store apart;
    ``own_peak_bytes``: of Python's alone, without the tool's and without the user's embedding
    model. ``units``: what seconds are divided by to be compared.
    """

    seconds: float
    cpu_seconds: float
    read_bytes: int
    peak_bytes: int
    own_peak_bytes: int = 0
    units: int = 1
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def compared(self) -> float:
        """Seconds a unit."""
        return self.seconds / self.units


class Meter:
    """Around a run. Its clock is the run's unless the run brings seconds of its own."""

    def __enter__(self) -> Meter:
        self.peak_bytes = self.own_peak_bytes = 0
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._cpu, self._read, self._began = cpu_seconds(), read_bytes(), time.monotonic()
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        self._over.set()
        self._sampler.join()

    @property
    def elapsed(self) -> float:
        """Seconds until now."""
        return time.monotonic() - self._began

    def run(
        self, seconds: float | None = None, units: int = 1, parts: Mapping[str, float] | None = None
    ) -> Run:
        """The run, once everything that it started has ended."""
        took = self.seconds if seconds is None else seconds
        return Run(
            took,
            cpu_seconds() - self._cpu,
            read_bytes() - self._read,
            self.peak_bytes,
            self.own_peak_bytes,
            units,
            parts or {},
        )

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._over.wait(SAMPLE_SECONDS):
            total = own = 0
            for process in me.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    name = process.name()
                    resident = 0 if name.startswith(NOT_COUNTED) else process.memory_info().rss
                    total += resident
                    own += resident if name.startswith("python") and is_own(process) else 0
            self.peak_bytes, self.own_peak_bytes = (
                max(self.peak_bytes, total),
                max(self.own_peak_bytes, own),
            )


def is_own(process: psutil.Process) -> bool:
    """Not the user's embedding model, which has a process of its own, and no copy that is about to
    become another program.
    """
    words, parent = process.cmdline(), process.parent()
    about_to_start = parent is not None and parent.cmdline() == words
    return not about_to_start and not any(word.endswith("embedders/child.py") for word in words)


def cpu_seconds() -> float:
    """Of this process and of every one that ended below it."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def read_bytes() -> int:
    """The same, from files and pipes, from memory or not; what comes from a socket is not in it."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def in_turn(competitors: Mapping[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """Every competitor once a round, in another order each, so that none always follows the same
    one (who leaves the disk busy).
    """
    runs: dict[str, list[Run]] = {name: [] for name in competitors}
    order: list[str] = []
    for number in range(rounds):
        order = (
            order[::-1]
            if number % 2
            else random.Random(number).sample(list(competitors), len(competitors))
        )
        for name in order:
            runs[name].append(competitors[name]())
            print(f"  round {number + 1}: {name} {runs[name][-1].seconds:.2f} s", flush=True)
    return runs
