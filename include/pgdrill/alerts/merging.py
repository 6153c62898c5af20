"""Two memories of the same alerts, made while the store did not answer, as one."""

from __future__ import annotations

from pgdrill.alerts.model import AlertState, ChannelRecord, Outgoing, Silence, delivery_of
from pgdrill.alerts.outbox import DELIVERED


def merged(one: AlertState, other: AlertState) -> AlertState:
    """Return what both remember: of each alert the newer, of messages and silences all.

    A delivery that is done in one is done; a silence that was ended in one is over.
    """
    alerts = dict(one.alerts)
    for cause, alert in other.alerts.items():
        if cause not in alerts or alert.changed_at > alerts[cause].changed_at:
            alerts[cause] = alert
    silences: dict[str, Silence] = {silence.id: silence for silence in one.silences}
    for silence in other.silences:
        known = silences.get(silence.id, silence)
        silences[silence.id] = min(known, silence, key=lambda each: each.until)
    outbox: dict[str, Outgoing] = {going.message.id: going for going in one.outbox}
    for going in other.outbox:
        known_going = outbox.get(going.message.id)
        outbox[going.message.id] = _both(known_going, going) if known_going else going
    delivered = tuple(dict.fromkeys((*one.delivered, *other.delivered)))
    going_on = [_less(each, frozenset(delivered)) for each in outbox.values()]
    channels = dict(one.channels)
    for name, record in other.channels.items():
        channels[name] = max(channels.get(name, ChannelRecord()), record, key=_much)
    return AlertState(
        alerts=alerts,
        silences=tuple(silences.values()),
        outbox=tuple(
            each
            for each in sorted(going_on, key=lambda each: each.message.at)
            if not all(delivery.done for delivery in each.deliveries)
        ),
        delivered=delivered[-DELIVERED:],
        channels=channels,
    )


def _both(one: Outgoing, other: Outgoing) -> Outgoing:
    deliveries = {each.channel: each for each in one.deliveries}
    for each in other.deliveries:
        if each.channel not in deliveries or each.done:
            deliveries[each.channel] = each
    return one.model_copy(update={"deliveries": tuple(deliveries.values())})


def _less(going: Outgoing, delivered: frozenset[str]) -> Outgoing:
    return going.model_copy(
        update={
            "deliveries": tuple(
                each.model_copy(update={"done": True})
                if delivery_of(going.message, each.channel) in delivered
                else each
                for each in going.deliveries
            )
        }
    )


def _much(record: ChannelRecord) -> int:
    return record.sent + record.failed + record.lost
