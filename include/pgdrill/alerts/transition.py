"""What a look makes of the alerts of a cluster, and what has to be told: a function of its inputs.

An alert opens after so many bad looks and ends after so many good ones. It is told when it opens,
when it grows worse, once a day while it lasts, and when it is over; nothing but a good look ends
it. Whoever was told of the start is told of the end.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pgdrill.alerts.hiding import hidden
from pgdrill.alerts.looks import UNKNOWN, Look, Seen, by_cause, by_clock, shortened
from pgdrill.alerts.model import Alert, AlertState, Message
from pgdrill.alerts.policy import Policy
from pgdrill.alerts.telling import over, told

REMEMBERED = timedelta(days=7)  # what is over: for `pgdrill alert list`, and for merging


def transition(
    state: AlertState, look: Look, now: datetime, policy: Policy
) -> tuple[AlertState, list[Message]]:
    """Return the state after a look, and the messages that it gives rise to."""
    alerts = dict(state.alerts)
    heard: set[str] = set()
    ended: dict[str, Seen] = {}
    for cause, seen in by_cause(look.findings, policy):
        before = alerts.get(cause)
        if before is not None and before.last_look == look.name:
            continue
        heard.add(cause)
        alert = _stepped(before, seen, look, now, cause)
        if alert is not None:
            alerts[cause] = alert
            if before is not None and before.open and not alert.open:
                ended[cause] = seen
        else:
            alerts.pop(cause, None)
    alerts = hidden(alerts, policy, heard=frozenset(heard))
    messages = []
    for cause, alert in alerts.items():
        if cause in ended:
            after, message = over(alert, look.cluster, cause, now, not_asked=ended[cause].not_asked)
        else:
            after, message = told(alert, look.cluster, cause, state.silences, now, policy)
        alerts[cause] = after
        if message:
            messages.append(message)
    kept = {cause: one for cause, one in alerts.items() if one.open or not _forgotten(one, now)}
    silences = tuple(one for one in state.silences if now < one.until + REMEMBERED)
    return state.model_copy(update={"alerts": kept, "silences": silences}), messages


def _stepped(
    before: Alert | None, seen: Seen, look: Look, now: datetime, cause: str
) -> Alert | None:
    """Return the alert after one look; None where there is nothing to remember."""
    if before is None and not seen.bad:
        return None
    alert = before or Alert(heard_at=now, changed_at=now)
    heard = {"heard_at": now, "last_look": look.name}
    if seen.bad:
        return _after_bad(alert, seen, look, now, cause).model_copy(update=heard)
    if alert.open:
        return _after_good(alert, seen, now).model_copy(update=heard)
    if seen.good and alert.until is None:  # it was bad, and never for long enough
        return None
    return alert.model_copy(update={**heard, "bad_looks": 0 if seen.good else alert.bad_looks})


def _after_bad(alert: Alert, seen: Seen, look: Look, now: datetime, cause: str) -> Alert:
    first = not alert.open and not alert.bad_looks
    looks = min(alert.bad_looks + 1, max(seen.bad_looks, 1))
    changes: dict[str, object] = {
        "bad_looks": looks,
        "good_looks": 0,
        "severity": seen.severity,
        "findings": shortened(seen.bad),
        "count": len(seen.bad),
        "links": look.links.get(cause.removesuffix(UNKNOWN), ()),
    }
    if first:
        since = min(by_clock(one, now) for one in seen.bad)
        changes |= {"since": since, "until": None, "told": None, "told_at": None, "told_to": ()}
        changes |= {"threads": {}, "messages": 0, "acknowledged": None, "changed_at": now}
    if not alert.open and looks >= seen.bad_looks:
        changes |= {"open": True, "changed_at": now}
    return alert.model_copy(update=changes)


def _after_good(alert: Alert, seen: Seen, now: datetime) -> Alert:
    looks = alert.good_looks + 1 if seen.clears else 0
    if looks < max(seen.good_looks, 1):
        return alert.model_copy(update={"good_looks": looks})
    return alert.model_copy(
        update={"open": False, "until": now, "bad_looks": 0, "good_looks": 0, "changed_at": now}
    )


def _forgotten(alert: Alert, now: datetime) -> bool:
    return not alert.open and now > (alert.until or alert.heard_at) + REMEMBERED
