"""Production's state at other instants, where the restored instant was not recorded.

A table of zeros finds little on production, too, and an index whose build failed is invalid there:
that is no damage of a backup, whatever instant it was restored to. So before a figure is called a
failure that nothing of that very instant stands beside, the backup's record is asked, and then
production as it is today. They excuse; they never prove.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import psycopg

from pgdrill.access import Access
from pgdrill.baseline import Baseline, backup_record
from pgdrill.baseline.production import Production
from pgdrill.errors import PgdrillError
from pgdrill.host.process import Runner
from pgdrill.postgres.guarded import Guard
from pgdrill.postgres.relation_names import joined
from pgdrill.postgres.row_digests import horizon
from pgdrill.repository.archiver import check_server
from pgdrill.vectors.columns import FoundColumn
from pgdrill.vectors.model import VectorState
from pgdrill.vectors.snapshot import read_vectors

logger = logging.getLogger(__name__)

RECORDS_READ = 3  # only so many of the newest, because they are large
Habit = tuple[str, VectorState]
"""When, in words, and what a column was like then."""


@dataclass
class Habits:
    """The sources of a column's habits.

    They are asked for one column at a time, and only when something would be a failure.
    """

    access: Access
    runner: Runner
    backup: str = ""  # the one whose record tells; empty: the one nearest to ``at``
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # production's system identifier; None: the configured one, if any
    identifier: int | None = None
    _today: dict[tuple[str, str], VectorState | None] = field(default_factory=dict, repr=False)
    _gone: bool = False

    def of(self, column: FoundColumn) -> Iterator[Habit]:
        """Yield what a column was like, the cheapest to ask first."""
        key = joined(column.schema, column.table, column.column)
        kept = self.recorded.databases.get(column.database) if self.recorded else None
        if kept and (state := kept.vectors.get(key)) and not (state.trouble or state.code):
            yield "when the backup was taken", state
        if (column.database, key) not in self._today:
            self._today[column.database, key] = self._ask(column, key)
        if now := self._today[column.database, key]:
            yield "today", now

    @cached_property
    def recorded(self) -> Baseline | None:
        """The baseline of when the backup was taken; None where no record has one."""
        try:
            if self.backup:
                kept = backup_record.read(self.access.reports, self.backup)
                return kept.baseline if kept else None
            names = sorted(
                key.removeprefix("backups/").removesuffix(".json")
                for key in self.access.reports.sizes("backups/")
            )
            found = filter(
                None,
                (backup_record.read(self.access.reports, name) for name in names[-RECORDS_READ:]),
            )
            nearest = min(found, key=lambda one: abs(one.finished_at - self.at), default=None)
        except PgdrillError as error:
            logger.warning(
                "what production was like is not known from a backup's record: %s", error
            )
            return None
        return nearest.baseline if nearest else None

    def _ask(self, column: FoundColumn, key: str) -> VectorState | None:
        if self._gone:
            return None
        production = Production(self.access, self.runner)
        whole = (
            {joined(column.schema, column.table)}
            if column.table_bytes <= self.access.cluster.drill.baseline_table_bytes
            else set()
        )
        try:
            with (
                production.snapshot(column.database) as connection,
                production.catalogs(column.database) as catalogs,
            ):
                if self.identifier not in (None, check_server(catalogs, self.access.cluster)):
                    return None  # another server stands there by now
                line = horizon(connection, secrets.token_hex(16))
                states, _ = read_vectors(
                    connection,
                    self.access.cluster,
                    line,
                    whole,
                    Guard(catalogs),
                    self.runner.check,
                    only={column.oid},
                )
        except (PgdrillError, psycopg.Error) as error:
            if self.runner.stopped:
                raise
            logger.info("production cannot be asked about %s: %s", column.name, error)
            self._gone = True
            return None
        state = states.get(key)
        return state if state and not (state.trouble or state.code) else None
