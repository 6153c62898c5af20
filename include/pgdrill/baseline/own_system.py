"""The cluster's own base backups, where several clusters' lie in one repository.

There is one answer for whoever asks. The newest backup may be a stranger's, so it never decides:
the configured system identifier does, or production's own word.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from pgdrill.access import Access
from pgdrill.errors import CouldNotVerify, Problem, as_could_not_verify
from pgdrill.postgres.pg_control import system_identifier
from pgdrill.postgres.server_words import words_of
from pgdrill.repository.tools.base import BaseBackup
from pgdrill.text import count

Kind = TypeVar("Kind", bound=BaseBackup)
OWN_PREFIX = "give the other server a prefix of its own (its repository.url)"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OwnSystem:
    """The system identifier of a cluster's backups."""

    identifier: int | None
    problem: Problem | None = None  # without an identifier: what is needed to tell it

    def of(self, backups: Iterable[Kind]) -> list[Kind]:
        """Return the backups that are the cluster's; none where that cannot be told."""
        return [backup for backup in backups if backup.system_identifier == self.identifier]

    def check(self) -> None:
        """Raise where the identifier cannot be told."""
        if self.problem:
            raise as_could_not_verify(self.problem)


def own_system(access: Access, backups: Sequence[BaseBackup]) -> OwnSystem:
    """Return the cluster's system identifier as configured, else by the server's word.

    Without both it is that of the backups, where all have the same.
    """
    if configured := access.cluster.server.system_identifier:
        return OwnSystem(configured)
    asked, why = _by_the_server(access)
    if asked:
        return OwnSystem(asked)
    systems = sorted({backup.system_identifier for backup in backups})
    if len(systems) > 1:
        return OwnSystem(None, _unclear(access, backups, systems, why))
    return OwnSystem(systems[0] if systems else None)


def own_backups(access: Access, backups: Sequence[BaseBackup]) -> list[BaseBackup]:
    """Return the cluster's own backups of those listed.

    Raises where they cannot be told from others'.
    """
    own = own_system(access, backups)
    own.check()
    return own.of(backups)


def none_of_its_own(
    access: Access, backups: Sequence[BaseBackup], own: OwnSystem
) -> Iterator[Problem]:
    """Yield a problem if all of the backups that are there are somebody else's."""
    if backups and own.identifier and not own.of(backups):
        name = access.cluster.name
        yield Problem(
            "only-strangers",
            access.cluster.repository.url,
            "only base backups of"
            f""" {
                ", ".join(
                    _described(backups, one)
                    for one in sorted({it.system_identifier for it in backups})
                )
            }""",
            f"one of system identifier {own.identifier}, {name}'s",
            f"correct repository.url or server.dsn of {name}; if both are right, {OWN_PREFIX}, then"
            f" take a base backup: `pgdrill backup {name}`",
        )


def stranger_hint(cluster: str, backup: str, window_days: float) -> str:
    """Return the hint on what to do about another cluster's backup."""
    return (
        f"{OWN_PREFIX}; this backup is removed with `pgdrill prune {cluster} --also {backup}`, once"
        f" it is older than {window_days:g} days"
    )


def _by_the_server(access: Access) -> tuple[int | None, str]:
    try:
        with access.connect() as connection:
            return system_identifier(connection), ""
    except CouldNotVerify as error:
        logger.info("the server's system identifier is not known: %s", error)
        return None, error.problem.reason
    except psycopg.Error as error:
        return None, words_of(error)


def _unclear(
    access: Access, backups: Sequence[BaseBackup], systems: Sequence[int], why: str
) -> Problem:
    name = access.cluster.name
    return Problem(
        "whose-backups",
        access.cluster.repository.url,
        f"base backups of {len(systems)} systems:"
        f" {'; '.join(_described(backups, one) for one in systems)}",
        f"to know which of them is {name}'s: server.system_identifier is not set, and the server"
        f" did not say ({why})",
        f"set it in dr.toml, below [clusters.{name}.server]:"
        f" {' or '.join(f'`system_identifier = {one}`' for one in systems)}; `pg_controldata"
        f" {access.cluster.server.data_directory}` on {name}'s host says which",
    )


def _described(backups: Iterable[BaseBackup], system: int) -> str:
    mine = [backup for backup in backups if backup.system_identifier == system]
    newest = max(mine, key=lambda backup: backup.finish_time)
    return (
        f"{system} ({count(len(mine), 'base backup')}, PostgreSQL {newest.major_version}, the"
        f" newest {newest.name} of {newest.finish_time:%Y-%m-%d %H:%M} UTC)"
    )
