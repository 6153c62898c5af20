"""Results as XCom and its readers take them: JSON's own types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgdrill.reports.model import CheckResult

Finding = dict[str, Any]


def as_xcom(result: Any) -> dict[str, Any]:
    """Return a result dataclass as JSON's own types; Airflow would wrap a datetime or a tuple for
    its own eyes only.
    """
    return {key: _plain(value) for key, value in asdict(result).items()}


def findings(results: Sequence[CheckResult]) -> list[Finding]:
    """Return every answer that is no pass, with its hint."""
    return [
        {
            "check": r.name,
            "status": r.status,
            "thing": r.thing,
            "found": r.value,
            "expected": r.threshold,
            "message": r.message,
            "hint": r.hint,
        }
        for r in results
        if r.status != "pass"
    ]


def where(kept_at: Sequence[str]) -> str:
    """Return where a report is kept: in the store if it is, for the local copy stays on its
    host.
    """
    return kept_at[-1] if kept_at else ""


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    return list(value) if isinstance(value, tuple) else value
