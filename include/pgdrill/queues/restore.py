"""The restore: key by key from the throw-away loader into a server that is empty.

So TLS, ACLs, AOF and managed services need nothing else than a login. What a kill leaves is marked,
and emptied only on a word.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from redis import exceptions as failed

from pgdrill import version
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify
from pgdrill.host.process import Runner
from pgdrill.queues import invariants, keys
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.address import Address
from pgdrill.queues.connection import Client, connect, explained
from pgdrill.queues.layout import key
from pgdrill.queues.loader import Loaded
from pgdrill.queues.reading import QueueContent, read_queues
from pgdrill.queues.record import SnapshotRecord
from pgdrill.queues.report import QueueFigures, SnapshotReport
from pgdrill.queues.server import ServerFacts, check_kind, read_facts
from pgdrill.queues.verify import loading, one_here
from pgdrill.recovery.sweep import sweep_first
from pgdrill.reports.drill_id import new_drill_id
from pgdrill.text import count

logger = logging.getLogger(__name__)

MARK = "pgdrill:restoring"  # stands from the first key to the last
MARK_BYTES = 200
Active = Literal["stalled", "paused"]


@dataclass(frozen=True, slots=True)
class Into:
    """Where to, and what a person allowed.

    ``active``: jobs that had a worker are found stalled by the workers, which run them again; or
    every queue is left paused, until a person resumes it.
    """

    address: Address
    active: Active = "stalled"
    empty_half_restored: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """What stands in the server now."""

    queue: str
    snapshot_id: str
    address: str
    keys: int
    live: int
    will_run_twice: int
    fires_at_once: int
    paused: bool
    queues: list[QueueFigures]


def restore(
    access: QueueAccess,
    snapshot_id: str,
    into: Into,
    *,
    runner: Runner | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Restored:
    """Restore a snapshot into a server that holds nothing."""
    runner = runner or Runner()
    target = _Target(access, into)
    target.check_empty()
    sweep_first(access.owner)
    report = SnapshotReport(
        drill_id=new_drill_id(),
        snapshot_id=snapshot_id,
        queue=access.name,
        cluster=access.cluster.name,
        started_at=datetime.now(UTC),
        host=socket.gethostname(),
        pgdrill=version(),
    )
    with one_here(access, report.drill_id), loading(access, report, runner, progress) as opened:
        if opened is None:
            raise _not_loaded(report)
        return target.fill(*opened, runner, progress)


def _not_loaded(report: SnapshotReport) -> BackupFault | CouldNotVerify:
    trouble = report.restore.trouble
    assert trouble is not None  # noqa: S101 - why it was not loaded
    kind = BackupFault if report.restore.status == "failed" else CouldNotVerify
    return kind(
        trouble.reason,
        trouble.thing,
        found=trouble.found,
        expected=trouble.expected,
        hint=trouble.hint,
    )


class _Target:
    """The server that is restored into."""

    def __init__(self, access: QueueAccess, into: Into) -> None:
        self.access, self.into = access, into
        self.what = f"server {into.address}, to restore queue {access.name} into"

    def client(self, database: int = 0) -> Client:
        return connect(self.access, self.into.address, database)

    def check_empty(self) -> None:
        """Raise unless it is a primary without a key and a function.

        What an earlier restore has left half-filled is emptied first, if a person said so.
        """
        with explained(self.what), self.client() as client:
            facts = read_facts(client)
            check_kind(facts, self.into.address, self.access.name)
            self._check_primary(facts)
            mark = client.getrange(MARK, 0, MARK_BYTES - 1) if facts.keys else b""
            if mark and self.into.empty_half_restored:
                logger.warning("emptying %s, half-filled by %s", self.into.address, _text(mark))
                client.flushall()
                _flush_functions(client)
                facts = read_facts(client)
                mark = b""
            functions = _functions(client)
        if mark:
            raise self._not_empty(
                f"half a restore of {_text(mark)}",
                "restore again with --empty-half-restored, which empties it first",
            )
        if facts.keys or functions:
            raise self._not_empty(
                f"{count(facts.keys, 'key')} and {len(functions)} libraries of functions",
                "name an empty server; what is in this one is not touched",
            )

    def _check_primary(self, facts: ServerFacts) -> None:
        if facts.role != "master":
            raise ConfigError(
                "replica",
                self.what,
                found="a replica, which takes nothing but its primary's data",
                expected="a primary",
                hint="name its primary, or REPLICAOF NO ONE first",
            )

    def _not_empty(self, found: str, hint: str) -> ConfigError:
        return ConfigError(
            "not-empty",
            self.what,
            found=found,
            expected="a server that is empty in all databases and functions",
            hint=hint,
        )

    def fill(
        self,
        loaded: Loaded,
        record: SnapshotRecord,
        runner: Runner,
        progress: Callable[[str, int, int], None],
    ) -> Restored:
        """Copy every key, and ask the same questions of what came of it."""
        if self.into.active == "paused":
            pause(loaded, record)
        databases = loaded.databases()
        self._check_databases(databases)
        with explained(self.what), ExitStack() as held:
            client = held.enter_context(self.client())
            client.set(MARK, f"{record.snapshot_id} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
            entries = keys.read_keys(loaded.connect, databases)
            try:
                written = keys.write_keys(
                    self.client, _counted(entries, loaded.keys, runner, progress)
                )
            except FileExistsError as error:
                raise self._not_empty(
                    f"key {error}, which somebody has written meanwhile",
                    "stop the workers and whatever else writes there, then restore again with"
                    " --empty-half-restored",
                ) from None
            queues = self._asked(record)
            client.delete(MARK)
        active = sum(one.active for one in queues)
        return Restored(
            queue=self.access.name,
            snapshot_id=record.snapshot_id,
            address=str(self.into.address),
            keys=written,
            live=sum(one.live for one in queues),
            will_run_twice=active,
            fires_at_once=sum(one.due for one in queues),
            paused=self.into.active == "paused",
            queues=queues,
        )

    def _check_databases(self, databases: tuple[int, ...]) -> None:
        with explained(f"{self.what}: databases {databases}"):
            for number in databases:
                with self.client(number) as client:
                    client.ping()

    def _asked(self, record: SnapshotRecord) -> list[QueueFigures]:
        """Raise unless every queue came back as it has to be."""
        found: list[QueueContent] = []
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        with self.client() as client:
            numbers = read_facts(client).databases
        for number in numbers:
            with self.client(number) as client:
                found += read_queues(client, number, record.prefix, now_ms)
        wrong = [
            f"{one.name} {one.thing}: {one.value}"
            for queue in found
            for one in invariants.of_queue(queue)
            if one.status == "fail"
        ]
        if wrong:
            raise CouldNotVerify(
                "restored-wrong",
                self.what,
                found="; ".join(wrong)[:500],
                expected="what the snapshot holds",
                hint="see who writes there; the mark pgdrill:restoring stays: restore again with"
                " --empty-half-restored",
            )
        return invariants.figures(found)


def pause(loaded: Loaded, record: SnapshotRecord) -> None:
    """Pause every queue in the loader, as BullMQ's own pause does: before workers can see it."""
    for one in invariants.read_all(loaded, record):
        with loaded.connect(one.database) as client:
            waiting = key(record.prefix, one.name, "wait")
            if client.exists(waiting):
                if client.exists(key(record.prefix, one.name, "paused")):
                    continue  # it is paused, and half of a move is not ours to make
                client.rename(waiting, key(record.prefix, one.name, "paused"))
            client.hset(key(record.prefix, one.name, "meta"), "paused", "1")


def _counted(
    entries: Iterator[keys.Entry],
    total: int,
    runner: Runner,
    progress: Callable[[str, int, int], None],
) -> Iterator[keys.Entry]:
    for number, entry in enumerate(entries):
        if number % keys.PAGE == 0:
            runner.check()
            progress("restore keys", number, total)
        yield entry


def _functions(client: Client) -> list[Any]:
    try:
        return list(client.execute_command("FUNCTION", "LIST"))
    except failed.ResponseError as error:
        if "unknown command" in str(error).lower():  # before 7.0
            return []
        raise


def _flush_functions(client: Client) -> None:
    try:
        client.execute_command("FUNCTION", "FLUSH")
    except failed.ResponseError as error:
        if "unknown command" not in str(error).lower():
            raise


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
