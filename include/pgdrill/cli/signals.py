"""SIGINT and SIGTERM: end the running tool, then leave by way of every ``finally``."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from pgdrill.errors import PgdrillError
from pgdrill.host.process import Runner

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(PgdrillError, KeyboardInterrupt):
    """The job was stopped by a signal.

    As a KeyboardInterrupt, too, psycopg cancels the statement on the server.
    """

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(
            "stopped",
            "this job",
            found=f"ended by {self.signal.name}",
            expected="to run to its end",
            hint="nothing, if that was meant; else start it again",
        )


@contextlib.contextmanager
def stopping(runner: Runner | None = None) -> Iterator[None]:
    """The first signal stops; later ones are ignored, for what then runs is the clean-up."""

    def stop(number: int, frame: FrameType | None) -> None:
        for one in SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        if runner:
            runner.stop()
        raise Interrupted(number)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
