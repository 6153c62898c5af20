"""Processes that share a store, one step of one of them at a time: whoever draws the order draws
the race.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

BEGINNING = datetime(2026, 11, 29, tzinfo=UTC)


class Killed(BaseException):
    """A process that is gone between two steps."""


@dataclass
class World:
    """A store, its clock, and who waits for the next step.

    What was put can be read and listed at once.
    """

    seconds: float = 0.0
    beginning: datetime = BEGINNING
    objects: dict[str, tuple[bytes, datetime, int]] = field(default_factory=dict)
    writes: int = 0
    processes: list[Process] = field(default_factory=list)

    def run(self, *jobs: Callable[[Reports], None]) -> None:
        """Begin them; each stops before its first step."""
        for job in jobs:
            process = Process(self)
            self.processes.append(process)
            process.start(job)

    @property
    def waiting(self) -> list[Process]:
        """Those that can go on."""
        return [process for process in self.processes if not process.ended]


class Process:
    """One of them, in a thread that goes on when it is told to."""

    def __init__(self, world: World) -> None:
        self.world, self.go, self.stopped, self.dies = (
            world,
            threading.Semaphore(0),
            threading.Semaphore(0),
            False,
        )
        self.ended = False
        self.error: BaseException | None = None

    def start(self, job: Callable[[Reports], None]) -> None:
        """Up to its first step."""
        threading.Thread(target=self._run, args=(job,), daemon=True).start()
        self.stopped.acquire()

    def _run(self, job: Callable[[Reports], None]) -> None:
        try:
            job(Reports(self))
        except BaseException as error:
            self.error = error
        self.ended = True
        self.stopped.release()

    def step(self) -> None:
        """Do one, and stop before the next."""
        self.go.release()
        self.stopped.acquire()

    def kill(self) -> None:
        """Gone before its next step."""
        self.dies = True
        self.step()

    def wait(self) -> None:
        """For its turn; called by the job itself."""
        self.stopped.release()
        self.go.acquire()
        if self.dies:
            raise Killed


class Reports:
    """What the leases need of a store, as one process sees it.

    ``conditions``: whether it keeps to those of a put.
    """

    url = "memory://"

    def __init__(self, process: Process, *, conditions: bool = False) -> None:
        self.process, self.world, self.conditions = process, process.world, conditions

    def write(self, key: str, content: bytes) -> None:
        self.process.wait()
        self._put(key, content)

    def replace(self, key: str, content: bytes, *, etag: str | None) -> str | None:
        self.process.wait()
        if self.conditions and self._etag(key) != etag:
            return None
        return self._put(key, content)

    def etag(self, key: str) -> str | None:
        self.process.wait()
        return self._etag(key)

    def read(self, key: str) -> bytes | None:
        self.process.wait()
        return self.world.objects[key][0] if key in self.world.objects else None

    def read_all(self, keys: Any, _: int) -> list[tuple[str, bytes | None]]:
        return [(key, self.read(key)) for key in keys]

    def written(self, prefix: str) -> dict[str, datetime]:
        self.process.wait()
        return {
            key: found[1] for key, found in self.world.objects.items() if key.startswith(prefix)
        }

    def _etag(self, key: str) -> str | None:
        return str(self.world.objects[key][2]) if key in self.world.objects else None

    def _put(self, key: str, content: bytes) -> str:
        self.world.writes += 1
        self.world.objects[key] = (
            content,
            self.world.beginning + timedelta(seconds=self.world.seconds),
            self.world.writes,
        )
        return str(self.world.writes)
