"""PagerDuty by its events API, version 2: one incident a key, which it ends itself."""

from __future__ import annotations

import json
from typing import Any

from pgdrill.alert_settings import PAGERDUTY_URL, AlertChannel
from pgdrill.alerts.channels.base import Credentials, NotSent, Sending, Sent
from pgdrill.alerts.channels.http import post
from pgdrill.alerts.model import Kind, Message
from pgdrill.alerts.words import check_of, lines, title

ACTIONS: dict[Kind, str] = {
    "start": "trigger",
    "worse": "trigger",
    "still": "trigger",
    "test": "trigger",
    "acknowledged": "acknowledge",
    "end": "resolve",
}
SUMMARY, KEY = 1024, 255  # characters that it takes


class PagerDuty:
    """Opens, acknowledges and resolves the incident of an alert's key."""

    def __init__(self, settings: AlertChannel, credentials: Credentials) -> None:
        if not credentials.secret:
            raise NotSent("no routing key")
        self.settings = settings
        self.credentials = credentials

    def send(self, sending: Sending) -> Sent:
        """Send the event. The same one twice changes nothing there."""
        event = {"routing_key": self.credentials.secret, **event_of(sending.message, sending.note)}
        post(
            self.settings.url or PAGERDUTY_URL,
            json.dumps(event).encode(),
            headers={"Content-Type": "application/json"},
            timeout_seconds=self.settings.timeout_seconds,
            what="PagerDuty",
        )
        return Sent()


def event_of(message: Message, note: str) -> dict[str, Any]:
    """Return the event of a message, without the routing key."""
    told = [*lines(message), *([note] if note else [])]
    return {
        "event_action": ACTIONS[message.kind],
        "dedup_key": message.key[:KEY],
        "client": "pgdrill",
        "links": [{"href": link.url, "text": link.text} for link in message.links],
        "payload": {
            "summary": title(message)[:SUMMARY],
            "source": message.cluster,
            "severity": "warning" if message.severity == "unknown" else message.severity,
            "timestamp": message.since.isoformat(),
            "component": check_of(message),
            "group": message.cluster,
            "class": "backup health",
            "custom_details": {"text": "\n".join(told)},
        },
    }
