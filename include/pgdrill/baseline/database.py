"""The content of one database of production.

Counters, positions and catalogs are read first, then its rows, in snapshots.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from pgdrill.baseline.model import Changes, DatabaseState
from pgdrill.baseline.production import Production
from pgdrill.baseline.sequences import read_sequences, unread_sequences
from pgdrill.baseline.server_facts import extension_versions, library_versions, read_collations
from pgdrill.baseline.tables import Table, list_tables
from pgdrill.errors import StandbyConflict
from pgdrill.postgres.catalog_fingerprint import Fingerprint, read_fingerprint
from pgdrill.postgres.row_digests import Horizon

logger = logging.getLogger(__name__)

ATTEMPTS = 2  # recovery on a standby may cancel a reading there
NO_HORIZON = Horizon(oldest_xid=0, next_xid=0, key="00")


@dataclass
class Looked:
    """A database before its rows are read."""

    state: DatabaseState
    # its tables by oid, with the primary's counters as they were then
    listed: dict[int, Table] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The size of all its tables."""
        return sum(table.bytes for table in self.listed.values())

    def counted(self, table: Table) -> Table:
        """Return a table with the counters of then; it was made since, if it has none."""
        known = self.listed.get(table.oid)
        return (
            table.with_counters(known.counters, known.vacuums, known.live_rows)
            if known
            else table.with_counters(Changes(), 0, 0)
        )

    def written(self, now: dict[int, Table]) -> set[int]:
        """Return the tables of which rows were updated or deleted since, as the counters tell."""
        return {
            oid
            for oid, table in now.items()
            if self.counted(table).counters.rewritten_rows != table.counters.rewritten_rows
        }


def look_at(production: Production, name: str, *, positions: bool) -> Looked:
    """Look at all of a database but the rows.

    ``positions`` of sequences: with a restore point they are read beside it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _look_at(production, name, positions=positions)
        except StandbyConflict as error:
            if attempt == ATTEMPTS:
                raise
            logger.warning("reading %s again: %s", name, error)
    raise AssertionError("unreachable")


def _look_at(production: Production, name: str, *, positions: bool) -> Looked:
    with production.connection(name) as primary:
        # Counters come first: a write that is counted twice only widens the bound, and one that is
        # missed would narrow it.
        listed = list_tables(primary)
        state = DatabaseState(
            extensions=extension_versions(primary),
            libraries=library_versions(primary),
            horizon=NO_HORIZON,
            tables={},
            sequences=read_sequences(primary) if positions else {},
            unread_sequences=unread_sequences(primary),
            collations=read_collations(primary),
            schema_objects=Fingerprint(objects={}),
        )
        production.follow(primary)
    with production.snapshot(name) as connection:
        state.schema_objects = read_fingerprint(connection, shared=False)
    return Looked(state, {table.oid: table for table in listed})
