"""Examinations of three clocks: this host's, the server's and the store's."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from pgdrill.doctor.examination import examination
from pgdrill.doctor.model import Finding, green, not_asked, red, unknown
from pgdrill.doctor.subject import Subject
from pgdrill.postgres.clock import LARGE_SECONDS, ClockDifference, measure

PART = "clock"
SECONDS = 5.0
HINT = "let NTP keep both clocks: `timedatectl set-ntp true`"


@examination(
    "server-clock",
    PART,
    green=f"the server's clock and this host's differ by at most {LARGE_SECONDS:g} s",
    needs=("login",),
    hint=HINT,
    example="the server's clock: 312.0 s ahead of this host's",
)
def server(subject: Subject) -> Iterator[Finding]:
    """Compare the server's clock with this host's.

    Commit times are the server's, everything else is this host's.
    """
    yield _judged("the server's clock", measure(subject.server))


@examination(
    "store-clock",
    PART,
    green=f"the store's clock and this host's differ by at most {LARGE_SECONDS:g} s",
    hint=HINT,
    example="the store's clock: 912.0 s behind this host's",
)
def store(subject: Subject) -> Iterator[Finding]:
    """Compare the store's clock with this host's, by the Date header of any answer.

    S3 refuses requests of another time than its own.
    """
    where = subject.access.cluster.repository
    if where.url.startswith("file:"):
        yield not_asked("the store's clock", "the repository is a folder")
        return
    address = urlsplit(where.endpoint_url or f"https://s3.{where.region}.amazonaws.com")
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.netloc, timeout=SECONDS)
    try:
        before, started = datetime.now(UTC), time.monotonic()
        connection.request("HEAD", f"{address.path or ''}/")
        told = connection.getresponse().getheader("Date")
        taken = time.monotonic() - started
    except (OSError, http.client.HTTPException) as error:
        yield unknown("the store's clock", f"no answer: {error}")
        return
    finally:
        connection.close()
    at = parsedate_to_datetime(told) if told else None
    if at is None or at.tzinfo is None:
        yield unknown("the store's clock", "an answer without its time", "a Date header")
        return
    # The header tells whole seconds: the truth is up to one later.
    offset = (at - before).total_seconds() - taken / 2 + 0.5
    yield _judged("the store's clock", ClockDifference(offset, taken / 2 + 0.5))


def _judged(thing: str, found: ClockDifference) -> Finding:
    offset, give = found.offset_seconds, found.uncertainty_seconds
    way = "ahead of" if offset > 0 else "behind"
    shown = f"{_span(offset)} {way} this host's" if abs(offset) > give else "as this host's"
    shown += f", give or take {_span(give)}"
    if abs(offset) - give > LARGE_SECONDS:
        return red(thing, shown, f"within {LARGE_SECONDS:g} s")
    return green(thing, shown)


def _span(seconds: float) -> str:
    return f"{abs(seconds):.1f} s" if abs(seconds) >= 1 else f"{abs(seconds) * 1000:.1f} ms"
