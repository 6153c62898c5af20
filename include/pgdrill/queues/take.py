"""The snapshot: copied, sent, and recorded last. One that fails is taken back, and nobody sees it.

It counts once it has been loaded (:mod:`pgdrill.queues.verify`).
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from redis import exceptions as failed

from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError
from pgdrill.host.core_dumps import no_core_files
from pgdrill.host.lock import WAIT_SECONDS, ClusterLock, lease_for, this_process
from pgdrill.host.process import Runner
from pgdrill.queues import layout, record, store
from pgdrill.queues.access import QueueAccess
from pgdrill.queues.connection import Client, connect, explained
from pgdrill.queues.copying import Copying, copy
from pgdrill.queues.layout import counts, queue_names
from pgdrill.queues.rdb import check_end, read_header
from pgdrill.queues.record import PostgresSpan, QueueCounts, SnapshotRecord
from pgdrill.queues.server import ServerFacts, Source, choose_source, read_facts
from pgdrill.recovery.room import check_room
from pgdrill.recovery.sweep import sweep_first
from pgdrill.recovery.workspace import Workspace
from pgdrill.repository.leases import alone
from pgdrill.repository.leases.model import Kind

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
POSITION = """
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_insert_lsn() END)::text, clock_timestamp()
"""
HEARTBEAT_BYTES = 64
Counted = dict[tuple[int, str], tuple[str, dict[str, int]]]


@dataclass(frozen=True, slots=True)
class Moment:
    """What was seen just before, or just after, the copy."""

    facts: ServerFacts
    counted: Counted
    heartbeat: str
    postgres: tuple[str, datetime] | None
    no_postgres: str


def take_snapshot(
    access: QueueAccess, *, runner: Runner | None = None, progress: Progress = lambda *_: None
) -> SnapshotRecord:
    """Take a snapshot of a queue's server."""
    runner = runner or Runner()
    snapshot_id = record.new_snapshot_id()
    workspace = Workspace(access.cluster.state_directory / "snapshots" / snapshot_id)
    limit = 2 * access.queue.timeout_seconds
    no_core_files()
    sweep_first(access.owner)
    workspace.claim("snapshot", time.time() + limit, owner=this_process())
    try:
        with _alone(access, workspace, limit):
            try:
                made = _take(access, snapshot_id, workspace.directory, runner, progress)
            except BaseException:
                take_back(access, snapshot_id)
                raise
    finally:
        workspace.destroy()
    return made


@contextmanager
def _alone(access: QueueAccess, workspace: Workspace, limit: float) -> Iterator[None]:
    """Keep every other snapshot of this queue away, on this host and on others."""
    lock = ClusterLock(access.state_directory / "snapshot.lock")
    lease = lease_for("snapshot", workspace.directory, limit, this_process())
    kind: frozenset[Kind] = frozenset({"snapshot"})
    with lock.hold(lease), alone(access, "snapshot", wait_seconds=WAIT_SECONDS, over=kind):
        yield
        lock.release("snapshot")


def _take(
    access: QueueAccess, snapshot_id: str, folder: Path, runner: Runner, progress: Progress
) -> SnapshotRecord:
    began, started = time.monotonic(), datetime.now(UTC)
    progress("looking at the server", 0, 0)
    source = choose_source(access)
    _check_content(access, source)
    check_room(folder, source.facts.number("used_memory"), access.cluster.drill.keep_free_bytes)
    before = look(access, source)
    file, method = copy(Copying(access, source, folder, runner, progress))
    after = look(access, source)
    header = read_header(file) if method != "keys" else None
    stored = store.send(
        access,
        snapshot_id,
        file,
        runner,
        lambda count: progress("send", count, file.stat().st_size),
    )
    runner.check()  # all is sent, and still nobody wants it any more
    facts = before.facts
    made = SnapshotRecord(
        snapshot_id=snapshot_id,
        queue=access.name,
        cluster=access.cluster.name,
        host=socket.gethostname(),
        method=method,
        source=str(source.address),
        source_note=source.note,
        product=facts.product,
        server_version=facts.version,
        server_major=facts.major,
        run_id=str(facts.info.get("run_id", "")),
        rdb_magic=header.magic if header else "",
        checksummed=check_end(file) if header else True,
        databases=max(
            16, *(number + 1 for number in (*facts.databases, *after.facts.databases, 0))
        ),
        prefix=access.queue.prefix,
        policy=str(facts.info.get("maxmemory_policy", "")),
        evicted_keys=facts.number("evicted_keys"),
        started_at=started,
        ended_at=datetime.now(UTC),
        at=header.at if header else None,
        keys_before=facts.keys,
        keys_after=after.facts.keys,
        expiring_before=facts.keys_with_end,
        expiring_after=after.facts.keys_with_end,
        queues=_queues(before.counted, after.counted),
        heartbeat_before=before.heartbeat,
        heartbeat_after=after.heartbeat,
        postgres=_span(before, after),
        no_postgres=before.no_postgres or after.no_postgres,
        file=stored,
        seconds=round(time.monotonic() - began, 3),
    )
    where = record.write(access, made)
    logger.info(
        "snapshot %s: %d queues, %.1f MB, record %s",
        snapshot_id,
        len(made.queues),
        stored.bytes / 1e6,
        where,
    )
    return made


def _check_content(access: QueueAccess, source: Source) -> None:
    if source.facts.keys or access.queue.may_be_empty:
        return
    raise BackupFault(
        "empty",
        f"server of queue {access.name}, {source.address}",
        found="not a single key",
        expected="queues; a server that was started anew without its data is empty, too",
        hint="see whether it lost them (its log, INFO persistence), and restore: `pgdrill queue"
        f" restore {access.name}`; if it is meant, set queues.{access.name}.may_be_empty = true",
    )


def look(access: QueueAccess, source: Source) -> Moment:
    """Read counts, heartbeat and PostgreSQL's position: a moment's, and no snapshot's."""
    with explained(f"server of queue {access.name}, {source.address}"):
        with connect(access, source.address) as client:
            facts = read_facts(client)
            heartbeat = _heartbeat(client, access.queue.heartbeat_key)
        counted: Counted = {}
        for number in facts.databases:
            with connect(access, source.address, number) as client:
                names = queue_names(client, access.queue.prefix)
                versions = _versions(client, access.queue.prefix, names)
                for name, states in counts(client, access.queue.prefix, names).items():
                    counted[number, name] = versions[name], states
    position, why = _postgres(access)
    return Moment(facts, counted, heartbeat, position, why)


def _heartbeat(client: Client, name: str) -> str:
    try:
        value = client.getrange(name, 0, HEARTBEAT_BYTES - 1) if name else b""
    except failed.ResponseError:  # it is something else than a string
        return ""
    return bytes(value).decode("ascii", errors="replace")


def _versions(client: Client, prefix: str, names: list[str]) -> dict[str, str]:
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hget(layout.key(prefix, name, "meta"), "version")
    answers = pipe.execute(raise_on_error=False)
    return {
        name: answer.decode(errors="replace")[:60] if isinstance(answer, bytes) else ""
        for name, answer in zip(names, answers, strict=True)
    }


def _postgres(access: QueueAccess) -> tuple[tuple[str, datetime] | None, str]:
    """Return the cluster's position; a PostgreSQL that is down keeps no queue from its copy."""
    try:
        with access.owner.connect() as connection:
            row = connection.execute(POSITION).fetchone()
    except (PgdrillError, psycopg.Error) as error:
        logger.warning("where PostgreSQL was meanwhile is not known: %s", error)
        return None, str(error)[:500]
    assert row is not None  # noqa: S101 - it has always one row
    return (row[0] or "", row[1]), ""


def _span(before: Moment, after: Moment) -> PostgresSpan | None:
    if before.postgres is None or after.postgres is None:
        return None
    return PostgresSpan(
        before_lsn=before.postgres[0],
        after_lsn=after.postgres[0],
        before_at=before.postgres[1],
        after_at=after.postgres[1],
    )


def _queues(before: Counted, after: Counted) -> list[QueueCounts]:
    nothing = "", dict.fromkeys(layout.STATES, 0)
    return [
        QueueCounts(
            database=place[0],
            queue=place[1],
            version=after.get(place, nothing)[0] or before.get(place, nothing)[0],
            before=before.get(place, nothing)[1],
            after=after.get(place, nothing)[1],
        )
        for place in sorted({*before, *after})
    ]


def take_back(access: QueueAccess, snapshot_id: str) -> None:
    """Remove what a failed snapshot has sent; without a record nobody sees it anyway."""
    record.local_file(access, snapshot_id).unlink(missing_ok=True)
    try:
        access.snapshots.delete(*access.snapshots.sizes(f"{snapshot_id}/"))
    except CouldNotVerify as error:
        logger.warning(
            "objects of the failed snapshot %s stay until a prune: %s", snapshot_id, error
        )
