"""A test of the channels: a message that begins and one that ends, by each."""

from __future__ import annotations

import secrets as tokens
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from pgdrill.alert_settings import AlertChannel
from pgdrill.alerts.channels import Sending
from pgdrill.alerts.model import Kind, Message, key_of
from pgdrill.alerts.secret_sources import SecretSource, from_environment
from pgdrill.alerts.sending import send
from pgdrill.health.model import HealthFinding

CLUSTER, CAUSE = "test", "alert-test"


def tried(
    channels: Sequence[AlertChannel], secrets: SecretSource = from_environment
) -> list[tuple[str, str]]:
    """Send a test by each channel; return each name, and why it failed or an empty string."""
    now = datetime.now(UTC)
    once = tokens.token_hex(6)
    with ThreadPoolExecutor(max(len(channels), 1)) as pool:
        return list(pool.map(lambda one: (one.name, _tried(one, secrets, now, once)), channels))


def _tried(channel: AlertChannel, secrets: SecretSource, now: datetime, once: str) -> str:
    thread = ""
    for number, kind in enumerate(("test", "end")):
        message = _message(kind, now, f"{once}.{number}")  # type: ignore[arg-type]
        result = send(message, channel, secrets, Sending(message, thread=thread))
        if result.failure:
            return result.failure
        thread = result.thread
    return ""


def _message(kind: Kind, now: datetime, once: str) -> Message:
    key = key_of(CLUSTER, CAUSE)
    found = HealthFinding(
        cluster=CLUSTER,
        check=CAUSE,
        status="warning",
        found=f"a test from host {socket.gethostname()}; nothing is wrong",
        hint="nothing is to be done",
        looked_at=now,
    )
    return Message(
        id=f"{key}@{once}",
        key=key,
        cluster=CLUSTER,
        cause=CAUSE,
        kind=kind,
        severity="warning",
        since=now,
        at=now,
        findings=(found,),
        count=1,
    )
