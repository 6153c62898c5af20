"""Slack, by an incoming webhook or a bot's token. With a token what follows stands in a thread."""

from __future__ import annotations

import json
import re
from typing import Any

from pgdrill.alert_settings import SLACK_URL, AlertChannel
from pgdrill.alerts.channels.base import Credentials, NotSent, Sending, Sent
from pgdrill.alerts.channels.http import Answer, post
from pgdrill.alerts.words import lines, title

SECTION = 2900  # characters; a block takes 3,000
CODE = re.compile(r"[a-z][a-z_]{1,60}")
THREAD = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")
BROKEN = frozenset({"ratelimited", "internal_error", "fatal_error", "service_unavailable"})


class Slack:
    """Posts to a channel."""

    def __init__(self, settings: AlertChannel, credentials: Credentials) -> None:
        if not credentials.secret:
            raise NotSent("no webhook URL" if not settings.channel else "no bot token")
        if not settings.channel and not credentials.secret.startswith(("https://", "http://")):
            raise NotSent("the secret is no webhook URL (with a bot token, set channel, too)")
        self.settings = settings
        self.credentials = credentials

    def send(self, sending: Sending) -> Sent:
        """Post the message; a bot's goes into the thread of the alert's first."""
        if not self.settings.channel:
            self._post(self.credentials.secret, payload(sending), {})
            return Sent()
        told = {"channel": self.settings.channel, "unfurl_links": False, "unfurl_media": False}
        if sending.thread:
            told |= {"thread_ts": sending.thread, "reply_broadcast": True}
        answer = self._post(
            f"{self.settings.url or SLACK_URL}/chat.postMessage",
            {**payload(sending), **told},
            {"Authorization": f"Bearer {self.credentials.secret}"},
        )
        return Sent(thread=sending.thread or _thread(_took(answer)))

    def _post(self, url: str, content: dict[str, Any], headers: dict[str, str]) -> Answer:
        return post(
            url,
            json.dumps(content).encode(),
            headers={"Content-Type": "application/json; charset=utf-8", **headers},
            timeout_seconds=self.settings.timeout_seconds,
            what="Slack",
        )


def payload(sending: Sending) -> dict[str, Any]:
    """Return the message: plain text, in which nothing is markup, and our own links."""
    message = sending.message
    text = "\n".join([*lines(message), *([sending.note] if sending.note else []), message.key])
    blocks: list[dict[str, Any]] = [
        _section("plain_text", title(message)) | {"type": "header"},
        _section("plain_text", text[:SECTION]),
    ]
    if message.links:
        links = " · ".join(f"<{escaped(link.url)}|{escaped(link.text)}>" for link in message.links)
        blocks.append(_section("mrkdwn", links))
    return {"text": escaped(title(message)), "mrkdwn": False, "parse": "none", "blocks": blocks}


def escaped(text: str) -> str:
    """Return text in which nothing is a link or a mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(kind: str, text: str) -> dict[str, Any]:
    plain = {"emoji": False} if kind == "plain_text" else {}
    return {"type": "section", "text": {"type": kind, "text": text, **plain}}


def _took(answer: Answer) -> dict[str, Any]:
    """Return the answer of the API, which says 200 to a refusal, too."""
    try:
        found = json.loads(answer.content)
        took = found["ok"] is True
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotSent("Slack: an answer that is no JSON of its API") from None
    if not took:
        code = str(found.get("error", ""))
        shown = code if CODE.fullmatch(code) else "no reason given"
        raise NotSent(f"Slack: refused ({shown})", again=code in BROKEN)
    return found if isinstance(found, dict) else {}


def _thread(found: dict[str, Any]) -> str:
    thread = str(found.get("ts", ""))
    return thread if THREAD.fullmatch(thread) else ""
