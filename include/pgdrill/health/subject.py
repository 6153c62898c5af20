"""The subject of the health checks: one cluster in a hurry, looked at again and again.

It keeps its connections from look to look, and what some checks learn for others that need it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg

from pgdrill.examination.subject import HurriedSubject, hurry
from pgdrill.health.airflow_api import AirflowApi
from pgdrill.health.facts import ArchiverFacts, ClockFacts, Place, ReceiverFacts, WalDirectory
from pgdrill.health.memory import Memory
from pgdrill.reports.model import Report
from pgdrill.repository.tools.base import BaseBackup
from pgdrill.retention.inventory import Inventory


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """The base backups that count, oldest first, and what retention's rules are told of them.

    ``broken``: descriptions that cannot be read, in words, by name.
    """

    counted: tuple[BaseBackup, ...]
    inventory: Inventory
    broken: dict[str, str]


@dataclass
class HealthSubject(HurriedSubject):
    """One cluster seen from this host. A comment names the check that sets a field."""

    memory: Memory = field(default_factory=lambda: Memory(cluster=""))
    remembers: bool = False  # what was kept has been read, and may be written over
    now: datetime = field(default_factory=lambda: datetime.now(UTC))  # by this host's clock
    wide: bool = True  # what is asked every five minutes is asked in this look
    archiver: ArchiverFacts | None = None  # server
    clock: ClockFacts | None = None  # server
    place: Place | None = None  # server
    wal_directory: WalDirectory | None = None  # wal-waiting
    receiver: ReceiverFacts | None = None  # standby
    backups: BackupFacts | None = None  # read_backups, once in a look
    reports: list[Report] | None = None  # newest_reports, once in a look
    airflow: AirflowApi | None = None  # airflow, and kept from look to look with its login
    airflow_known: bool = False  # airflow: it has answered in this look
    _primary: psycopg.Connection | None = field(default=None, repr=False)
    _standby: psycopg.Connection | None = field(default=None, repr=False)

    def forget_look(self) -> None:
        """Forget what the last look learned."""
        self.archiver = self.clock = self.place = self.wal_directory = self.receiver = None
        self.backups = self.reports = None
        self.airflow_known = False
        self.now = datetime.now(UTC)

    @property
    def server(self) -> psycopg.Connection:
        """The connection to the primary, made anew where the last one broke."""
        if self._primary is None or _useless(self._primary):
            self._primary = self.access.connect()
            hurry(self._primary)
        return self._primary

    @property
    def standby(self) -> psycopg.Connection:
        """The connection to the standby, made anew where the last one broke."""
        if self._standby is None or _useless(self._standby):
            self._standby = self.access.connect(standby=True)
            hurry(self._standby)
        return self._standby

    @property
    def facts(self) -> ArchiverFacts:
        """What ``server`` learned; whoever asks here needs it."""
        assert self.archiver is not None  # noqa: S101 - needs=("server",)
        return self.archiver

    @property
    def position(self) -> Place:
        """Where the WAL is, as ``server`` learned; whoever asks here needs it."""
        assert self.place is not None  # noqa: S101 - needs=("server",)
        return self.place

    @contextlib.contextmanager
    def beside(self, database: str, *, standby: bool = False) -> Iterator[psycopg.Connection]:
        """The connection to a database: the one that is kept, if it is its, else another."""
        kept = self.standby if standby else self.server
        if kept.info.dbname == database:
            yield kept
        else:
            with self.connected(database, standby=standby) as connection:
                yield connection

    def drop_standby(self) -> None:
        """Close the connection to the standby."""
        _close(self._standby)
        self._standby = None

    def drop(self) -> None:
        """Close what connections there are."""
        _close(self._primary)
        self._primary = None
        self.drop_standby()

    def abandon(self) -> None:
        """Leave connections that a thread still waits on to their end, and use them no more."""
        self._primary = self._standby = None


def _close(connection: psycopg.Connection | None) -> None:
    if connection:
        with contextlib.suppress(psycopg.Error):
            connection.close()


def _useless(connection: psycopg.Connection) -> bool:
    return connection.closed or connection.broken
