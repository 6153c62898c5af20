"""Settling: reading what was written between the baseline and its restore point.

So change is not taken for damage. It has two steps, for the second may have to wait: the catalogs,
and the server's own counters.
"""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from pgdrill.access import Access
from pgdrill.baseline.model import Baseline, Changes, DatabaseState, TableState
from pgdrill.baseline.production import Production
from pgdrill.baseline.server_facts import database_forms, extension_versions
from pgdrill.baseline.statistics_counters import await_counters
from pgdrill.baseline.tables import Table, list_tables
from pgdrill.host.process import Runner
from pgdrill.postgres.catalog_fingerprint import read_fingerprint


def settle_catalogs(access: Access, baseline: Baseline, *, runner: Runner | None = None) -> None:
    """Read catalogs again, as they are after the restore point.

    What changed is allowed in either state.
    """
    production = Production(access, runner or Runner())
    with production.connection() as connection:
        baseline.shared_objects.settle(
            read_fingerprint(connection, shared=True, like=baseline.shared_objects)
        )
        baseline.database_forms_later = forms = database_forms(connection)
    for name, database in baseline.databases.items():
        if name in forms:
            with production.unless_dropped(name), production.connection(name) as connection:
                again = read_fingerprint(connection, shared=False, like=database.schema_objects)
                database.schema_objects.settle(again)
                database.extensions_later = extension_versions(connection)


def settle(access: Access, baseline: Baseline, *, runner: Runner | None = None) -> None:
    """Complete the baseline: catalogs, then counters.

    The counters are read late enough that they hold all that was written before the restore point.
    """
    runner = runner or Runner()
    if baseline.database_forms_later is None:
        settle_catalogs(access, baseline, runner=runner)
    production = Production(access, runner)
    now = datetime.now(UTC)
    marked_at = baseline.restore_point_at or baseline.taken_at
    with production.connection() as connection:
        await_counters(
            connection,
            (now - baseline.taken_at).total_seconds(),
            (now - marked_at).total_seconds(),
            runner,
        )
    for name, database in baseline.databases.items():
        if name in (baseline.database_forms_later or {}):
            with production.unless_dropped(name), production.connection(name) as connection:
                _settle_tables(connection, database)
    baseline.settled_at = datetime.now(UTC)


def _settle_tables(connection: psycopg.Connection, database: DatabaseState) -> None:
    listed = {table.name: table for table in list_tables(connection, sizes=False)}
    for name, state in database.tables.items():
        table, state.settled = listed.get(name), True
        altered = f"pg_attribute:{state.oid}" in database.schema_objects.later
        state.dropped = table is None or table.oid != state.oid
        state.vacuumed = table is not None and table.vacuums != state.vacuums
        state.since = counted_since(state, table) if table and not state.dropped else None
        state.refiled = table is not None and table.filenode != state.filenode
        state.changes = None if altered or state.refiled else state.since


def counted_since(state: TableState, now: Table) -> Changes | None:
    """Return what the counters say was written since; None where they were reset."""
    since = {
        name: getattr(now.counters, name) - getattr(state.counters, name)
        for name in Changes.model_fields
    }
    return Changes(**since) if min(since.values()) >= 0 else None
