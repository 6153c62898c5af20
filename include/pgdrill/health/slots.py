"""Do replication slots still have their WAL, and do they leave room for it?"""

from __future__ import annotations

from collections.abc import Iterator

from pgdrill.config import Health
from pgdrill.health.answer import Answer
from pgdrill.health.check import health_check
from pgdrill.health.facts import Slot, read_slots
from pgdrill.health.subject import HealthSubject
from pgdrill.reports.terminal import size

NEAR = 0.25  # of what a slot may hold, left: the consumer is about to lose its place
HEAP_BYTES = Health().slot_held_bytes


@health_check(
    "slots",
    "server",
    passing="every replication slot has its WAL, and none that nobody reads holds it back",
    hint=(
        "start what reads the slot; if nobody does any more, `SELECT pg_drop_replication_slot('…')`"
    ),
    example="standby: lost; its standby has to be made anew",
    cost="each look",
    needs=("server",),
)
def slots(subject: HealthSubject) -> Iterator[Answer]:
    """Judge each slot by its own words, not by whether it is active alone."""
    found = read_slots(subject.server)
    for one in found:
        yield judge_slot(one, subject.access.cluster.health.slot_held_bytes)
    if not found:
        yield Answer("ok", "no replication slot")


def judge_slot(slot: Slot, most_bytes: int = HEAP_BYTES) -> Answer:
    """Judge a slot by ``wal_status`` and ``safe_wal_size``; being inactive alone is no fault."""
    held = size(slot.held_bytes)
    active = "active" if slot.active else "inactive"
    promise = "its WAL on the primary"
    if slot.wal_status in ("lost", "unreserved"):
        gone = slot.wal_status == "lost"
        what = "lost: its reader has to be made anew" if gone else "unreserved: about to be lost"
        return Answer(
            "critical",
            f"{what} ({active})",
            slot.slot_name,
            promise,
            reason=f"slot-{slot.wal_status}",
        )
    safe = slot.safe_wal_size
    if safe is not None:
        near = safe < NEAR * (safe + (slot.held_bytes or 0))
        return Answer(
            "warning" if near else "ok",
            f"{size(max(0, safe))} until it is lost, {held} held ({active})",
            slot.slot_name,
            promise,
            float(safe),
            unit="bytes",
            reason="slot-near-limit" if near else "",
        )
    heap = not slot.active and (slot.held_bytes or 0) > most_bytes
    return Answer(
        "warning" if heap else "ok",
        f"{held} held, without a limit ({active})",
        slot.slot_name,
        f"less than {size(most_bytes)} held by a slot that nobody reads",
        None if slot.held_bytes is None else float(slot.held_bytes),
        float(most_bytes),
        "bytes",
        hint="" if not heap else "start its reader or drop it; set max_slot_wal_keep_size",
        reason="slot-holds" if heap else "",
    )
