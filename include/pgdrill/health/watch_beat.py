"""The watch's own sign of life: who watches the watch has something to look at."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime

from pgdrill.documents import Instant, StrictModel, read_model
from pgdrill.errors import PgdrillError
from pgdrill.health.answer import Answer, not_asked, unknown
from pgdrill.health.check import health_check
from pgdrill.health.subject import HealthSubject
from pgdrill.reports.terminal import seconds as shown
from pgdrill.repository.object_store import Storage
from pgdrill.text import one_line

logger = logging.getLogger(__name__)

KEY = "health/watch.json"
EVERY_SECONDS = 60.0  # it is written so often
ALLOWED_SECONDS = 180.0  # and missed after so long: a restart takes less


class WatchBeat(StrictModel):
    """When a service looked last, and where it runs."""

    version: int = 1
    host: str
    looked_at: Instant


@health_check(
    "watch",
    "repository",
    passing="the service that watches looked within the last three minutes, if there is one",
    hint=(
        "see `systemctl status pgdrill-watch` on its host; if it is not to watch any more, `pgdrill"
        " watch --forget`"
    ),
    example="the watch on db1 looked 14 min ago",
    needs=("repository",),
)
def watch(subject: HealthSubject) -> Iterator[Answer]:
    """Read when the service looked last; whoever looks asks this, the service itself, too."""
    text = subject.access.reports.read(KEY)
    if text is None:
        yield not_asked("no service watches; others look now and then", "no-watch")
        return
    try:
        found = read_model(WatchBeat, text)
    except (ValueError, PgdrillError) as error:
        yield unknown(f"{KEY} cannot be read: {str(error)[:200]}", "watch-unreadable")
        return
    yield judge_watch(found, subject.now)


def judge_watch(found: WatchBeat, now: datetime) -> Answer:
    """Judge the age of the last look. One of the future is a matter of clocks."""
    age = max(0.0, (now - found.looked_at).total_seconds())
    late = age > ALLOWED_SECONDS
    return Answer(
        "critical" if late else "ok",
        f"the watch on {one_line(found.host)[:100]} looked {shown(round(age))} ago",
        "",
        f"a look every {shown(ALLOWED_SECONDS)} at least",
        age,
        ALLOWED_SECONDS,
        "seconds",
        reason="watch-stopped" if late else "",
    )


def write_beat(reports: Storage) -> None:
    """Say that this host's watch looked just now."""
    beat = WatchBeat(host=socket.gethostname(), looked_at=datetime.now(UTC))
    reports.write(KEY, beat.model_dump_json().encode())


def forget_beat(reports: Storage) -> bool:
    """Take the sign of life away; return whether there was one."""
    there = reports.read(KEY) is not None
    if there:
        reports.delete(KEY)
    return there
