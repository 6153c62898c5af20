"""A request to somebody's server, whose answer may be anything: it ends in time, and stays small.

The whole of it has one deadline, whatever drips in. A redirect is an answer like any other: what it
was sent with is a secret. Of the answer some kilobytes are read, as they came over the line.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from pgdrill import version
from pgdrill.alerts.channels.base import NotSent

ANSWER_BYTES = 64 * 2**10
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_ASKED_SECONDS = 3600.0
WHOLE_SECONDS = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. ``content`` is its beginning."""

    status: int
    content: bytes


def post(
    url: str, content: bytes, *, headers: Mapping[str, str], timeout_seconds: float, what: str
) -> Answer:
    """Post some bytes and return the answer of a server that took them (2xx).

    Raises :class:`NotSent`; ``what`` names the server in its words.
    """
    sent_with = {"User-Agent": f"pgdrill/{version()}", "Accept-Encoding": "identity", **headers}
    try:
        answer, wait = asyncio.run(_posted(url, content, sent_with, timeout_seconds))
    except TimeoutError:
        raise NotSent(f"{what}: no whole answer in {timeout_seconds:g} s", again=True) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        # no word of the error's: it may hold the address, which may be the secret
        raise NotSent(f"{what}: no answer ({_kind(error)})", again=True) from None
    if 200 <= answer.status < 300:
        return answer
    if 300 <= answer.status < 400:
        raise NotSent(f"{what}: HTTP {answer.status}, a redirect, which is not followed")
    raise NotSent(
        f"{what}: HTTP {answer.status}", again=answer.status in TRY_AGAIN, wait_seconds=wait
    )


async def _posted(
    url: str, content: bytes, headers: Mapping[str, str], timeout_seconds: float
) -> tuple[Answer, float]:
    async with (
        asyncio.timeout(timeout_seconds),
        httpx.AsyncClient(timeout=timeout_seconds, follow_redirects=False) as client,
        client.stream("POST", url, content=content, headers=dict(headers)) as response,
    ):
        read = b""
        async for chunk in response.aiter_raw():
            read += chunk[: ANSWER_BYTES - len(read)]
            if len(read) >= ANSWER_BYTES:
                break
        return Answer(response.status_code, read), _asked_wait(response.headers.get("Retry-After"))


def _asked_wait(value: str | None) -> float:
    """How long a server asks to be left alone, in seconds: it says a number, or a date."""
    if value is None:
        return 0.0
    if WHOLE_SECONDS.fullmatch(value.strip()):
        return min(float(value), LONGEST_ASKED_SECONDS)
    try:
        until = parsedate_to_datetime(value)
        seconds = (until - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return 0.0
    return min(max(seconds, 0.0), LONGEST_ASKED_SECONDS)


def _kind(error: Exception) -> str:
    return {"ConnectError": "nobody listens there, or its certificate is not trusted"}.get(
        type(error).__name__, type(error).__name__
    )
