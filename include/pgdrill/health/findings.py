"""An answer of a check as the finding that is shown, kept and told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pgdrill.health.answer import Answer
from pgdrill.health.check import HealthCheck
from pgdrill.health.model import HealthFinding
from pgdrill.text import one_line


def finding_of(
    one: HealthCheck, answer: Answer, *, cluster: str, at: datetime, hide: Callable[[str], str]
) -> HealthFinding:
    """Return an answer with what its check says of itself, each text one line; ``hide`` takes the
    secrets out of it.
    """
    told = answer.status in ("warning", "critical", "unknown")
    texts = {
        "thing": answer.thing,
        "found": answer.found,
        "promise": answer.promise or one.passing,
        "hint": (answer.hint or one.hint) if told else "",
    }
    safe = {name: one_line(hide(text)) for name, text in texts.items()}
    return HealthFinding(
        cluster=cluster,
        check=one.name,
        status=answer.status,
        value=answer.value,
        promised=answer.promised,
        unit=answer.unit,
        would_lose_seconds=answer.would_lose_seconds,
        reason=answer.reason,
        looked_at=at,
        **safe,
    )
