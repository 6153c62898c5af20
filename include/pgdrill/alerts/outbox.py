"""Messages on their way: kept with the alerts until each channel has them.

Who sends a message claims it first, so that two watchers do not both send it. A claim that runs out
was cut: the message is sent again, under the same id. A channel that fails is tried again later,
and the message goes by the next channel meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgdrill.alerts.model import (
    MOST,
    AlertState,
    ChannelRecord,
    Delivery,
    Message,
    Outgoing,
    delivery_of,
)

CLAIM = timedelta(seconds=120)  # longer than all tries of one channel together
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(minutes=15)
GIVEN_UP = timedelta(days=1)
DELIVERED = 200


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this process has to make."""

    message: Message
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Result:
    """How a delivery went. ``failure`` empty: sent.

    ``parts``: the channel's targets that have it. ``thread``: what the channel calls the message,
    for those that follow. ``wait_seconds``: how long the channel asked to be left alone.
    """

    message: Message
    channel: str
    failure: str = ""
    parts: tuple[str, ...] = ()
    thread: str = ""
    wait_seconds: float = 0


def with_messages(state: AlertState, messages: Iterable[Message]) -> AlertState:
    """Put messages on their way to the channels that they are for.

    An end takes the place of what a channel has not got yet of the same alert.
    """
    outbox = list(state.outbox)
    for message in messages:
        if message.kind == "end":
            outbox = [_overtaken(one, message) for one in outbox]
        going = tuple(Delivery(channel=name) for name in message.to)
        outbox.append(Outgoing(message=message, deliveries=going))
    return state.model_copy(update={"outbox": _settled(outbox)[-MOST:]})


def claim(
    state: AlertState, names: Collection[str], sender: str, now: datetime
) -> tuple[AlertState, list[Claimed]]:
    """Claim every delivery that is due, one for each alert and channel, in their order.

    Deliveries to channels that are not configured any more, or that failed for a day, are let go.
    """
    claimed: list[Claimed] = []
    busy: set[tuple[str, str]] = set()
    outbox, lost = [], dict(state.channels)
    for one in state.outbox:
        deliveries = []
        for delivery in one.deliveries:
            place = (one.message.key, delivery.channel)
            if delivery.done or place in busy:
                deliveries.append(delivery)
                continue
            if delivery.channel not in names or _too_old(delivery, one.message, now):
                lost[delivery.channel] = _counted(lost, delivery.channel, lost=1)
                deliveries.append(delivery.model_copy(update={"done": True}))
                continue
            busy.add(place)
            if _due(delivery, now):
                delivery = delivery.model_copy(  # noqa: PLW2901 - it goes on as claimed
                    update={"claimed_by": sender, "claimed_until": now + CLAIM}
                )
                claimed.append(Claimed(one.message, delivery))
            deliveries.append(delivery)
        outbox.append(one.model_copy(update={"deliveries": tuple(deliveries)}))
    if not claimed and lost == state.channels:
        return state, []
    return state.model_copy(update={"outbox": _settled(outbox), "channels": lost}), claimed


def due(state: AlertState, now: datetime) -> bool:
    """Return whether anything waits to be sent now."""
    return any(
        _due(delivery, now)
        for one in state.outbox
        for delivery in one.deliveries
        if not delivery.done
    )


def finish(
    state: AlertState, results: Sequence[Result], order: Sequence[str], now: datetime
) -> AlertState:
    """Note how deliveries went. What failed goes by the next channel of the configured order."""
    for result in results:
        noted = _noted_failed if result.failure else _noted_sent
        state = noted(state, result, order, now)
    return state


def _noted_sent(
    state: AlertState, result: Result, order: Sequence[str], now: datetime
) -> AlertState:
    state = _changed(
        state,
        result,
        lambda one: one.model_copy(update={"done": True, "parts": result.parts[:MOST]}),
    )
    records = {**state.channels, result.channel: _counted(state.channels, result.channel, sent=1)}
    records[result.channel] = records[result.channel].model_copy(update={"sent_at": now})
    delivered = (*state.delivered, delivery_of(result.message, result.channel))[-DELIVERED:]
    state = state.model_copy(update={"channels": records, "delivered": delivered})
    alert = state.alerts.get(result.message.cause)
    if not result.thread or alert is None or alert.since != result.message.since:
        return state
    threads = {result.channel: result.thread, **alert.threads}
    alert = alert.model_copy(update={"threads": threads, "changed_at": now})
    return state.model_copy(update={"alerts": {**state.alerts, result.message.cause: alert}})


def _noted_failed(
    state: AlertState, result: Result, order: Sequence[str], now: datetime
) -> AlertState:
    def later(delivery: Delivery) -> Delivery:
        wait = min(FIRST_WAIT * 2 ** min(delivery.tries, 10), LONGEST_WAIT)
        wait = max(wait, timedelta(seconds=min(result.wait_seconds, GIVEN_UP.total_seconds())))
        changes = {"tries": delivery.tries + 1, "next_at": now + wait, "claimed_until": None}
        parts = tuple(dict.fromkeys((*delivery.parts, *result.parts)))[:MOST]
        return delivery.model_copy(update={**changes, "claimed_by": "", "parts": parts})

    state = _changed(state, result, later)
    failed = _counted(state.channels, result.channel, failed=1)
    failed = failed.model_copy(update={"failed_at": now, "failure": result.failure[:500]})
    state = state.model_copy(update={"channels": {**state.channels, result.channel: failed}})
    return _by_another(state, result, order)


def _by_another(state: AlertState, result: Result, order: Sequence[str]) -> AlertState:
    """Add a delivery by the next channel that does not get the message anyway."""
    message = result.message
    one = next((one for one in state.outbox if one.message.id == message.id), None)
    if one is None or any(each.instead_of == result.channel for each in one.deliveries):
        return state
    known = {each.channel for each in one.deliveries}
    place = order.index(result.channel) if result.channel in order else 0
    others = [name for name in (*order[place + 1 :], *order[:place]) if name not in known]
    told_anyway = message.kind == "end" and len(known) > 1
    if not others or told_anyway or message.kind == "acknowledged":
        return state
    instead = Delivery(channel=others[0], instead_of=result.channel, trouble=result.failure[:500])
    outbox = tuple(
        each.model_copy(update={"deliveries": (*each.deliveries, instead)}) if each is one else each
        for each in state.outbox
    )
    state = state.model_copy(update={"outbox": outbox})
    alert = state.alerts.get(message.cause)
    if alert is None or alert.since != message.since:
        return state
    heard = tuple(dict.fromkeys((*alert.told_to, others[0])))
    alert = alert.model_copy(update={"told_to": heard})
    return state.model_copy(update={"alerts": {**state.alerts, message.cause: alert}})


def _changed(
    state: AlertState, result: Result, change: Callable[[Delivery], Delivery]
) -> AlertState:
    outbox = [
        one.model_copy(
            update={
                "deliveries": tuple(
                    change(each) if each.channel == result.channel and not each.done else each
                    for each in one.deliveries
                )
            }
        )
        if one.message.id == result.message.id
        else one
        for one in state.outbox
    ]
    return state.model_copy(update={"outbox": _settled(outbox)})


def _overtaken(one: Outgoing, end: Message) -> Outgoing:
    """Let go of what a channel has not got yet of an alert that is over; the end says it all."""
    if one.message.key != end.key:
        return one
    return one.model_copy(
        update={
            "deliveries": tuple(
                each.model_copy(update={"done": True})
                if each.tries and not each.claimed_until and each.channel in end.to
                else each
                for each in one.deliveries
            )
        }
    )


def _too_old(delivery: Delivery, message: Message, now: datetime) -> bool:
    return delivery.tries > 0 and now - message.at > GIVEN_UP


def _settled(outbox: Iterable[Outgoing]) -> tuple[Outgoing, ...]:
    return tuple(one for one in outbox if not all(each.done for each in one.deliveries))


def _due(delivery: Delivery, now: datetime) -> bool:
    if delivery.claimed_until is not None:
        return now >= delivery.claimed_until or delivery.claimed_until > now + 2 * CLAIM
    return delivery.next_at is None or now >= delivery.next_at


def _counted(records: dict[str, ChannelRecord], name: str, **more: int) -> ChannelRecord:
    record = records.get(name, ChannelRecord())
    return record.model_copy(
        update={field: getattr(record, field) + count for field, count in more.items()}
    )
