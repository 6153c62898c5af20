"""What Bull and BullMQ keep in Redis: names of keys, and the states that a job can be in.

A job's state is where its id stands; nothing in the job itself says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pgdrill.queues.connection import Client

Kind = Literal["list", "zset"]
STATES: dict[str, Kind] = {
    "wait": "list",
    "paused": "list",
    "active": "list",
    "prioritized": "zset",
    "delayed": "zset",
    "waiting-children": "zset",
    "completed": "zset",
    "failed": "zset",
}
HISTORY = ("completed", "failed")  # kept for ever by default: most of a snapshot
LIVE = tuple(state for state in STATES if state not in HISTORY)
# Keys of a queue that are no job's, by what follows its name.
OWN = frozenset(
    {
        *STATES,
        *("id", "pc", "meta", "marker", "limiter", "stalled-check", "stalled", "events", "repeat"),
        *("de", "priority", "groups", "added", "metrics"),
    }
)
# What tells that there is a queue: Bull 3 has no meta, and a queue that never had a job no id.
SIGNS = ("meta", "id", *STATES)
MARKER = b"0:"  # stood among waiting ids in older BullMQ
DELAY_SHIFT = 4096  # a delayed job's score: its due time in ms times this, and a counter
PAGE = 1000


def key(prefix: str, queue: str, *rest: str) -> bytes:
    """Return the name of a key of a queue."""
    return ":".join((prefix, queue, *rest)).encode(errors="surrogateescape")


def queue_names(client: Client, prefix: str) -> list[str]:
    """Return the names of the queues under a prefix in a database, by looking at all keys.

    A queue is a middle part of keys that end as a queue's do.
    """
    found: set[str] = set()
    start, ends = (
        f"{prefix}:".encode(errors="surrogateescape"),
        [f":{one}".encode() for one in SIGNS],
    )
    for name in client.scan_iter(match=literal(start) + b"*", count=PAGE):
        for end in ends:
            middle = name[len(start) : -len(end)]
            if name.endswith(end) and middle and b":" not in middle:
                found.add(middle.decode(errors="surrogateescape"))
    return sorted(found)


def counts(client: Client, prefix: str, queues: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return how many ids stand in every state of queues of a database."""
    found = {}
    for queue in queues:
        pipe = client.pipeline(transaction=False)
        for state, kind in STATES.items():
            name = key(prefix, queue, state)
            pipe.llen(name) if kind == "list" else pipe.zcard(name)
        found[queue] = dict(zip(STATES, map(int, pipe.execute()), strict=True))
    return found


def ids(client: Client, prefix: str, queue: str, state: str) -> Iterator[tuple[bytes, float]]:
    """Yield the ids in a state with their scores (0 in lists), page by page."""
    name, kind = key(prefix, queue, state), STATES[state]
    start = 0
    while True:
        if kind == "list":
            page = [(one, 0.0) for one in client.lrange(name, start, start + PAGE - 1)]
        else:
            page = client.zrange(name, start, start + PAGE - 1, withscores=True)
        yield from (one for one in page if not one[0].startswith(MARKER))
        if len(page) < PAGE:
            return
        start += PAGE


def literal(text: bytes) -> bytes:
    """Return text as a pattern of SCAN that matches it alone."""
    for special in (b"\\", b"*", b"?", b"[", b"]"):
        text = text.replace(special, b"\\" + special)
    return text
