"""A production that is watched by the service itself, and what arrives of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from pgdrill.backup import take_backup
from pgdrill_demo.stack import preferred_tool
from tests.damage.small import SmallStack
from tests.integration.alerts.servers import Listening, listening
from tests.integration.health.conftest import TABLE, breakable
from tests.integration.worlds import production

PATIENCE_SECONDS = 900.0
# nothing of a new cluster was drilled, dumped or pruned yet: that is red, and meant to be
NEVER = {"drill-age", "drill-verdict", "dump-age", "retention-age"}


@dataclass
class Live:
    """The stack, its watch, and the messages that came."""

    stack: SmallStack
    hook: Listening
    process: subprocess.Popen[bytes] | None = None
    since: int = 0
    more: dict[str, str] = field(default_factory=dict)

    # --- the service ---

    def start(self) -> None:
        log = (self.stack.home / "watch.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pgdrill", "watch"],
            env={**os.environ, **self.environment, "ALERT_SECRET": "sekret"},
            stderr=log,
        )
        log.close()

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    @property
    def environment(self) -> dict[str, str]:
        return {**self.stack.environment, **self.more}

    def configure(self, host: str, standby: str) -> None:
        """Name both servers, the heartbeats, the channel and the metrics' file."""
        text = self.stack.config_file.read_text()
        if "standby_dsn" not in text:
            text = text.replace(
                "[clusters.agents.repository]", 'standby_dsn = ""\n[clusters.agents.repository]'
            ).replace(
                "[clusters.agents.drill]",
                '[clusters.agents.drill]\nheartbeat = "public.pgdrill_heartbeat.at"\n'
                "heartbeat_seconds = 5",
            )
            text += f"""
[watch]
look_seconds = 5
listen = ""
textfile = "{self.metrics}"
[[alerts.channels]]
name = "oncall"
type = "webhook"
url = "{self.hook.url}"
secret_variable = "ALERT_SECRET"
"""
        for key, place in (("dsn", host), ("standby_dsn", standby)):
            words = f'{key} = "host={place} port=5432 dbname=agents"'
            text = re.sub(rf"^{key} = .*$", words, text, flags=re.MULTILINE)
        new = self.stack.home / "new.toml"
        new.write_text(text)
        new.rename(self.stack.config_file)

    # --- what it sees and says ---

    @property
    def metrics(self) -> Path:
        return self.stack.home / "pgdrill.prom"

    @property
    def looks(self) -> float:
        text = self.metrics.read_text() if self.metrics.exists() else ""
        found = re.search(r"^pgdrill_looks_total\{.*\} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0

    def settle(self, looks: int = 3) -> None:
        """Wait for some more looks: whatever they have to say is said."""
        before = self.looks
        until(lambda: self.looks >= before + looks or self.looks < before)

    @property
    def messages(self) -> list[Any]:
        """The requests since the last harm began."""
        return self.hook.requests[self.since :]

    def told(self, cause: str, kind: str) -> Any:
        """Wait for a message."""

        def there() -> Any:
            return next(
                (
                    one
                    for one in self.messages
                    if (one.json["cause"], one.json["kind"]) == (cause, kind)
                ),
                None,
            )

        return until(there)

    def counts(self) -> dict[str, Counter[str]]:
        """How many messages of each kind came of each cause since the last harm began."""
        found: dict[str, Counter[str]] = {}
        for one in self.messages:
            found.setdefault(one.json["cause"], Counter())[one.json["kind"]] += 1
        return found

    # --- production ---

    def work(self) -> None:
        """Commit something, and end the segment."""
        with self.stack.connect() as connection:
            connection.execute("INSERT INTO work SELECT generate_series(1, 100)")
            connection.execute("SELECT pg_switch_wal()")

    def on_standby(self, statement: str) -> None:
        words = make_conninfo(
            "", host=f"{self.stack.home}/sb", port=5432, user="postgres",
            password=self.stack.passwords["postgres"], dbname="agents",
        )  # fmt: skip
        with psycopg.connect(words, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]


def until(what: Callable[[], Any]) -> Any:
    """Wait until something holds."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not (found := what()):
        assert time.monotonic() < ends, what
        time.sleep(0.1)
    return found


@contextmanager
def watched() -> Iterator[Live]:
    """Everything runs, and every look is ok but for what has to be made yet."""
    with (
        production(preferred_tool(), schema=TABLE, prepare=breakable) as stack,
        listening() as hook,
    ):
        take_backup(stack.access)
        stack.start_standby()
        made = Live(stack, hook)
        made.configure(str(stack.home), f"{stack.home}/sb")
        made.work()
        made.start()
        try:
            for cause in sorted(NEVER):
                made.told(cause, "start")
            made.settle(6)  # what the first looks found besides is over
            yield made
        finally:
            made.stop()
