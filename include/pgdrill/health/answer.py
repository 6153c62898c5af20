"""What a health check answers; who asked, of which cluster and when is added later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pgdrill.health.model import HealthStatus

Unit = Literal["seconds", "bytes", "ratio", "count", ""]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a health check, as :class:`pgdrill.health.model.HealthFinding` has it.

    An empty ``hint`` of one that is not ok stands for the check's own.
    """

    status: HealthStatus
    found: str
    thing: str = ""
    promise: str = ""
    value: float | None = None
    promised: float | None = None
    unit: Unit = ""
    would_lose_seconds: float | None = None
    hint: str = ""
    reason: str = ""


def unknown(found: str, reason: str, *, thing: str = "", hint: str = "") -> Answer:
    """Return an answer that could not be had."""
    return Answer("unknown", found, thing, hint=hint, reason=reason)


def not_asked(why: str, reason: str, *, thing: str = "") -> Answer:
    """Return the answer to a question that is no matter here."""
    return Answer("not asked", why, thing, reason=reason)
