"""The subject of questions: a cluster's access in a hurry."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import psycopg

from pgdrill.access import Access
from pgdrill.repository.object_store import Storage

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 5.0


class Hurried(Access):
    """An access whose store is asked once and for seconds, never again and for longer."""

    @cached_property
    def objects(self) -> Storage:
        """The repository as for every job, in a hurry."""
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
class HurriedSubject:
    """One cluster seen from this host, by whoever has no time."""

    access: Access

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
        """Return the values that no answer may hold, under names that say so."""
        known = self.access.credentials
        words = {
            f"PASSWORD_{n}": one.get("password", "")
            for n, one in enumerate((known.postgres, known.standby, known.dump))
        }
        words["PASSWORD_AIRFLOW"] = self.access.airflow_login["password"]
        return {**os.environ, **self.access.environment, **words}


def hurry(connection: psycopg.Connection, seconds: float = STATEMENT_SECONDS) -> None:
    """Let no statement on a connection take longer than ``seconds``."""
    connection.execute(
        "SELECT pg_catalog.set_config('statement_timeout', %s, false)",
        (f"{max(1, int(seconds * 1000))}ms",),
    )
