"""Vectors that are missing, zero, not finite or of another size: damage, or production's own state?

A row version never changes. One that is older than the snapshot and has no vector now had none
then. So more such rows than the snapshot counted are damage, whatever was written since and however
long ago it was. Any other row without a vector is what the application left there: it is told, and
is no fault of the backup.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from pgdrill.baseline import Changes
from pgdrill.checks.base import Outcome
from pgdrill.checks.columns import Look
from pgdrill.vectors.model import Contents
from pgdrill.vectors.scan import Reading

NO_DIRECTION = "zeros have no direction: no cosine search finds them"


def odd_values(look: Look, reading: Reading, before: Contents | None) -> Iterator[Outcome]:
    """Yield an answer for each kind of value that is no whole vector of the column's size."""
    if reading.broken:
        yield Outcome(
            "fail",
            look.name,
            reading.broken,
            "0 vectors with NaN or infinity",
            f"first at {reading.first_broken}",
        )
    yield from _sizes(look, reading, before)
    yield from _nulls(look, reading, before)
    yield from _zeros(look, reading, before)


def _sizes(look: Look, reading: Reading, before: Contents | None) -> Iterator[Outcome]:
    """Yield an answer if vectors have another number of dimensions than they should.

    A column without a number of dimensions may mix them on purpose: then production does, too.
    """
    fixed = look.column.dimensions
    known = (
        {fixed}
        if fixed
        else set(before.sizes)
        if before and before.sizes
        else {*list(reading.sizes)[:1]}
    )
    strange = {size: rows for size, rows in reading.sizes.items() if size not in known}
    if not strange or (before and not before.sizes and not fixed and len(reading.sizes) == 1):
        return
    found = (
        f"{', '.join(f'{count} of {size}' for size, count in sorted(strange.items()))} dimensions"
    )
    wanted = f"{', '.join(map(str, sorted(known)))} dimensions"
    if fixed:
        yield Outcome("fail", look.name, found, wanted)
    elif before is None:
        yield Outcome(
            "warn", look.name, found, wanted, f"the column fixes none, and {_not_known(look)}"
        )
    elif (changes := look.changes()) is None:
        yield Outcome(
            "warn", look.name, found, wanted, "what was written since the baseline is not known"
        )
    else:
        written = changes.inserted + changes.updated
        yield Outcome(
            "fail" if sum(strange.values()) > written else "warn",
            look.name,
            found,
            wanted,
            f"{written} rows were inserted or updated since",
        )


def _nulls(look: Look, reading: Reading, before: Contents | None) -> Iterator[Outcome]:
    if not reading.nulls:
        return
    if _never_null(look):
        yield Outcome("fail", look.name, reading.nulls, "0 NULL vectors", "the column is NOT NULL")
    elif before and reading.old_nulls > before.nulls:
        yield Outcome(
            "fail",
            look.name,
            reading.old_nulls,
            f"{before.nulls} NULL vectors",
            "rows older than the baseline had a vector then",
        )
    elif before and (changes := _few_writes(look, reading.nulls - before.nulls)):
        written = changes.inserted + changes.updated
        yield Outcome(
            "fail",
            look.name,
            reading.nulls,
            f"{before.nulls} NULL vectors",
            f"and up to {written} that were written since",
        )
    elif not look.column.wanted.allow_null:
        yield Outcome(
            "warn",
            look.name,
            reading.nulls,
            "0 NULL vectors",
            f"rows that are not embedded: no search finds them; {_then(look, before, 'nulls')}",
        )


def _zeros(look: Look, reading: Reading, before: Contents | None) -> Iterator[Outcome]:
    if not reading.zeros:
        return
    first = f"first at {reading.first_zero}; {NO_DIRECTION}"
    if before and reading.old_zeros > before.zeros:
        yield Outcome(
            "fail",
            look.name,
            reading.old_zeros,
            f"{before.zeros} vectors of zeros",
            f"{first}; rows older than the baseline were none then",
        )
    elif before and _few_writes(look, reading.zeros - before.zeros):
        yield Outcome(
            "fail",
            look.name,
            reading.zeros,
            f"{before.zeros} vectors of zeros",
            f"{first}; more than were written since",
        )
    else:
        yield Outcome(
            "warn",
            look.name,
            reading.zeros,
            "0 vectors of zeros",
            f"{first}; {_then(look, before, 'zeros')}",
        )


def _few_writes(look: Look, more: int) -> Changes | None:
    """Return what was written since the baseline, if it is too little to explain so many more.

    None where it is enough, or not known.
    """
    if more <= 0:
        return None
    changes = look.changes()
    return changes if changes and more > changes.inserted + changes.updated else None


def _never_null(look: Look) -> bool:
    with look.context.system(look.column.database) as connection:
        row = connection.execute(
            sql.SQL(
                "SELECT attnotnull FROM pg_attribute WHERE attrelid = {} AND attname = {}"
            ).format(sql.Literal(look.column.oid), sql.Literal(look.column.column))
        ).fetchone()
    return bool(row and row[0])


def _then(look: Look, before: Contents | None, what: str) -> str:
    """Return words for how many production had."""
    if before is None:
        return _not_known(look)
    count = getattr(before, what)
    return (
        f"production had {count} when the baseline was taken, and what was written since is"
        " allowed for"
    )


def _not_known(look: Look) -> str:
    return (
        "how many production had at that instant is not"
        f" recorded{' (the column is new)' if look.database else ''}"
    )
