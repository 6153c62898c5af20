"""Comparing tables that no query was made of on production by the hashes of their rows.

A query would have run somebody's function there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import psycopg

from pgdrill.baseline import Changes, TableState
from pgdrill.baseline.copied import Copied, NotCopied, read_copied
from pgdrill.checks.base import Outcome, not_asked
from pgdrill.checks.unread_rows import missed
from pgdrill.postgres.row_digests import Horizon
from pgdrill.reports.model import Share


def answer(
    connection: psycopg.Connection,
    thing: str,
    schema: str,
    table: str,
    line: Horizon,
    state: TableState,
) -> tuple[Outcome, Share]:
    """Return the outcome for one table, and how much of it could be compared."""
    nothing = Share.nothing(state.estimated_rows, state.bytes)
    if state.copied is None and not state.missed:
        return not_asked(thing, f"not read on production: {state.code}"), nothing
    try:
        found = read_copied(connection, schema, table, line.key, like=state.copied, most=0)
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.QueryCanceled,
        psycopg.errors.AdminShutdown,
        NotCopied,
    ) as error:
        return Outcome(
            "skip", thing, message=f"could not be read: {str(error).strip()[:300]}"
        ), nothing
    except psycopg.Error as error:
        return Outcome(
            "fail",
            thing,
            type(error).__name__,
            "readable to the end",
            (error.diag.message_primary or "")[:300],
        ), nothing
    if state.copied is None:
        return _counted(thing, state, found), nothing
    made = compare(thing, state, state.copied, found)
    hidden = (
        f"; columns not shown by COPY: {', '.join(state.copied.hidden)}"
        if state.copied.hidden
        else ""
    )
    why = f"rows without their places, for on production {state.code}{hidden}"
    return replace(made, message="; ".join(filter(None, (made.message, why)))), _share(
        state, state.copied, found, made
    )


def _counted(thing: str, state: TableState, found: Copied | None) -> Outcome:
    """Return the outcome for a table whose rows were gone before they could be copied.

    Production had taken them away.
    """
    if found is None:
        return Outcome(
            "pass" if state.dropped else "fail",
            thing,
            "no such table",
            f"about {state.estimated_rows} rows",
        )
    outcome = missed(thing, state, found.rows)
    assert outcome is not None  # noqa: S101 - it was missed
    return replace(outcome, message=f"{outcome.message}; {state.code}")


def _share(state: TableState, before: Copied, found: Copied | None, made: Outcome) -> Share:
    if (
        found is None
        or made.status == "fail"
        or (found.rows, found.digest) == (before.rows, before.digest)
    ):
        return Share(exact=before.rows, exact_bytes=state.bytes)
    if made.status == "warn":
        return Share.nothing(found.rows, state.bytes)
    return (
        Share.sampled_of(found.rows, state.bytes)
        if before.hashes
        else Share(counted=found.rows, counted_bytes=state.bytes)
    )


def compare(thing: str, state: TableState, before: Copied, found: Copied | None) -> Outcome:
    """Compare a restored table with the hashes of its rows.

    What was written since bounds how many rows may have come or gone.
    """
    if found is None:
        return Outcome(
            "pass" if state.dropped else "fail", thing, "no such table", f"about {before.rows} rows"
        )
    if (found.rows, found.digest) == (before.rows, before.digest):
        return Outcome("pass", thing, found.rows, "as recorded")
    later = state.copied_later or (before if state.bracketed else None)
    if later and (lost := _kept(before, later) - Counter(found.hashes)):
        return Outcome(
            "fail",
            thing,
            lost.total(),
            "0 lost or changed rows",
            "that production had right before the restore point and right after",
        )
    if state.changes is None:
        return Outcome(
            "warn",
            thing,
            found.rows,
            f"{before.rows} rows",
            "what was written since the baseline is not known",
        )
    return _bounded(thing, state.changes, before, found)


def _kept(before: Copied, later: Copied) -> Counter[int]:
    """Return the rows that both snapshots saw."""
    return Counter(before.hashes) & Counter(later.hashes)


def _bounded(thing: str, changes: Changes, before: Copied, found: Copied) -> Outcome:
    fewest, most = max(0, before.rows - changes.deleted), before.rows + changes.inserted
    threshold = f"{fewest} to {most} rows" if fewest < most else f"{most} rows"
    if not fewest <= found.rows <= most:
        return Outcome("fail", thing, found.rows, threshold)
    if not (changes.inserted or changes.rewritten_rows):
        return Outcome("fail", thing, "other content", "the recorded digest", "nobody wrote to it")
    gone = (Counter(before.hashes) - Counter(found.hashes)).total()
    come = (Counter(found.hashes) - Counter(before.hashes)).total()
    if gone > changes.rewritten_rows:
        return Outcome(
            "fail",
            thing,
            gone,
            f"0 to {changes.rewritten_rows} rows gone",
            "more than were updated or deleted",
        )
    if come > changes.inserted + changes.updated:
        return Outcome(
            "fail",
            thing,
            come,
            f"0 to {changes.inserted + changes.updated} new rows",
            "more than were inserted or updated",
        )
    return Outcome("pass", thing, found.rows, threshold, f"{len(before.hashes)} of them by hash")
