"""Tables whose rows were not compared.

With too few of their rows a drill is never green, though nobody can say that the others are lost.
"""

from __future__ import annotations

from pgdrill.baseline import TableState
from pgdrill.checks.base import Outcome
from pgdrill.postgres.row_digests import Content

# A table whose rows could not be read has lost some if less than this share came back of those that
# the server had counted a moment before.
FEWEST_OF_ESTIMATED = 0.8
HINT = (
    "drill again: it is read if nobody takes its rows away within the same second; compare the"
    " table with production by key"
)
UNKNOWN = "what was written since the baseline is not known (altered, rewritten, or counters reset)"
NOT_COMPARED = "its rows were not compared"


def missed(table: str, state: TableState, rows: int) -> Outcome | None:
    """Return the outcome for a table whose rows production took away before they could be read.

    About how many there were is all that is known. None if the table was read.
    """
    if not state.missed:
        return None
    deleted = state.since.deleted if state.since else 0
    words = (
        f"{state.missed}: {NOT_COMPARED}"
        f"{'' if state.estimated_rows else ', and nothing tells how many there were'}"
    )
    enough = rows >= state.estimated_rows * FEWEST_OF_ESTIMATED - deleted
    return Outcome(
        "warn" if enough else "skip",
        table,
        rows,
        f"about {state.estimated_rows} rows",
        words,
        "" if enough else HINT,
    )


def unknown_changes(table: str, state: TableState, found: Content) -> Outcome:
    """Return the outcome for a table of which it is not known what was written.

    Its counters still tell how many rows there may be, if nobody truncated it before the restore
    point.
    """
    words = f"{UNKNOWN}: {NOT_COMPARED}"
    if state.content is None or state.since is None:
        return Outcome("warn", table, None if state.content is None else found.rows, "", words)
    fewest = max(0, state.content.rows - state.since.deleted)
    most = state.content.rows + state.since.inserted
    known = fewest <= found.rows <= most
    return Outcome(
        "warn" if known else "skip",
        table,
        found.rows,
        f"{fewest} to {most} rows",
        words,
        "" if known else HINT,
    )


def large_and_empty(table: str, state: TableState, found: Content) -> Outcome | None:
    """Return the outcome for an empty table that was too large to be read, and not sampled.

    At least a row has to be there. Where nothing tells what was written since, it may have been
    emptied since: that is said, and no more. None if the table is well, or is judged otherwise.
    """
    if found.rows or state.content is not None or state.missed or not state.estimated_rows:
        return None
    wanted = f"about {state.estimated_rows} rows"
    if state.since is None:
        return Outcome("warn", table, 0, wanted, f"it is empty; {UNKNOWN}")
    if state.since.deleted >= state.estimated_rows:
        return None
    return Outcome(
        "skip",
        table,
        0,
        wanted,
        "it is empty, and the rows that production deleted of it do not explain that",
        HINT,
    )
