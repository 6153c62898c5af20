"""Taking the baseline: look at every database, then mark the instant that a drill recovers to."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg

from pgdrill.access import Access
from pgdrill.baseline.bracket import bracket
from pgdrill.baseline.content import read_rows_of
from pgdrill.baseline.database import ATTEMPTS, Looked, look_at
from pgdrill.baseline.model import Baseline
from pgdrill.baseline.production import Production
from pgdrill.baseline.sequences import around
from pgdrill.baseline.server_facts import (
    database_forms,
    every_database,
    read_settings,
    superusers,
    tablespaces,
)
from pgdrill.baseline.state_tables import read_at
from pgdrill.baseline.statistics_counters import all_reported
from pgdrill.errors import ConfigError, StandbyConflict, Unreachable
from pgdrill.host.process import Runner
from pgdrill.postgres.admitted import check_admitted
from pgdrill.postgres.by_file import read_by_file
from pgdrill.postgres.catalog_fingerprint import read_fingerprint
from pgdrill.postgres.clock import measure
from pgdrill.postgres.prepared import check_readable
from pgdrill.postgres.recovery_settings import read_only_roles, server_settings
from pgdrill.postgres.wal import Segment
from pgdrill.repository.archiver import check_server, wait_archived

logger = logging.getLogger(__name__)


def take_baseline(
    access: Access, *, restore_point: str = "", content: bool = True, runner: Runner | None = None
) -> Baseline:
    """Look at production and return the baseline.

    With ``restore_point``, it ends with a restore point of that name and waits until its WAL is
    archived. Then rows are read as they were right before it and right after it, so that nothing
    but what was being written just then is in doubt. Stopping the ``runner`` cancels what runs on
    production at once. Without ``content`` no database is read: a drill to an instant of the past
    has nothing to compare with today's rows.
    """
    started = time.monotonic()
    production = Production(access, runner or Runner())
    with production.connection() as connection:
        identifier = check_server(connection, access.cluster)
        timeline, lsn, oldest_xid, next_xid = _position(connection)
        clock = measure(connection)
        settings, configured = read_settings(connection)
        forms = database_forms(connection)
        names = access.cluster.server.databases or every_database(connection)
        _all_there(access, names, forms)
        if content:
            check_admitted(connection, access.cluster.name, names)
        check_readable(connection, names)
        taken_at = datetime.now(UTC)
        shared = read_fingerprint(connection, shared=True)
        looked: dict[str, Looked] = {}
        for name in names if content else ():
            with production.unless_dropped(name):
                looked[name] = look_at(production, name, positions=not restore_point)
        baseline = Baseline(
            cluster=access.cluster.name,
            taken_at=taken_at,
            system_identifier=identifier,
            timeline=timeline,
            settings={**server_settings(connection), **settings},
            configured=configured,
            read_only=read_only_roles(connection),
            superusers=superusers(connection),
            by_file=_by_file(access),
            clock_offset_seconds=clock.offset_seconds,
            clock_uncertainty_seconds=clock.uncertainty_seconds,
            read_on="standby" if access.has_standby else "primary",
            shared_objects=shared,
            database_forms=forms,
            tablespaces=tablespaces(connection),
            databases={name: one.state for name, one in looked.items()},
            oldest_xid=oldest_xid,
            next_xid=next_xid,
            wal_lsn=lsn,
        )
        if restore_point:
            _at_restore_point(connection, production, baseline, looked, restore_point)
        else:
            _as_of_now(production, baseline, looked)
    if unread := baseline.unread:
        thing, why = next(iter(unread.items()))
        logger.warning(
            "%d tables and sequences are not in the baseline, first %s: %s", len(unread), thing, why
        )
    if kept := baseline.not_queried:
        thing, why = next(iter(kept.items()))
        logger.warning(
            "no query was made of %d tables, which run somebody's function, first %s: %s",
            len(kept),
            thing,
            why,
        )
    baseline.seconds = time.monotonic() - started
    return baseline


def _by_file(access: Access) -> dict[str, str] | None:
    """Read what files set on production, on a connection without settings of our own.

    None where it cannot be had.
    """
    try:
        with access.bare() as connection:
            return read_by_file(connection)
    except (psycopg.Error, Unreachable) as error:
        logger.warning("what files set on production is not known: %s", error)
        return None


def _all_there(access: Access, names: tuple[str, ...], forms: dict[str, str]) -> None:
    for name in names:
        if name not in forms:
            raise ConfigError(
                "no-such-database",
                f"database {name} of cluster {access.cluster.name}",
                found="no such database",
                expected=f"one of {', '.join(sorted(forms))}",
                hint="correct server.databases in dr.toml",
            )


def _position(connection: psycopg.Connection) -> tuple[int, str, int, int]:
    """Read timeline, LSN and transaction numbers.

    The numbers are that of the oldest transaction that may be running, and that which the next one
    will get.
    """
    row = connection.execute(
        "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_current_wal_lsn()::text,"
        " pg_snapshot_xmin(pg_current_snapshot())::text,"
        " pg_snapshot_xmax(pg_current_snapshot())::text"
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate-free SELECT without FROM has one row
    return int(row[0], 16), row[1], int(row[2]), int(row[3])


def _as_of_now(production: Production, baseline: Baseline, looked: dict[str, Looked]) -> None:
    """Read rows as they are, each database in a snapshot of its own."""
    for name in _small_first(looked):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with (
                    _unless_dropped(production, baseline, name),
                    production.snapshot(name) as snapshot,
                ):
                    read_rows_of(production, looked[name], snapshot, spent_bytes=_spent(baseline))
                break
            except StandbyConflict as error:
                if attempt == ATTEMPTS:
                    raise
                logger.warning("reading %s again: %s", name, error)


def _at_restore_point(
    connection: psycopg.Connection,
    production: Production,
    baseline: Baseline,
    looked: dict[str, Looked],
    name: str,
) -> None:
    """Read rows as they were at a restore point.

    It is a second restore point if recovery on a standby cancelled the reading.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _mark(
                connection,
                production,
                baseline,
                looked,
                name if attempt == 1 else f"{name}-{attempt}",
            )
            break
        except StandbyConflict as error:
            if attempt == ATTEMPTS:
                raise
            logger.warning("another restore point: %s", error)
    access = production.access
    segment = Segment.holding(baseline.lsn_position - 1, baseline.timeline, baseline.segment_bytes)
    wait_archived(
        connection, access.repository, segment, access.cluster.backup.archive_wait_seconds
    )


def _mark(
    connection: psycopg.Connection,
    production: Production,
    baseline: Baseline,
    looked: dict[str, Looked],
    name: str,
) -> None:
    """Create the restore point between two snapshots of each database, and read them.

    Its segment is archived meanwhile, now instead of after ``archive_timeout``.
    """
    standby, began = production.access.has_standby, time.monotonic()
    marked = began
    with bracket(production, looked, list(baseline.databases)) as snapshots:

        def mark() -> None:
            nonlocal marked
            if not standby:
                snapshots.begin(connection)
            row = connection.execute("SELECT pg_create_restore_point(%s)::text", (name,)).fetchone()
            baseline.restore_point, baseline.restore_point_at, marked = (
                name,
                datetime.now(UTC),
                time.monotonic(),
            )
            baseline.lsn = str(row[0]) if row else ""
            # We take a number of our own: a snapshot's xmax leaves out transactions whose commit is
            # in WAL and not yet announced.
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            baseline.end_xid = int(row[0]) if row else 0

        with around(production, baseline.databases):
            # The standby has to replay what was written until then, and state tables cannot wait
            # for that.
            if standby:
                snapshots.begin(connection)
            for database, tables in read_at(production, list(baseline.databases), mark).items():
                baseline.databases[database].state_tables = tables
        # This waits for what is being committed, and sequences cannot wait for that.
        snapshots.end(connection)
        connection.execute("SELECT pg_switch_wal()")

        def counted(primary: psycopg.Connection) -> bool:
            now = datetime.now(UTC)
            return all_reported(
                primary, (now - baseline.taken_at).total_seconds(), time.monotonic() - marked
            )

        kept_first = sorted(
            _small_first(looked),
            key=lambda name: not (name in snapshots.pairs and snapshots.pairs[name].kept),
        )
        for database in kept_first:
            with (
                _unless_dropped(production, baseline, database),
                snapshots.reading(database) as pair,
            ):
                if pair:
                    read_rows_of(
                        production,
                        looked[database],
                        pair.before,
                        pair,
                        snapshots.oldest_xid,
                        spent_bytes=_spent(baseline),
                        counted=counted,
                    )


def _small_first(looked: dict[str, Looked]) -> list[str]:
    """Return the databases by size, the smallest first.

    While a database is held nobody can copy it, and template1 is copied for every new one.
    """
    return sorted(looked, key=lambda name: looked[name].bytes)


def _spent(baseline: Baseline) -> int:
    return sum(
        table.bytes
        for database in baseline.databases.values()
        for table in database.tables.values()
        if table.content
    )


@contextlib.contextmanager
def _unless_dropped(production: Production, baseline: Baseline, name: str) -> Iterator[None]:
    """Leave a database out of the baseline if it is dropped meanwhile."""
    read = False
    try:
        with production.unless_dropped(name):
            yield
            read = True
    finally:
        if not read:
            baseline.databases.pop(name, None)
