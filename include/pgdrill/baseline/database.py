"""What one database of production holds: counters and positions first, then one repeatable-read snapshot."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass

import psycopg

from pgdrill.baseline.facts import extension_versions, library_versions, read_collations
from pgdrill.baseline.guarded import Guard, RunsCode
from pgdrill.baseline.model import DatabaseState, TableState
from pgdrill.baseline.production import Production, StandbyConflict
from pgdrill.baseline.sequences import read_sequences, unread_sequences
from pgdrill.baseline.tables import (
    SAMPLE_BUDGET_ROWS,
    Table,
    in_order_of_sampling,
    list_tables,
    read_whole,
    sample_size,
)
from pgdrill.copied import KEPT_HASHES, Copied, NotCopied, read_copied
from pgdrill.digests import Content, Horizon, Shares, horizon, read_content, read_sample
from pgdrill.fingerprint import FIRST_USER_OID, read_fingerprint
from pgdrill.vectors.remember import read_vectors

logger = logging.getLogger(__name__)

ATTEMPTS = 2  # recovery on a standby may cancel what is read there


def read_database(production: Production, name: str, *, samples: bool, spent_bytes: int = 0) -> DatabaseState:
    """Look at a database; ``spent_bytes`` of the budget went to others."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _read(production, name, samples=samples, spent_bytes=spent_bytes)
        except StandbyConflict as error:
            if attempt == ATTEMPTS:
                raise
            logger.warning("reading %s again: %s", name, error)
    raise AssertionError("unreachable")


def _read(production: Production, name: str, *, samples: bool, spent_bytes: int) -> DatabaseState:
    with production.connection(name) as primary:
        # Counters first: what is counted twice only widens the bound, what is missed would narrow it.
        listed = list_tables(primary)
        sequences = {} if samples else read_sequences(primary)  # with a restore point they are read beside it
        unread = unread_sequences(primary)
        extensions, libraries, collations = extension_versions(primary), library_versions(primary), read_collations(primary)
        production.follow(primary)
    with production.snapshot(name) as connection, production.catalogs(name) as catalogs:
        line, guard = horizon(connection, secrets.token_hex(16)), Guard(catalogs)
        reading = Reading(connection, production, line, read_whole(listed, production.access.cluster.drill, spent_bytes), guard)
        objects = read_fingerprint(connection, shared=False)
        tables: dict[str, TableState] = {}
        left = SAMPLE_BUDGET_ROWS if samples else 0
        for table in in_order_of_sampling(listed, reading.whole):
            production.runner.check()
            state = reading.table(table, left)
            if state is not None:
                tables[table.name] = state
                left -= len(state.sample) + (len(state.copied.hashes) if state.copied else 0)
        vectors, settings = read_vectors(connection, name, production.access.cluster, line, reading.whole, guard,
                                         production.runner.check)  # fmt: skip
    return DatabaseState(
        extensions=extensions, libraries=libraries, horizon=line, tables=tables, sequences=sequences,
        unread_sequences=unread, collations=collations, schema_objects=objects, vectors=vectors,
        search_settings=settings,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """A snapshot that tables are read in."""

    connection: psycopg.Connection
    production: Production
    line: Horizon
    whole: set[str]
    guard: Guard

    def table(self, table: Table, left_rows: int) -> TableState | None:
        """Read a table once, and a sample of its rows; None if it was dropped since it was listed."""
        content: Content | None = None
        copied: Copied | None = None
        sample: dict[str, str] = {}
        unread, code = table.unread, ""
        try:
            # Large objects are a catalog: nobody's functions stand on it.
            code = "" if unread or table.oid < FIRST_USER_OID else self.guard.why_not(self.connection, table.schema, table.plain, table.oid)
            if not code:
                try:
                    with self.guard.watching(self.connection, table.oid):
                        content, sample = self._queried(table, left_rows)
                except RunsCode as added:
                    code = str(added)
            if code:
                copied, code = self._copied(table, code, left_rows)
        except psycopg.errors.UndefinedTable:
            return None
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
            if self.production.runner.stopped:
                raise
            # Not its content: the digests of other tables stand.
            unread = f"could not be read: {error.diag.message_primary}; raise drill.statement_timeout_seconds, or lower drill.baseline_table_bytes"
            logger.warning("%s %s", table.name, unread)
        return TableState(
            content=content, oid=table.oid, bytes=table.bytes, filenode=table.filenode, counters=table.counters,
            vacuums=table.vacuums, unread=unread,
            estimated_rows=content.stable_rows if content else table.estimated_rows, sampled_rows=len(sample), sample=sample,
            code=code, copied=copied,
        )  # fmt: skip

    def _queried(self, table: Table, left_rows: int) -> tuple[Content | None, dict[str, str]]:
        """Digest and sample, with rows by their places."""
        content, sample = None, {}
        if table.name in self.whole:
            content = read_content(self.connection, table.schema, table.plain, self.line)
            if content is None:
                raise psycopg.errors.UndefinedTable(table.name)
        estimated = content.stable_rows if content else table.estimated_rows
        wanted = sample_size(estimated or (0 if content else table.blocks), left_rows)
        if wanted and not table.unread:
            shares = Shares.of(table.blocks, estimated, wanted)
            sample = read_sample(self.connection, table.schema, table.plain, self.line, shares)
        return content, sample

    def _copied(self, table: Table, code: str, left_rows: int) -> tuple[Copied | None, str]:
        """The table's rows without a query; where that is not to be had, the words say that, too."""
        if table.name not in self.whole:
            return None, f"{code}, and it is too large to be copied whole"
        try:
            most = min(KEPT_HASHES, max(0, left_rows))
            return read_copied(self.connection, table.schema, table.plain, self.line.key, most=most), code
        except NotCopied as error:
            return None, f"{code}; {error}"
