"""What is remembered of alerts, and what is told of them.

It lies beside the reports, where others may write: everything in it has bounds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from pgdrill.documents import Instant, StrictModel
from pgdrill.health.model import HealthFinding

MOST = 1000  # causes, silences, messages that wait: far beyond what a cluster can have
Severity = Literal["unknown", "warning", "critical"]
RANK: dict[Severity, int] = {"unknown": 0, "warning": 1, "critical": 2}
Kind = Literal["start", "worse", "still", "acknowledged", "end", "test"]
Words = Annotated[str, Field(max_length=2000)]
Name = Annotated[str, Field(max_length=200)]
Cause = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}(\.unknown)?$")]
SHOWN = 5  # findings of a check that are kept and told; of the others the number
Findings = Annotated[tuple[HealthFinding, ...], Field(max_length=SHOWN)]
Channels = Annotated[tuple[Name, ...], Field(max_length=100)]


class Kept(StrictModel, extra="ignore"):
    """A part of the document. What a later version adds is passed over."""


class Acknowledgement(Kept):
    """Somebody has seen an alert and is at it."""

    by: Name
    why: Words
    at: Instant


class Link(Kept):
    """An address in a message: the run, the page, the runbook."""

    text: Name
    url: Annotated[str, Field(max_length=2000, pattern=r"^https?://[^\s<>|\"']+$")]


class Alert(Kept):
    """A cause of a cluster: a check that is bad, or (``.unknown``) one that cannot be asked.

    ``since``: the first bad look of those that opened it. ``findings`` are the worst of its
    ``count``. ``severity`` is the newest bad look's,
    ``told`` the worst that was told (None: nobody was told), ``told_to`` the channels that heard of
    it. ``hidden_by``: the check whose consequence this is. ``heard_at``: the newest look that knew
    about it, whatever it said; ``last_look`` names that look.
    """

    open: bool = False
    since: Instant | None = None
    until: Instant | None = None
    bad_looks: int = 0
    good_looks: int = 0
    severity: Severity = "warning"
    findings: Findings = ()
    count: int = 0
    links: Annotated[tuple[Link, ...], Field(max_length=10)] = ()
    told: Severity | None = None
    told_at: Instant | None = None
    told_to: Channels = ()
    messages: int = 0
    threads: dict[Name, Name] = Field({}, max_length=100)
    hidden_by: Name = ""
    acknowledged: Acknowledgement | None = None
    heard_at: Instant
    last_look: Name = ""
    changed_at: Instant


class Silence(Kept):
    """Planned work: nothing new is told of a cluster (or of one check of it) until it is over."""

    id: Name
    check: Name = ""
    why: Words
    by: Name
    made_at: Instant
    until: Instant

    def holds(self, cause: str, now: datetime) -> bool:
        """Return whether it keeps a cause quiet now."""
        return now < self.until and self.check in ("", cause.removesuffix(".unknown"))


class Message(Kept):
    """What is told of an alert, to whom.

    ``id`` stays the same however often it is sent: who receives it twice can tell. ``hides`` names
    the checks of which nothing is told meanwhile.
    """

    id: Annotated[str, Field(max_length=250)]
    key: Annotated[str, Field(max_length=200)]
    cluster: Name
    cause: Cause
    kind: Kind
    severity: Severity
    since: Instant
    at: Instant
    findings: Findings = ()
    count: int = 0
    hides: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    acknowledged: Acknowledgement | None = None
    links: Annotated[tuple[Link, ...], Field(max_length=10)] = ()
    not_asked: bool = False
    to: Channels = ()


class Delivery(Kept):
    """A message on its way to one channel.

    ``claimed_until``: somebody sends it now; after that it counts as cut. ``parts``: the targets of
    the channel that have it already. ``instead_of``: the channel that failed, and why.
    """

    channel: Name
    claimed_by: Name = ""
    claimed_until: Instant | None = None
    tries: int = 0
    next_at: Instant | None = None
    parts: Annotated[tuple[Name, ...], Field(max_length=MOST)] = ()
    instead_of: Name = ""
    trouble: Words = ""
    done: bool = False


class Outgoing(Kept):
    """A message with its deliveries, until each of them is done."""

    message: Message
    deliveries: Annotated[tuple[Delivery, ...], Field(max_length=100)]


class ChannelRecord(Kept):
    """How often a channel took a message, how often it failed, and how the last time."""

    sent: int = 0
    failed: int = 0
    lost: int = 0
    sent_at: Instant | None = None
    failed_at: Instant | None = None
    failure: Words = ""


class AlertState(Kept):
    """Everything that is remembered of one cluster's alerts.

    ``delivered``: the newest deliveries that were made, as ``message channel``; a memory that lags
    behind must not send them again.
    """

    version: Literal[1] = 1
    alerts: dict[Cause, Alert] = Field({}, max_length=MOST)
    silences: Annotated[tuple[Silence, ...], Field(max_length=MOST)] = ()
    outbox: Annotated[tuple[Outgoing, ...], Field(max_length=MOST)] = ()
    delivered: Annotated[tuple[Words, ...], Field(max_length=MOST)] = ()
    channels: dict[Name, ChannelRecord] = Field({}, max_length=MOST)


def delivery_of(message: Message, channel: str) -> str:
    """Return the name of a delivery in :attr:`AlertState.delivered`."""
    return f"{message.id} {channel}"


def key_of(cluster: str, cause: str) -> str:
    """Return the one key under which every channel knows a cause: it never changes."""
    return f"pgdrill/{cluster}/{cause}"
