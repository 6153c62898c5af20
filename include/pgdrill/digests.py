"""Digests of table content, taken alike on production and on the restored cluster.

A physical restore keeps every row version where it was, with the transaction number that wrote it. *Stable* rows are
those written by transactions that had ended before the snapshot began: they must come back to the bit, unless somebody
updated or deleted them before the restore point, which the server's own counters bound.

Two measures, both keyed so that a guessed row cannot be looked up: a digest over all stable rows that does not depend
on their order, and a sample of single rows by their place, which still tells damage from change in a busy table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict

SAMPLE_ROWS = 20_000
NO_SAMPLING = sql.SQL("")
FALSE_ALARM = 1e-6  # chance that change alone looks like damage, for one table


class Horizon(BaseModel):
    """What tells stable rows from newer ones.

    Transactions below ``oldest_xid`` had ended when the snapshot was taken; ``next_xid`` is where the counter stood on
    the server that is read. ``key`` (hex) goes into every hash.
    """

    model_config = ConfigDict(extra="forbid")

    oldest_xid: int
    next_xid: int
    key: str


class Content(BaseModel):
    """A table's content: all rows counted, stable ones digested."""

    model_config = ConfigDict(extra="forbid")

    rows: int
    stable_rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """Sampled rows that came back changed, and those that are gone or were written anew."""

    looked_at: int
    changed: list[str]
    gone: int


def horizon(connection: psycopg.Connection, key: str) -> Horizon:
    """The horizon of the connection's snapshot."""
    oldest, newest = _snapshot(connection)
    return Horizon(oldest_xid=oldest, next_xid=newest, key=key)


def horizon_on(connection: psycopg.Connection, line: Horizon) -> Horizon:
    """Production's horizon, seen from the restored cluster, whose counter has moved on."""
    return line.model_copy(update={"next_xid": max(line.next_xid, _snapshot(connection)[1])})


def read_content(connection: psycopg.Connection, schema: str, table: str, line: Horizon) -> Content | None:
    """One scan: all rows counted, stable ones digested. None if there is no such table."""
    query = sql.SQL(
        "SELECT count(*), count(h), coalesce(bit_xor(h), 0)::text || ':' || coalesce(sum(h), 0)::text"
        " FROM (SELECT CASE WHEN {stable} THEN {hash} END AS h FROM ONLY {table} t OFFSET 0) s"
    )
    try:
        found = _either_hash(connection, query, schema, table, line)
    except psycopg.errors.UndefinedTable:
        return None
    rows, stable_rows, digest = found[0]
    return Content(rows=int(rows), stable_rows=int(stable_rows), digest=str(digest))


def read_sample(
    connection: psycopg.Connection, schema: str, table: str, line: Horizon, *, share: float
) -> dict[str, str]:
    """A share (0 to 1) of the stable rows, in whole blocks chosen by chance.

    Gives a row's place and writer, ``(block,line)/xmin``, -> its keyed hash.
    """
    query = sql.SQL(
        "SELECT t.ctid::text || '/' || t.xmin::text, {hash}::text FROM ONLY {table} t {sampled} WHERE {stable}"
    )
    chosen = sql.SQL("") if share >= 1 else sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(100 * share))
    return {str(place): str(digest) for place, digest in _either_hash(connection, query, schema, table, line, chosen)}


def compare_sample(
    connection: psycopg.Connection, schema: str, table: str, line: Horizon, sample: dict[str, str]
) -> SampleAnswer:
    """Look the sampled rows up by their place."""
    query = sql.SQL(
        "SELECT t.ctid::text || '/' || t.xmin::text, {hash}::text FROM ONLY {table} t WHERE t.ctid = ANY(%(places)s::tid[])"
    )
    places = [place.partition("/")[0] for place in sample]
    rows = _either_hash(connection, query, schema, table, line, places=places)
    found = {str(place): str(digest) for place, digest in rows}
    changed = [place for place, digest in sample.items() if found.get(place, digest) != digest]
    return SampleAnswer(len(sample), changed, sum(1 for place in sample if place not in found))


def gone_at_most(sampled: int, stable_rows: int, rewritten_rows: int) -> int:
    """Most sampled rows that updates and deletes explain.

    All ``rewritten_rows`` where the sample is everything; otherwise a Poisson bound that chance exceeds with
    probability ``FALSE_ALARM``.
    """
    if sampled >= stable_rows:
        return rewritten_rows
    mean = rewritten_rows * sampled / max(stable_rows, 1)
    if mean > 500:
        return min(rewritten_rows, int(mean + 7 * mean**0.5 + 10))
    term = total = exp(-mean)
    count = 0
    while 1 - total > FALSE_ALARM and count < rewritten_rows:
        count += 1
        term *= mean / count
        total += term
    return count


def _either_hash(
    connection: psycopg.Connection,
    query: sql.SQL,
    schema: str,
    table: str,
    line: Horizon,
    sampled: sql.Composable = NO_SAMPLING,
    *,
    places: list[str] | None = None,
) -> list[tuple[int | str, ...]]:
    """Run a query with the rows' binary form hashed, or their text where a type has no binary form."""
    for form in _forms():
        whole = sql.SQL("('x' || left(md5({}::bytea || {}), 16))::bit(64)::int8").format(
            sql.Literal("\\x" + line.key), form
        )
        statement = query.format(
            table=sql.Identifier(schema, table), hash=whole, stable=_stable(line), sampled=sampled
        )
        try:
            with connection.transaction():
                return connection.execute(statement, {"places": places} if places is not None else None).fetchall()
        except (psycopg.errors.UndefinedFunction, psycopg.errors.FeatureNotSupported):
            continue
    return []


def _forms() -> Iterator[sql.SQL]:
    yield sql.SQL("record_send(t)")
    yield sql.SQL("convert_to(t::text, 'UTF8')")


def _snapshot(connection: psycopg.Connection) -> tuple[int, int]:
    row = connection.execute(
        "SELECT pg_snapshot_xmin(s)::text::int8, pg_snapshot_xmax(s)::text::int8 FROM pg_current_snapshot() s"
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _stable(line: Horizon) -> sql.Composable:
    """True for rows written before the horizon.

    ``xmin`` has 32 bits and stays as it was when a row is frozen, so newness is a window that starts at the horizon,
    not a comparison: rows of an earlier round of the counter are not in it.
    """
    window = min(line.next_xid - line.oldest_xid, 2**31)
    return sql.SQL("((t.xmin::text::int8 - {} + 8589934592) % 4294967296) >= {}").format(
        sql.Literal(line.oldest_xid % 2**32), sql.Literal(window)
    )
