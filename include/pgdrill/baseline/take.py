"""Taking the baseline: look at every database, then mark the instant that a drill recovers to."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

import psycopg

from pgdrill.access import Access
from pgdrill.archiving import check_server, wait_archived
from pgdrill.baseline.database import read_database
from pgdrill.baseline.facts import database_forms, every_database, read_settings, tablespaces
from pgdrill.baseline.model import Baseline, DatabaseState
from pgdrill.baseline.production import Production
from pgdrill.baseline.sequences import around
from pgdrill.baseline.state import read_at
from pgdrill.clock import measure
from pgdrill.errors import ConfigError
from pgdrill.fingerprint import read_fingerprint
from pgdrill.postgres.leftovers import read_only_roles, server_settings
from pgdrill.postgres.wal import Segment
from pgdrill.process import Runner

logger = logging.getLogger(__name__)


def take_baseline(
    access: Access, *, restore_point: str = "", content: bool = True, runner: Runner | None = None
) -> Baseline:
    """Look at production; with ``restore_point``, end with a named one and wait until its WAL is archived.

    Only then are single rows sampled: they tell change from damage up to that point and mean nothing later. Stopping the
    ``runner`` cancels what runs on production at once. Without ``content`` no database is read: a drill to an instant of
    the past has nothing to compare with today's rows.
    """
    started = time.monotonic()
    production = Production(access, runner or Runner())
    with production.connection() as connection:
        identifier = check_server(connection, access)
        timeline, lsn, oldest_xid, next_xid = _position(connection)
        clock = measure(connection)
        settings, configured = read_settings(connection)
        forms = database_forms(connection)
        names = access.cluster.server.databases or every_database(connection)
        _all_there(access, names, forms)
        taken_at = datetime.now(UTC)
        shared = read_fingerprint(connection, shared=True)
        databases: dict[str, DatabaseState] = {}
        for name in names if content else ():
            spent = sum(t.bytes for d in databases.values() for t in d.tables.values() if t.content)
            with production.unless_dropped(name):
                databases[name] = read_database(production, name, samples=bool(restore_point), spent_bytes=spent)
        baseline = Baseline(
            cluster=access.cluster.name, taken_at=taken_at, system_identifier=identifier, timeline=timeline,
            settings={**server_settings(connection), **settings}, configured=configured,
            read_only=read_only_roles(connection), clock_offset_seconds=clock.offset_seconds,
            clock_uncertainty_seconds=clock.uncertainty_seconds, read_on="standby" if access.has_standby else "primary",
            shared_objects=shared, database_forms=forms, tablespaces=tablespaces(connection), databases=databases, oldest_xid=oldest_xid, next_xid=next_xid,
            wal_lsn=lsn,
        )  # fmt: skip
        if restore_point:
            _mark(connection, production, baseline, restore_point)
    if unread := baseline.unread:
        thing, why = next(iter(unread.items()))
        logger.warning("%d tables and sequences are not in the baseline, first %s: %s", len(unread), thing, why)
    if kept := baseline.not_queried:
        thing, why = next(iter(kept.items()))
        logger.warning("no query was made of %d tables, which run somebody's function, first %s: %s", len(kept), thing, why)
    baseline.seconds = time.monotonic() - started
    return baseline


def _all_there(access: Access, names: tuple[str, ...], forms: dict[str, str]) -> None:
    for name in names:
        if name not in forms:
            raise ConfigError(
                "no-such-database", f"database {name} of cluster {access.cluster.name}", found="no such database",
                expected=f"one of {', '.join(sorted(forms))}", mend="correct server.databases in dr.toml",
            )  # fmt: skip


def _position(connection: psycopg.Connection) -> tuple[int, str, int, int]:
    """Timeline and LSN, the oldest transaction that may be running, and the number that the next one will get."""
    row = connection.execute(
        "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_current_wal_lsn()::text,"
        " pg_snapshot_xmin(pg_current_snapshot())::text, pg_snapshot_xmax(pg_current_snapshot())::text"
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate-free SELECT without FROM has one row
    return int(row[0], 16), row[1], int(row[2]), int(row[3])


def _mark(connection: psycopg.Connection, production: Production, baseline: Baseline, name: str) -> None:
    """Create the restore point and have its segment archived now instead of after ``archive_timeout``."""

    def mark() -> None:
        row = connection.execute("SELECT pg_create_restore_point(%s)::text", (name,)).fetchone()
        baseline.restore_point, baseline.restore_point_at = name, datetime.now(UTC)
        baseline.lsn = str(row[0]) if row else ""
        # A number of our own: a snapshot's xmax leaves out transactions whose commit is in WAL and not yet announced.
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        baseline.end_xid = int(row[0]) if row else 0

    with around(production, baseline.databases):
        for database, tables in read_at(production, list(baseline.databases), mark).items():
            baseline.databases[database].state_tables = tables
    access = production.access
    connection.execute("SELECT pg_switch_wal()")
    segment = Segment.holding(baseline.lsn_position - 1, baseline.timeline, baseline.segment_bytes)
    wait_archived(connection, access, segment, access.cluster.backup.archive_wait_seconds)
