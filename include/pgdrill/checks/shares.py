"""Which share of the rows was compared, and how exactly: told in every report, so that nobody takes
a sample for the whole.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from pgdrill.baseline import Changes, TableState
from pgdrill.checks.base import Outcome
from pgdrill.postgres.row_digests import Content
from pgdrill.reports.model import Compared, Share

KEY = "compared"


class Fate(Enum):
    """What became of a part of a table: as in one of both snapshots, possibly so, or surely not."""

    SAME = "same"
    OPEN = "open"
    WRONG = "wrong"


def compared_in(memo: dict[str, Any]) -> Compared:
    """What the checks have compared until now."""
    found: Compared = memo.setdefault(KEY, Compared())
    return found


def agrees(state: TableState, found: Content, *, moved: bool) -> bool:
    """Every older row is what it was, and where it was (``moved``: wherever that is now)."""
    recorded = state.content
    return (
        recorded is not None
        and found.stable_rows == recorded.stable_rows
        and (found.loose == recorded.loose if moved else found.digest == recorded.digest)
    )


def bounds_of(state: TableState) -> Changes | None:
    """What was written, where that bounds the number of rows: altered or not, as long as it has its
    file.
    """
    return state.changes or (None if state.refiled else state.since)


def fates_of(state: TableState, found: Content, *, moved: bool) -> list[Fate]:
    """Part by part. A part has the rows of the second snapshot, and at most those of the first:
    only deleting goes on meanwhile.
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
    """How the rows of a table were compared.

    A row newer than the first snapshot is counted and no more, if not both saw it.
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
