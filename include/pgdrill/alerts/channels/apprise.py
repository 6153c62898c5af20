"""Whatever Apprise knows: SNS, Teams, Telegram and a hundred more, each target with its own result.

Its libraries talk to strangers' servers without bounds. So each target gets a process of its own,
with little memory, which is ended in time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from pgdrill.alert_settings import AlertChannel
from pgdrill.alerts.channels.base import Credentials, NotSent, Sending, Sent, missing
from pgdrill.alerts.words import body, title

START_SECONDS = 20.0  # until Python and Apprise are loaded, on a busy host
MOST_TARGETS = 8


class ByApprise:
    """Sends to the Apprise URLs of its secret, which stand apart by blanks or newlines."""

    def __init__(self, settings: AlertChannel, credentials: Credentials) -> None:
        if importlib.util.find_spec("apprise") is None:
            raise NotSent("Apprise is not installed here (pip install 'pgdrill[alerts]')")
        self.targets = {target_of(url): url for url in credentials.secret.split()}
        if not 0 < len(self.targets) <= MOST_TARGETS:
            raise NotSent(f"{len(self.targets)} Apprise URLs, not 1 to {MOST_TARGETS}")
        self.settings = settings

    def send(self, sending: Sending) -> Sent:
        """Send to every target that does not have it yet."""
        left = missing(sending.have_it, list(self.targets))
        with ThreadPoolExecutor(MOST_TARGETS) as pool:
            found = dict(
                zip(left, pool.map(lambda one: self._one(one, sending), left), strict=True)
            )
        return Sent(
            parts=(*sending.have_it, *(one for one, trouble in found.items() if not trouble)),
            failures=tuple(f"{one}: {trouble}" for one, trouble in found.items() if trouble),
        )

    def _one(self, target: str, sending: Sending) -> str:
        """Send to one target; return why it does not have it, or an empty string."""
        over = sending.message.kind == "end"
        asked = {
            "url": self.targets[target],
            "title": title(sending.message),
            "body": body(sending.message, sending.note),
            "kind": "success" if over else KINDS[sending.message.severity],
            "seconds": self.settings.timeout_seconds,
        }
        limit = self.settings.timeout_seconds + START_SECONDS
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pgdrill.alerts.channels.apprise_child"],
                input=json.dumps(asked).encode(),
                capture_output=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer in {limit:g} s"
        # nothing of what it says is shown: it may hold the URL
        return ANSWERS.get(done.returncode, f"not sent (code {done.returncode})")


KINDS = {"critical": "failure", "warning": "warning", "unknown": "warning"}
ANSWERS = {0: "", 3: "not sent", 4: "no URL that Apprise knows", 5: "no answer in time"}


def target_of(url: str) -> str:
    """Return a name for a target that tells nothing but its scheme."""
    scheme = url.partition(":")[0][:20]
    shown = scheme if scheme.isalnum() else "target"
    return f"{shown}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
