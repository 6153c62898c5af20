"""The alerts of a cluster: what a look makes of them, who is told, who is at it, what is planned.

Everything that has to be remembered is, before anything is sent. Sending goes on beside, so that a
channel which hangs keeps no look from being taken.
"""

from __future__ import annotations

import logging
import os
import secrets as tokens
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pgdrill.access import Access
from pgdrill.alert_settings import Alerts
from pgdrill.alerts.looks import Look, look_of
from pgdrill.alerts.memory import Memory
from pgdrill.alerts.model import RANK, Acknowledgement, Alert, AlertState, Link, Message, Silence
from pgdrill.alerts.outbox import Claimed, Result, claim, due, finish, with_messages
from pgdrill.alerts.pings import Pings
from pgdrill.alerts.policy import RULES, Policy, Rule
from pgdrill.alerts.secret_sources import SecretSource, from_environment
from pgdrill.alerts.sending import deliver
from pgdrill.alerts.telling import acknowledge
from pgdrill.alerts.transition import transition
from pgdrill.errors import ConfigError, Momentary
from pgdrill.health.model import HealthFinding, HealthReport

logger = logging.getLogger(__name__)

KNOWN_SECONDS = 30.0  # what others may have written meanwhile is seen after so long at the latest
REFRESH_SECONDS = 60.0  # the newest figures of what is open are written so often
LONGEST_SILENCE = timedelta(days=30)
MEMORY_CHECK = "alert-memory"
SENDERS = 4


@dataclass
class Alerting:
    """Tells of one cluster. Use it as a context: what is on its way is sent before it ends.

    ``hides``: check -> checks whose bad state is its consequence. ``rules``: checks with another
    hysteresis than ``dr.toml``'s.
    """

    access: Access
    settings: Alerts
    secrets: SecretSource = from_environment
    hides: Mapping[str, Collection[str]] = field(default_factory=dict)
    rules: Mapping[str, Rule] = field(default_factory=lambda: RULES)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    pause: Callable[[float], None] = time.sleep
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        cluster = self.access.cluster
        self.cluster = cluster.name
        self.memory = Memory(lambda: self.access.reports, cluster.state_directory)
        self.channels = {
            one.name: one
            for one in self.settings.channels
            if not one.clusters or cluster.name in one.clusters
        }
        self.policy = Policy(
            default=Rule(
                self.settings.bad_looks, self.settings.good_looks, self.settings.unknown_looks
            ),
            rules=self.rules,
            hides=self.hides,
            routes={
                severity: tuple(
                    name for name, one in self.channels.items() if severity in one.severities
                )
                for severity in RANK
            },
            repeat=timedelta(seconds=self.settings.repeat_seconds),
        )
        self.pings = Pings(
            [one for one in self.settings.pings if one.cluster == cluster.name], self.secrets
        )
        self._sender = f"{socket.gethostname()[:60]} {os.getpid()} {tokens.token_hex(4)}"
        self._pool = ThreadPoolExecutor(SENDERS, "alerts")
        self._going: set[Future[Any]] = set()

    def __enter__(self) -> Alerting:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        self._pool.shutdown()

    @property
    def nobody(self) -> str:
        """Why nobody is told of this cluster; empty where somebody is."""
        if self.channels:
            return ""
        found = "has no [[alerts.channels]]" if not self.settings.channels else "has none for it"
        return f"nobody is told of cluster {self.cluster}: dr.toml {found}"

    # --- looks ---

    def look(
        self, report: HealthReport, links: Mapping[str, Sequence[Link]] | None = None
    ) -> list[Message]:
        """Take a look into account, and send what it gives rise to; return the new messages.

        ``links``: by check, what a message of it leads to. The same look twice counts once.
        """
        self._ping(report.findings)
        look = self._with_links(look_of(report), links or {})
        known = self.memory.cached(KNOWN_SECONDS)
        if known is not None and (quiet := self._quietly(known, look)) is not None:
            self.memory.note(known, quiet)
            return []
        messages, claimed = self.memory.change(lambda state: self._taken(state, look))
        self._send(claimed)
        return messages

    def resume(self) -> None:
        """Send what is due of what was cut or failed earlier, without a look."""
        now = self.clock()
        self._send(self.memory.change(lambda state: claim(state, self.channels, self._sender, now)))

    def finish(self) -> None:
        """Wait until everything that this process sends is sent, or has failed for now."""
        while self._going:
            wait(self._going)
            self._going = {one for one in self._going if not one.done()}

    def _quietly(self, known: AlertState, look: Look) -> AlertState | None:
        """Return the state after a look that need not be written; None where it has to be."""
        now = self.clock()
        if due(known, now) or self.memory.trouble:
            return None
        state, messages = transition(known, self._own(look, known), now, self.policy)
        if messages or _significant(state) != _significant(known):
            return None
        stale = self.memory.clock() - self.memory.written_at > REFRESH_SECONDS
        return None if stale and any(one.open for one in state.alerts.values()) else state

    def _taken(
        self, state: AlertState, look: Look
    ) -> tuple[AlertState, tuple[list[Message], list[Claimed]]]:
        now = self.clock()
        state, messages = transition(state, self._own(look, state), now, self.policy)
        state, claimed = claim(with_messages(state, messages), self.channels, self._sender, now)
        return state, (messages, claimed)

    def _own(self, look: Look, state: AlertState) -> Look:
        """The look with what there is to say of the memory itself."""
        trouble = self.memory.trouble
        if not trouble and MEMORY_CHECK not in state.alerts:
            return look
        finding = HealthFinding(
            cluster=self.cluster,
            check=MEMORY_CHECK,
            status="warning" if trouble else "ok",
            found=trouble or "what is remembered of alerts can be read",
            promise="what pgdrill wrote",
            hint="see who writes into the report store; silences may have to be made again",
            reason="alert-memory-broken" if trouble else "",
            looked_at=self.clock(),
        )
        return Look(look.cluster, look.name, (*look.findings, finding), look.links)

    def _with_links(self, look: Look, links: Mapping[str, Sequence[Link]]) -> Look:
        page, runbook = self.settings.page_url, self.settings.runbook_url
        found = {}
        for check in {one.check for one in look.findings}:
            own = [Link(text="runbook", url=f"{runbook}#{check}")] if runbook else []
            own += [Link(text="page", url=page)] if page else []
            found[check] = (*links.get(check, ()), *own)
        return Look(look.cluster, look.name, look.findings, found)

    # --- sending ---

    def _send(self, claimed: list[Claimed]) -> None:
        self._going = {one for one in self._going if not one.done()}
        for one in claimed:
            self._going.add(self._pool.submit(self._deliver, one))

    def _deliver(self, claimed: Claimed) -> None:
        """Send, note how it went, and go on with what that makes due, in this thread."""
        waiting = [claimed]
        while waiting:
            one = waiting.pop()
            thread = self._thread(one)
            result = deliver(one, self.channels, self.secrets, thread=thread, pause=self.pause)
            waiting += self._noted(result)

    def _thread(self, claimed: Claimed) -> str:
        state = self.memory.cached(float("inf"))
        alert = state.alerts.get(claimed.message.cause) if state else None
        same = alert is not None and alert.since == claimed.message.since
        return alert.threads.get(claimed.delivery.channel, "") if alert and same else ""

    def _noted(self, result: Result) -> list[Claimed]:
        order = list(self.channels)

        def step(state: AlertState) -> tuple[AlertState, list[Claimed]]:
            now = self.clock()
            return claim(finish(state, [result], order, now), self.channels, self._sender, now)

        try:
            return self.memory.change(step)
        except Momentary as error:  # its claim runs out, and it is sent once more
            logger.warning("%s", error)
            return []

    def _ping(self, findings: Sequence[HealthFinding]) -> None:
        for ping, sentence in self.pings.due(findings):
            self._going.add(self._pool.submit(self.pings.send, ping, sentence))

    # --- what people do ---

    def acknowledge(self, cause: str, *, why: str, by: str) -> Alert:
        """Note that somebody is at an alert: it is not told again unless it grows worse."""
        now = self.clock()

        def step(state: AlertState) -> tuple[AlertState, tuple[Alert, list[Claimed]]]:
            alert = state.alerts.get(cause)
            if alert is None or not alert.open:
                raise self._no_such(cause, state)
            alert, message = acknowledge(
                alert, self.cluster, cause, Acknowledgement(by=by[:200], why=why[:2000], at=now)
            )
            state = state.model_copy(update={"alerts": {**state.alerts, cause: alert}})
            if message.to:
                state = with_messages(state, [message])
            state, claimed = claim(state, self.channels, self._sender, now)
            return state, (alert, claimed)

        alert, claimed = self.memory.change(step)
        self._send(claimed)
        return alert

    def silence(self, length: timedelta, *, why: str, by: str, check: str = "") -> Silence:
        """Tell nothing new of the cluster for a while; it ends by itself."""
        now = self.clock()
        if not timedelta(0) < length <= LONGEST_SILENCE:
            raise ConfigError(
                "silence-length",
                "option --for",
                found=str(length),
                expected=f"more than nothing, and at most {LONGEST_SILENCE.days} days",
                hint="name a span that the work will not outlast; it can be made anew",
            )
        made = Silence(
            id=tokens.token_hex(8),
            check=check,
            why=why[:2000],
            by=by[:200],
            made_at=now,
            until=now + length,
        )
        return self.memory.change(
            lambda state: (state.model_copy(update={"silences": (*state.silences, made)}), made)
        )

    def end_silences(self) -> list[Silence]:
        """End every silence that holds now, and return them."""
        now = self.clock()

        def step(state: AlertState) -> tuple[AlertState, list[Silence]]:
            ended = [one for one in state.silences if one.until > now]
            rest = tuple(
                one.model_copy(update={"until": now}) if one in ended else one
                for one in state.silences
            )
            return state.model_copy(update={"silences": rest}), ended

        return self.memory.change(step)

    def _no_such(self, cause: str, state: AlertState) -> ConfigError:
        known = [f"pgdrill/{self.cluster}/{name}" for name, one in state.alerts.items() if one.open]
        return ConfigError(
            "no-such-alert",
            f"alert pgdrill/{self.cluster}/{cause}",
            found=f"only {', '.join(known)} open" if known else "nothing open",
            expected="an alert that is open",
            hint="take the key from `pgdrill alert list`",
        )


def _significant(state: AlertState) -> dict[str, object]:
    """What of the alerts has to be written at once: all but the newest figures."""
    blank = {"findings": (), "count": 0, "links": (), "last_look": ""}
    return {
        cause: alert.model_copy(update={**blank, "heard_at": alert.changed_at})
        for cause, alert in state.alerts.items()
    }
