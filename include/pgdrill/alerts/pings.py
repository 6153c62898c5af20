"""Signs of life, one for each promise, by the API of healthchecks.

A ping goes out only while the promise is kept: who misses it tells somebody, even where nothing of
ours runs any more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote

from pgdrill.alert_settings import AlertPing
from pgdrill.alerts.channels.base import Credentials, NotSent
from pgdrill.alerts.channels.http import post
from pgdrill.alerts.secret_sources import SecretSource
from pgdrill.errors import PgdrillError
from pgdrill.health.model import HealthFinding
from pgdrill.text import one_line

logger = logging.getLogger(__name__)

BODY_BYTES = 10_000  # healthchecks keeps so much


class Pings:
    """Sends the pings of a cluster, none more often than its configuration says.

    ``failures`` counts those that were not taken, by name.
    """

    def __init__(
        self,
        pings: Sequence[AlertPing],
        secrets: SecretSource,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pings = pings
        self.secrets = secrets
        self.clock = clock
        self.failures: dict[str, int] = {}
        self._tried_at: dict[str, float] = {}

    def due(self, findings: Iterable[HealthFinding]) -> list[tuple[AlertPing, str]]:
        """Return the pings to send after a look, each with the sentence that goes with it."""
        found: dict[str, list[HealthFinding]] = {}
        for finding in findings:
            found.setdefault(finding.check, []).append(finding)
        now, wanted = self.clock(), []
        for ping in self.pings:
            seen = found.get(ping.promise, [])
            if not kept(seen) or now - self._tried_at.get(ping.name, -1e9) < ping.every_seconds:
                continue
            self._tried_at[ping.name] = now
            wanted.append((ping, "\n".join(one_line(one.found) for one in seen)))
        return wanted

    def send(self, ping: AlertPing, sentence: str) -> str:
        """Send a ping; return why it was not taken, or an empty string."""
        try:
            post(
                _address(ping, self.secrets(ping)),
                sentence.encode()[:BODY_BYTES],
                headers={"Content-Type": "text/plain; charset=utf-8"},
                timeout_seconds=ping.timeout_seconds,
                what=ping.name,
            )
        except NotSent as error:
            trouble = str(error)
        except PgdrillError as error:
            trouble = error.problem.found
        else:
            return ""
        self.failures[ping.name] = self.failures.get(ping.name, 0) + 1
        logger.warning("%s: %s", ping.name, trouble)
        return trouble


def kept(findings: Sequence[HealthFinding]) -> bool:
    """Return whether a promise is kept: it was asked, and every answer is good."""
    asked = [one for one in findings if one.status != "not asked"]
    return bool(asked) and all(one.status == "ok" for one in asked)


def _address(ping: AlertPing, credentials: Credentials) -> str:
    if credentials.secret.startswith(("http://", "https://")):
        return credentials.secret
    slug = f"{ping.cluster}-{ping.promise}".lower().replace("_", "-")
    return f"{ping.url}/{quote(credentials.secret, safe='')}/{slug}?create=1"
