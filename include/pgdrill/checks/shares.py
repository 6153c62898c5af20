"""The share of the rows that was compared, and how exactly.

Every report tells it, so that nobody takes a sample for the whole.
"""

from __future__ import annotations

from enum import Enum

from pgdrill.baseline import Changes, TableState
from pgdrill.checks.outcome import Outcome
from pgdrill.postgres.row_digests import Content
from pgdrill.reports.model import Share


class Fate(Enum):
    """The fate of a part of a table: as in one of both snapshots, possibly so, or surely not."""

    SAME = "same"
    OPEN = "open"
    WRONG = "wrong"


def agrees(state: TableState, found: Content, *, moved: bool) -> bool:
    """Return True if every older row is what it was, and where it was.

    ``moved``: wherever it is now.
    """
    recorded = state.content
    return (
        recorded is not None
        and found.stable_rows == recorded.stable_rows
        and (found.loose == recorded.loose if moved else found.digest == recorded.digest)
    )


def bounds_of(state: TableState) -> Changes | None:
    """Return what was written, where that bounds the number of rows.

    It does so for an altered table, too, as long as the table has its file.
    """
    return state.changes or (None if state.refiled else state.since)


def fates_of(state: TableState, found: Content, *, moved: bool) -> list[Fate]:
    """Return the fate of each part of a table.

    A part has at least the rows of the second snapshot, and at most those of the first: only
    deleting goes on meanwhile.
    """
    if state.content is None or len(found.parts) != len(state.content.parts):
        return [Fate.WRONG]
    column = 2 if moved else 1
    later = (state.later or state.content).parts
    return [
        _fate((b[0], b[column]), (a[0], a[column]), (n[0], n[column]))
        for b, a, n in zip(state.content.parts, later, found.parts, strict=True)
    ]


def _fate(before: tuple[int, int], after: tuple[int, int], now: tuple[int, int]) -> Fate:
    if now in (before, after):
        return Fate.SAME
    return Fate.OPEN if after[0] < now[0] < before[0] else Fate.WRONG


def share_of(state: TableState, found: Content | None, outcome: Outcome, *, moved: bool) -> Share:
    """Return how many rows of a table were compared, and how.

    A row newer than the first snapshot is counted and no more, if not both snapshots saw it.
    """
    if found is None:
        return Share(exact=state.estimated_rows, exact_bytes=state.bytes)
    if state.content is None:
        if outcome.status in ("warn", "skip"):
            return Share.nothing(max(state.estimated_rows, found.rows), state.bytes)
        return Share.sampled_of(state.estimated_rows, state.bytes)
    if outcome.status in ("warn", "skip"):
        return (
            Share(counted=found.rows, counted_bytes=state.bytes)
            if bounds_of(state)
            else Share.nothing(found.rows, state.bytes)
        )
    same = found.stable_rows if agrees(state, found, moved=moved) else 0
    if not same and state.bracketed:
        fates = fates_of(state, found, moved=moved)
        same = sum(
            part[0] for part, fate in zip(found.parts, fates, strict=False) if fate is not Fate.OPEN
        )
    sampled = found.stable_rows - same if state.sample else 0
    exact = min(same + (0 if moved else len(state.newer)), found.rows - sampled)
    return Share.of(
        found.rows, state.bytes, exact=exact, sampled=sampled, counted=found.rows - exact - sampled
    )
