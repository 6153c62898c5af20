"""Sequences' positions: does the next number follow the last one that production gave out?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from pgdrill.baseline import DatabaseState, SequenceState
from pgdrill.baseline.sequences import read_sequences
from pgdrill.checks.base import Context, Outcome, check
from pgdrill.checks.comparison import each_database

LOGGED_AHEAD = 32  # SEQ_LOG_VALS: numbers that WAL holds ahead of what was given out
SHOWN = 20


@check(
    "sequence-positions",
    "rows",
    compares=True,
    passing=(
        "no sequence is behind where production's was, and none is further ahead than the 32"
        " numbers that WAL holds in advance and what was given out up to the restore point"
    ),
    hint=(
        "behind: numbers would be given out twice; the backup or its WAL is not of that instant:"
        " drill with an older one. Ahead: see who calls setval() or nextval() on the restored"
        " cluster"
    ),
    example="agents.public.invoice_number_seq: 1041, wanted >= 1360",
)
def sequence_positions(context: Context) -> Iterator[Outcome]:
    """Yield one answer for each sequence that is behind or far ahead, and one for all others."""
    context.settle_catalogs()

    def ask(connection: psycopg.Connection, name: str, state: DatabaseState) -> Iterator[Outcome]:
        now = read_sequences(connection)
        found = [
            outcome
            for sequence, before in state.sequences.items()
            if (outcome := compare(f"{name}.{sequence}", before, now.get(sequence)))
        ]
        yield from found[:SHOWN]
        if rest := found[SHOWN:]:
            yield Outcome(rest[0].status, name, len(rest), "0", "more sequences")
        for sequence in state.unread_sequences:
            yield Outcome(
                "skip",
                f"{name}.{sequence}",
                message=f"production's role may not read it: GRANT SELECT ON SEQUENCE {sequence}",
            )
        yield Outcome(
            "pass",
            name,
            len(state.sequences) - len(found),
            "not behind, not far ahead",
            "sequences",
        )

    yield from each_database(context, "sequences", ask, rows=True)


def compare(thing: str, before: SequenceState, now: SequenceState | None) -> Outcome | None:
    """Compare a sequence with production's; None if all is well.

    A sequence that is gone, or counts otherwise, is left to the catalogs' check.
    """
    if now is None or now.increment != before.increment:
        return None
    if now.filenode != before.filenode:  # RESTART gives a sequence a new file
        known = before.later is not None
        return Outcome(
            "fail" if known else "warn",
            thing,
            now.value,
            f"{before.value} or more",
            "restarted" if known else "restarted since",
        )
    forward = 1 if before.increment > 0 else -1
    later = before.value if before.later is None else before.later
    if before.cycles and later != before.value:
        return None  # it may have come round
    start = min(before.value * forward, later * forward)
    ahead = now.value * forward - max(before.value * forward, later * forward)
    if now.value * forward < start or (
        now.value == before.value == later and before.called and not now.called
    ):
        return Outcome(
            "fail",
            thing,
            now.value,
            f">= {start}" if forward > 0 else f"<= {start * forward}",
            "behind",
        )
    if before.later is not None and ahead > (LOGGED_AHEAD + before.cache) * abs(before.increment):
        return Outcome(
            "warn",
            thing,
            now.value,
            f"{later} and {LOGGED_AHEAD + before.cache} numbers",
            "further ahead than WAL holds",
        )
    return None
