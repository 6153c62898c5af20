"""A cause hides its consequences: they are remembered, and not told while it lasts."""

from __future__ import annotations

from collections.abc import Mapping

from pgdrill.alerts.looks import UNKNOWN
from pgdrill.alerts.model import RANK, Alert
from pgdrill.alerts.policy import Policy


def hidden(
    alerts: Mapping[str, Alert], policy: Policy, *, heard: frozenset[str]
) -> dict[str, Alert]:
    """Return the alerts, each with the check that hides it now.

    What was hidden stays so until a look has heard of it again (``heard``): what was seen of it
    while its cause lasted says nothing any more.
    """
    shown = {}
    for cause, alert in alerts.items():
        by = _hider(cause, alert, alerts, policy)
        if not by and cause not in heard:
            by = alert.hidden_by
        shown[cause] = (
            alert.model_copy(update={"hidden_by": by}) if by != alert.hidden_by else alert
        )
    return shown


def _hider(cause: str, alert: Alert, alerts: Mapping[str, Alert], policy: Policy) -> str:
    check = cause.removesuffix(UNKNOWN)
    for hider, consequences in policy.hides.items():
        if check == hider or check not in consequences:
            continue
        if _stands(alerts.get(hider)) and not _worse(alert, alerts[hider]):
            return hider
        if cause.endswith(UNKNOWN) and _stands(alerts.get(hider + UNKNOWN)):
            return hider + UNKNOWN
    return ""


def _stands(alert: Alert | None) -> bool:
    """True where the cause is bad, be it too shortly to be told."""
    return alert is not None and (alert.open or alert.bad_looks > 0)


def _worse(alert: Alert, hider: Alert) -> bool:
    """A warning hides nothing critical."""
    return RANK[alert.severity] > RANK[hider.severity]
