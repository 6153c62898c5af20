"""One delivery by one channel: tried a few times in a short while, and never longer.

What fails after that is tried again later, out of the outbox.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from pgdrill.alert_settings import AlertChannel
from pgdrill.alerts.channels import NotSent, Sending, Sent, make_channel
from pgdrill.alerts.model import Message
from pgdrill.alerts.outbox import Claimed, Result
from pgdrill.alerts.secret_sources import SecretSource
from pgdrill.errors import PgdrillError
from pgdrill.host.process import mask
from pgdrill.text import one_line

logger = logging.getLogger(__name__)

TRIES = 3
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0  # who asks for more is tried again out of the outbox


def deliver(
    claimed: Claimed,
    channels: Mapping[str, AlertChannel],
    secrets: SecretSource,
    *,
    thread: str = "",
    pause: Callable[[float], None] = time.sleep,
) -> Result:
    """Make a delivery, and return how it went: nothing that a channel does raises an error."""
    name, delivery = claimed.delivery.channel, claimed.delivery
    note = (
        f"sent here because channel {delivery.instead_of} failed: {delivery.trouble}"
        if delivery.instead_of
        else ""
    )
    sending = Sending(claimed.message, note, thread, frozenset(delivery.parts))
    return send(claimed.message, channels[name], secrets, sending, pause=pause)


def send(
    message: Message,
    settings: AlertChannel,
    secrets: SecretSource,
    sending: Sending,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Result:
    """Send a message by a channel, and return how it went."""
    secret, parts = "", tuple(sending.have_it)
    try:
        credentials = secrets(settings)
        secret = credentials.secret
        sent = _tried(lambda: make_channel(settings, credentials).send(sending), pause)
    except NotSent as error:
        return _failed(message, settings, str(error), secret, parts, error.wait_seconds)
    except PgdrillError as error:
        return _failed(message, settings, error.problem.found, secret, parts, 0)
    except Exception as error:  # a channel's library may raise anything; the others go on
        logger.exception("channel %s", settings.name)
        return _failed(message, settings, type(error).__name__, secret, parts, 0)
    if sent.failures:
        return _failed(message, settings, "; ".join(sent.failures), secret, sent.parts, 0)
    return Result(message, settings.name, parts=sent.parts, thread=sent.thread)


def _tried(once: Callable[[], Sent], pause: Callable[[float], None]) -> Sent:
    retrying = Retrying(
        stop=stop_after_attempt(TRIES),
        wait=_wait,
        sleep=pause,
        retry=retry_if_exception(_again),
        reraise=True,
    )
    return retrying(once)


def _again(error: BaseException) -> bool:
    return isinstance(error, NotSent) and error.again and error.wait_seconds <= LONGEST_WAIT_SECONDS


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait_seconds if isinstance(error, NotSent) else 0.0
    return max(asked, FIRST_WAIT_SECONDS * 2.0 ** (state.attempt_number - 1))


def _failed(
    message: Message,
    settings: AlertChannel,
    found: str,
    secret: str,
    parts: tuple[str, ...],
    wait_seconds: float,
) -> Result:
    words = one_line(mask(found, {"SECRET": secret}))[:500]
    logger.warning("channel %s did not take %s: %s", settings.name, message.id, words)
    return Result(message, settings.name, words or "failed", parts, wait_seconds=wait_seconds)
