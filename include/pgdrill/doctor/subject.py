"""The subject of the examinations, and what some of them learn for others that need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pgdrill.doctor.model import JOBS, Job
from pgdrill.examination.subject import HurriedSubject, hurry
from pgdrill.repository.tools import BaseBackup

__all__ = ["SECONDS", "DatabaseFacts", "Subject", "hurry"]

SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The facts in one database's catalogs: its extensions, and each vector column's comment."""

    extensions: Mapping[str, str]
    comments: Mapping[tuple[str, str, str], str]


@dataclass
class Subject(HurriedSubject):
    """One cluster seen from this host.

    Where a comment names an examination, that one sets the field later.
    """

    jobs: frozenset[Job] = frozenset(JOBS)
    seconds: float = SECONDS  # for all of it
    connection: psycopg.Connection | None = None  # login
    wanted: tuple[str, ...] = ()  # databases
    # the databases that let in, by name; databases
    databases: dict[str, DatabaseFacts] = field(default_factory=dict)
    backups: list[BaseBackup] = field(default_factory=list)  # backups
    airflow: dict[str, Any] = field(default_factory=dict)  # airflow

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
