"""Says what the demo does while it does it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console

SILENCE_SECONDS = 4.0


class Steps:
    """Lines with the seconds since the start, and one now and then while a step takes long."""

    def __init__(self, console: Console, silence_seconds: float = SILENCE_SECONDS) -> None:
        self.console = console
        self.silence_seconds = silence_seconds
        self._started = self._last = time.monotonic()
        self._words = ""

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def say(self, words: str) -> None:
        """Print a line."""
        self._words = words
        self._print(words)

    def _print(self, words: str) -> None:
        self._last = time.monotonic()
        self.console.print(f"{self.seconds:6.1f} s  {words}", markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def doing(self, words: str, now: Callable[[], str] | None = None) -> Iterator[None]:
        """Say what begins, and whenever nothing was said for a while, what is being done.

        :param words: empty where the step says by itself what it does.
        :param now: gives the words for that, from a thread of its own; by default that the step
        still goes on.
        """
        if words:
            self.say(words)
        ended = threading.Event()
        # A daemon: what it asks may hang, and nobody who stops the demo waits for that.
        thread = threading.Thread(
            target=self._break_silence, args=(ended, now or self._still), daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=1)

    def _still(self) -> str:
        return f"still {self._words.strip()}"

    def _break_silence(self, ended: threading.Event, now: Callable[[], str]) -> None:
        """Ask for the words after half of the silence that is allowed: they may take their time."""
        while not ended.wait(self._left(0.5)):
            if self._left(0.5):
                continue
            asked_after = self._last
            words = now()
            # What was said meanwhile is newer than these words.
            if not ended.wait(self._left(1)) and self._last == asked_after:
                self._print(f"  … {words}")

    def _left(self, share: float) -> float:
        return max(0.0, self._last + share * self.silence_seconds - time.monotonic())
