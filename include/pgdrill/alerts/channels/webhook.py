"""A webhook of ours: the alert as JSON, signed."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

from pgdrill.alert_settings import AlertChannel
from pgdrill.alerts.channels.base import Credentials, NotSent, Sending, Sent
from pgdrill.alerts.channels.http import post
from pgdrill.alerts.model import Message
from pgdrill.alerts.words import body, title

SIGNATURE, TIMESTAMP, ONCE = "X-Pgdrill-Signature", "X-Pgdrill-Timestamp", "Idempotency-Key"


class Webhook:
    """Posts alerts to an address, signed with a shared key."""

    def __init__(self, settings: AlertChannel, credentials: Credentials) -> None:
        if not credentials.secret:
            raise NotSent("no key to sign with")
        self.settings = settings
        self.credentials = credentials

    def send(self, sending: Sending) -> Sent:
        """Post the alert. Its ``Idempotency-Key`` is the same at each try."""
        content = json.dumps(payload(sending.message, sending.note)).encode()
        at = str(int(time.time()))
        post(
            self.settings.url,
            content,
            headers={
                "Content-Type": "application/json",
                TIMESTAMP: at,
                SIGNATURE: signature(self.credentials.secret, at, content),
                ONCE: sending.message.id,
            },
            timeout_seconds=self.settings.timeout_seconds,
            what="webhook",
        )
        return Sent()


def signature(secret: str, timestamp: str, content: bytes) -> str:
    """Return ``v1=`` and the HMAC-SHA256, in hexadecimal, of ``timestamp.content``."""
    signed = hmac.new(secret.encode(), f"{timestamp}.".encode() + content, hashlib.sha256)
    return f"v1={signed.hexdigest()}"


def payload(message: Message, note: str) -> dict[str, Any]:
    """Return the alert for programs: every field, and the words that a person would get."""
    return {
        "version": 1,
        **message.model_dump(mode="json", exclude={"to"}),
        "title": title(message),
        "text": body(message, note),
        "note": note,
    }
