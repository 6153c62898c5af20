"""What every channel is: it sends one message, or says why it could not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from pgdrill.alert_settings import AlertChannel
from pgdrill.alerts.model import Message


@dataclass(frozen=True, slots=True)
class Credentials:
    """The secret of a channel, and what an Airflow Connection brings besides. Never shown."""

    secret: str = field(default="", repr=False)
    user: str = ""


@dataclass(frozen=True, slots=True)
class Sending:
    """A message on its way by a channel.

    ``note``: why it comes by this channel, where another one failed. ``thread``: what the channel
    called the first message of the alert. ``have_it``: the channel's targets that have it already.
    """

    message: Message
    note: str = ""
    thread: str = ""
    have_it: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sent:
    """How it went. ``parts``: the targets that have it now; ``thread``: for what follows.

    ``failures``: the targets that do not have it, in words.
    """

    parts: tuple[str, ...] = ()
    thread: str = ""
    failures: tuple[str, ...] = ()


class NotSent(Exception):
    """A channel did not take a message.

    The words hold no secret and nothing that a server said but short codes. ``again``: another try
    in a moment may succeed. ``wait_seconds``: how long the server asked to be left alone.
    """

    def __init__(self, found: str, *, again: bool = False, wait_seconds: float = 0) -> None:
        super().__init__(found)
        self.again = again
        self.wait_seconds = wait_seconds


class Channel(Protocol):
    """Sends messages to one configured place."""

    def send(self, sending: Sending) -> Sent:
        """Send a message within the channel's time. Raises :class:`NotSent`."""


class Maker(Protocol):
    """Makes a channel from its configuration."""

    def __call__(self, settings: AlertChannel, credentials: Credentials) -> Channel: ...


def missing(have: Collection[str], wanted: Collection[str]) -> list[str]:
    """Return the targets that do not have a message yet."""
    return [one for one in wanted if one not in have]
