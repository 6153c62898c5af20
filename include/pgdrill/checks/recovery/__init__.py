"""Recovery: is the cluster the right one, and did it get where it was told to, once and cleanly?"""

from __future__ import annotations

# In the order in which they are asked.
# isort: off
from pgdrill.checks.recovery import (
    reached,
    instant,
    timeline,
    log,
    leftovers,
    libraries,
    heartbeat,
    clock,
    harmless,
)

__all__ = [
    "clock",
    "harmless",
    "heartbeat",
    "instant",
    "leftovers",
    "libraries",
    "log",
    "reached",
    "timeline",
]
