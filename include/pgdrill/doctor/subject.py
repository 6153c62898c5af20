"""The subject of the examinations: a cluster's access in a hurry.

It also keeps what some examinations learn for others that need them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import psycopg

from pgdrill.access import Access
from pgdrill.doctor.model import JOBS, Job
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools import BaseBackup

SECONDS = 30.0
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The facts in one database's catalogs: its extensions, and each vector column's comment."""

    extensions: Mapping[str, str]
    comments: Mapping[tuple[str, str, str], str]


class Hurried(Access):
    """An access whose store is asked once and for seconds, never again and for longer."""

    @cached_property
    def objects(self) -> Storage:
        """The repository's objects as for every job, in a hurry."""
        return super().objects.quick

    @cached_property
    def reports(self) -> Storage:
        """The report store, in a hurry."""
        return super().reports.quick

    @cached_property
    def dumps(self) -> Storage:
        """The store of dumps, in a hurry."""
        return super().dumps.quick


@dataclass
class Subject:
    """One cluster seen from this host.

    Where a comment names an examination, that one sets the field later.
    """

    access: Access
    jobs: frozenset[Job] = frozenset(JOBS)
    seconds: float = SECONDS  # for all of it
    connection: psycopg.Connection | None = None  # login
    wanted: tuple[str, ...] = ()  # databases
    # the databases that let in, by name; databases
    databases: dict[str, DatabaseFacts] = field(default_factory=dict)
    backups: list[BaseBackup] = field(default_factory=list)  # backups
    airflow: dict[str, Any] = field(default_factory=dict)  # airflow

    def __post_init__(self) -> None:
        words = {"connect_timeout": str(CONNECT_SECONDS)}
        hurried = replace(
            self.access.credentials, postgres={**self.access.credentials.postgres, **words}
        )
        self.access = Hurried(self.access.cluster, hurried)

    @property
    def name(self) -> str:
        """The name of the cluster."""
        return self.access.cluster.name

    @property
    def server(self) -> psycopg.Connection:
        """The connection that ``login`` made; whoever asks here needs it."""
        assert self.connection is not None  # noqa: S101 - needs=("login",)
        return self.connection

    @property
    def closed(self) -> list[str]:
        """The databases that are protected and could not be entered.

        Where not even their names are known, that counts as one.
        """
        return [name for name in self.wanted or ("(unknown)",) if name not in self.databases]

    @contextlib.contextmanager
    def connected(
        self,
        database: str | None = None,
        *,
        standby: bool = False,
        seconds: float = STATEMENT_SECONDS,
    ) -> Iterator[psycopg.Connection]:
        """Open a connection of its own, on which no statement takes longer than ``seconds``."""
        with self.access.connect(database, standby=standby) as connection:
            hurry(connection, seconds)
            yield connection

    def secrets(self) -> dict[str, str]:
        """Return the values that no line may hold, under names that say so."""
        known = self.access.credentials
        words = {
            f"PASSWORD_{n}": one.get("password", "")
            for n, one in enumerate((known.postgres, known.standby, known.dump))
        }
        return {**os.environ, **self.access.environment, **words}


def hurry(connection: psycopg.Connection, seconds: float = STATEMENT_SECONDS) -> None:
    """Let no statement on a connection take longer than ``seconds``."""
    connection.execute(
        "SELECT pg_catalog.set_config('statement_timeout', %s, false)",
        (f"{max(1, int(seconds * 1000))}ms",),
    )
