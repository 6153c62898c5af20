"""Which message an alert is due, and the alert once it is told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from pgdrill.alerts.looks import UNKNOWN
from pgdrill.alerts.model import RANK, Acknowledgement, Alert, Kind, Message, Silence, key_of
from pgdrill.alerts.policy import Policy

AHEAD = timedelta(minutes=1)  # a message from so far in the future: the clock was set back


def told(
    alert: Alert,
    cluster: str,
    cause: str,
    silences: Iterable[Silence],
    now: datetime,
    policy: Policy,
) -> tuple[Alert, Message | None]:
    """Tell of an alert that lasts, if that is due and somebody wants to hear of it."""
    if not alert.open or alert.hidden_by or any(one.holds(cause, now) for one in silences):
        return alert, None
    if alert.told is None and alert.good_looks:  # it may be over before anybody had to hear of it
        return alert, None
    if alert.told_at is not None and alert.told_at > now + AHEAD:
        alert = alert.model_copy(update={"told_at": now, "changed_at": now})
    kind, to = _due(alert, now, policy), policy.routes.get(alert.severity, ())
    if kind is None or not to:
        return alert, None
    if kind == "worse":
        alert = alert.model_copy(update={"acknowledged": None})
    message = _message(alert, kind, cluster, cause, now, to)
    hides = tuple(sorted(policy.hides.get(cause.removesuffix(UNKNOWN), ())))
    message = message.model_copy(update={"hides": hides})
    worst = alert.severity
    if alert.told is not None and RANK[alert.told] > RANK[worst]:
        worst = alert.told
    after = {"told": worst, "told_at": now, "told_to": tuple(dict.fromkeys((*alert.told_to, *to)))}
    return _counted(alert, now, after), message


def over(
    alert: Alert, cluster: str, cause: str, now: datetime, *, not_asked: bool = False
) -> tuple[Alert, Message | None]:
    """Tell those who were told of its start that it is over."""
    if alert.told is None:
        return alert, None
    message = _message(alert, "end", cluster, cause, now, alert.told_to)
    return _counted(alert, now, {}), message.model_copy(update={"not_asked": not_asked})


def acknowledge(
    alert: Alert, cluster: str, cause: str, acknowledgement: Acknowledgement
) -> tuple[Alert, Message]:
    """Note who is at it, and tell those who were told of its start."""
    now = acknowledgement.at
    alert = alert.model_copy(update={"acknowledged": acknowledgement})
    message = _message(alert, "acknowledged", cluster, cause, now, alert.told_to)
    return _counted(alert, now, {}), message


def _due(alert: Alert, now: datetime, policy: Policy) -> Kind | None:
    if alert.told is None or alert.told_at is None:
        return "start"
    if RANK[alert.severity] > RANK[alert.told]:
        return "worse"
    if alert.acknowledged is None and now - alert.told_at >= policy.repeat:
        return "still"
    return None


def _message(
    alert: Alert, kind: Kind, cluster: str, cause: str, now: datetime, to: Collection[str]
) -> Message:
    since = alert.since or now
    key = key_of(cluster, cause)
    return Message(
        id=f"{key}@{since:%Y%m%dT%H%M%S.%fZ}.{alert.messages + 1}",
        key=key,
        cluster=cluster,
        cause=cause,
        kind=kind,
        severity=alert.severity,
        since=since,
        at=now,
        findings=alert.findings,
        count=alert.count,
        acknowledged=alert.acknowledged,
        links=alert.links,
        to=tuple(to),
    )


def _counted(alert: Alert, now: datetime, changes: Mapping[str, object]) -> Alert:
    counted = {"messages": alert.messages + 1, "changed_at": now}
    return alert.model_copy(update={**counted, **changes})
