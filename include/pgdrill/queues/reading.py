"""What stands in the queues of a loaded server, read once for all questions.

Memory grows with the ids of one queue; payloads are never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from redis import exceptions as failed

from pgdrill.queues.connection import Client
from pgdrill.queues.layout import (
    DELAY_SHIFT,
    LIVE,
    OWN,
    PAGE,
    STATES,
    ids,
    key,
    literal,
    queue_names,
)

SHOWN = 5


@dataclass
class QueueContent:
    """One queue as it was loaded. Ids are bytes, as Redis has them.

    ``lost``: ids without a job; ``twice``: ids in two states, with both; ``wrong``: keys of another
    type than BullMQ gives them; ``unscheduled``: schedulers without a next job.
    """

    database: int
    name: str
    version: str = ""
    states: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    active: list[str] = field(default_factory=list)
    orphans: int = 0
    due: int = 0
    highest: int = 0
    counter: int | None = None
    schedulers: int = 0
    legacy: int = 0
    unscheduled: list[str] = field(default_factory=list)
    waiting_for_lost: list[str] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """The queue in words."""
        return f"{self.name}{f' in database {self.database}' if self.database else ''}"


def read_queues(client: Client, database: int, prefix: str, now_ms: int) -> Iterator[QueueContent]:
    """Yield what stands in a database's queues. ``now_ms``: delayed jobs until then are due."""
    for name in queue_names(client, prefix):
        yield _Reader(client, prefix, QueueContent(database, name), now_ms).read()


class _Reader:
    def __init__(self, client: Client, prefix: str, content: QueueContent, now_ms: int) -> None:
        self.client, self.prefix, self.content, self.now_ms = client, prefix, content, now_ms
        self.known: dict[bytes, str] = {}

    def read(self) -> QueueContent:
        """Read it whole."""
        content = self.content
        content.version = self._text("meta", "version")
        for state, kind in STATES.items():
            try:
                self._state(state)
            except failed.ResponseError:
                content.wrong.append(f"{state} is no {kind}")
        self._jobs()
        self._counter()
        self._schedulers()
        self._flows()
        self._orphans()
        return content

    def _key(self, *rest: str) -> bytes:
        return key(self.prefix, self.content.name, *rest)

    def _job(self, job: bytes, *rest: bytes) -> bytes:
        return b":".join((self._key(), job, *rest))

    def _text(self, name: str, part: str) -> str:
        try:
            value = self.client.hget(self._key(name), part)
        except failed.ResponseError:
            self.content.wrong.append(f"{name} is no hash")
            return ""
        return value.decode(errors="replace")[:60] if isinstance(value, bytes) else ""

    def _state(self, state: str) -> None:
        content, count = self.content, 0
        for job, score in ids(self.client, self.prefix, content.name, state):
            count += 1
            if job in self.known:
                content.twice.append(f"{_shown(job)} ({self.known[job]} and {state})")
            self.known[job] = state
            if state == "delayed" and score / DELAY_SHIFT <= self.now_ms:
                content.due += 1
            if state == "active":
                content.active.append(_shown(job))
            if job.isdigit() and len(job) < 20:
                content.highest = max(content.highest, int(job))
        content.states[state] = count

    def _jobs(self) -> None:
        for page in _pages(self.known):
            pipe = self.client.pipeline(transaction=False)
            for job in page:
                pipe.type(self._job(job))
            for job, kind in zip(page, pipe.execute(), strict=True):
                if kind != b"hash":
                    self.content.lost.append(f"{_shown(job)} ({self.known[job]})")

    def _counter(self) -> None:
        try:
            value = self.client.get(self._key("id"))
        except failed.ResponseError:
            self.content.wrong.append("id is no string")
            return
        if isinstance(value, bytes) and value.isdigit() and len(value) < 20:
            self.content.counter = int(value)

    def _schedulers(self) -> None:
        """A scheduler lives by its next job alone: ``repeat:<id>:<ms>``, in a live state."""
        try:
            names = self.client.zrange(self._key("repeat"), 0, -1)
        except failed.ResponseError:
            self.content.wrong.append("repeat is no zset")
            return
        coming = {job.rpartition(b":")[0] for job, state in self.known.items() if state in LIVE}
        for name in names:
            if not self.client.exists(self._key("repeat") + b":" + name):
                self.content.legacy += 1  # of before BullMQ 5: its job's name is a hash of it
                continue
            self.content.schedulers += 1
            if b"repeat:" + name not in coming:
                self.content.unscheduled.append(_shown(name))

    def _flows(self) -> None:
        """A parent waits for its children, which may be of other queues: each has to be there."""
        parents = [job for job, state in self.known.items() if state == "waiting-children"]
        for page in _pages(parents):
            pipe = self.client.pipeline(transaction=False)
            for job in page:
                pipe.smembers(self._job(job, b"dependencies"))
            for job, children in zip(page, pipe.execute(raise_on_error=False), strict=True):
                if isinstance(children, Exception):
                    self.content.wrong.append(f"{_shown(job)}:dependencies is no set")
                elif not children or self._absent(children):
                    self.content.waiting_for_lost.append(_shown(job))

    def _absent(self, names: Iterable[bytes]) -> bool:
        listed = list(names)
        return any(int(self.client.exists(*page)) < len(page) for page in _pages(listed))

    def _orphans(self) -> None:
        """Count jobs without a state; theirs may be the highest id, too."""
        content, start = self.content, self._key() + b":"
        own = {one.encode() for one in OWN}
        for name in self.client.scan_iter(match=literal(start) + b"*", count=PAGE, _type="hash"):
            job = name[len(start) :]
            if job in self.known or job in own or not _job_name(job):
                continue
            content.orphans += 1
            if job.isdigit() and len(job) < 20:
                content.highest = max(content.highest, int(job))


def _job_name(rest: bytes) -> bool:
    """Return whether a hash of that name is a job's own: no part of one, and no scheduler's."""
    if rest.startswith((b"repeat:", b"de:", b"metrics:")):
        return (
            rest.startswith(b"repeat:")
            and rest.rpartition(b":")[2].isdigit()
            and rest.count(b":") > 1
        )
    return b":" not in rest


def _pages(names: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(names)
    while page := list(islice(rest, PAGE)):
        yield page


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")[:80]
