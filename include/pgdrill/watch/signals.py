"""Signals as something that can be waited for, together with time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """The signals that came, by way of a pipe: a handler that took a lock could meet itself."""

    def __init__(self, reading: int) -> None:
        self._reading = reading

    def wait(self, seconds: float) -> set[int]:
        """Return which came, as soon as one does; none after so many seconds."""
        if not select.select([self._reading], [], [], max(0.0, seconds))[0]:
            return set()
        return set(os.read(self._reading, 4096))


@contextlib.contextmanager
def arriving() -> Iterator[Signals]:
    """Receive SIGTERM, SIGINT and SIGHUP until the block ends. For the main thread."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, lambda *_: None) for number in NUMBERS}
    waking = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield Signals(reading)
    finally:
        signal.set_wakeup_fd(waking)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
