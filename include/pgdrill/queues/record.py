"""The record of a snapshot: what was copied, from where and between which instants.

It is written last. What has no record is no snapshot. It holds names of queues and counts, and
nothing of any job.
"""

from __future__ import annotations

import logging
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pgdrill.documents import SMALL_DOCUMENT_BYTES, Bytes, Instant, LsnText, StrictModel, read_model
from pgdrill.errors import BackupFault, ConfigError
from pgdrill.queues.access import QueueAccess
from pgdrill.reports.store import write_file
from pgdrill.text import one_line

logger = logging.getLogger(__name__)

SNAPSHOT_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
RECORD = "record.json"
RECORD_BYTES = 64 * SMALL_DOCUMENT_BYTES  # thousands of queues fit
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
States = dict[str, Count]
Method = Literal["replication", "file", "keys"]


class Model(StrictModel):
    """A part of the record. Whoever may write to the bucket may have written it."""

    @field_validator("*", mode="after")
    @classmethod
    def _lines(cls, value: object) -> object:
        return one_line(value) if isinstance(value, str) else value


class StoredFile(Model):
    """The file of a snapshot.

    ``bytes`` and ``sha256`` are of what the server sent; ``stored_bytes`` of the object, which
    is larger where it is ``encrypted``.
    """

    name: Literal["dump.rdb", "dump.keys", "dump.rdb.enc", "dump.keys.enc"]
    bytes: Bytes
    sha256: Sha256
    stored_bytes: Bytes
    encrypted: bool


class PostgresSpan(Model):
    """PostgreSQL's clock and WAL position just before and just after the copy."""

    before_lsn: LsnText
    after_lsn: LsnText
    before_at: Instant
    after_at: Instant


class QueueCounts(Model):
    """Ids in every state of a queue, before and after the copy: of other instants than the file.

    They are never compared for equality.
    """

    database: int = Field(ge=0, le=2**20)
    queue: str
    version: str = ""  # meta's, as bullmq:6.2.0; empty: Bull, or an older BullMQ
    before: States
    after: States


class SnapshotRecord(Model):
    """One snapshot of a server's queues.

    ``at``: the instant that the file itself names, by its server's clock; None where it is of no
    single instant. ``policy`` is maxmemory-policy, empty where the server does not tell.
    """

    version: Literal[1] = 1
    snapshot_id: str = Field(pattern=f"^{SNAPSHOT_ID.pattern}$")
    queue: str
    cluster: str
    host: str
    method: Method
    source: str
    source_note: str
    product: Literal["redis", "valkey"]
    server_version: str = Field(max_length=40)
    server_major: int = Field(ge=1, le=99)
    run_id: str = Field(max_length=64)
    rdb_magic: str = Field(max_length=16)
    checksummed: bool
    databases: int = Field(ge=1, le=2**20)
    prefix: str
    policy: str = ""
    evicted_keys: Count = 0
    started_at: Instant
    ended_at: Instant
    at: Instant | None
    keys_before: Count
    keys_after: Count
    expiring_before: Count
    expiring_after: Count
    queues: list[QueueCounts]
    heartbeat_before: str = ""
    heartbeat_after: str = ""
    postgres: PostgresSpan | None = None
    no_postgres: str = ""
    file: StoredFile
    seconds: float = Field(ge=0, allow_inf_nan=False)

    @property
    def instant(self) -> datetime:
        """The latest instant that it may be of."""
        return self.at or self.ended_at

    @property
    def versions(self) -> list[str]:
        """The versions of BullMQ that wrote it."""
        return sorted({one.version for one in self.queues if one.version})

    def counted(self, states: tuple[str, ...]) -> int:
        """Return how many ids stood in some states before the copy."""
        return sum(one.before.get(state, 0) for one in self.queues for state in states)


def new_snapshot_id() -> str:
    """Make an id, as ``20261201T040000Z-3f9a2c``: it sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def key(snapshot_id: str, name: str = RECORD) -> str:
    """Return where an object of a snapshot is kept."""
    return f"{snapshot_id}/{name}"


def local_file(access: QueueAccess, snapshot_id: str) -> Path:
    """Return the copy of a record on the host that took the snapshot.

    Who can rewrite the bucket cannot rewrite that one.
    """
    return access.state_directory / "records" / f"{snapshot_id}.json"


def write(access: QueueAccess, record: SnapshotRecord) -> str:
    """Write the record, which makes the snapshot visible, here and then in the store."""
    text = record.model_dump_json(indent=1)
    write_file(local_file(access, record.snapshot_id), text)
    return access.snapshots.write(key(record.snapshot_id), text.encode())


def list_snapshots(access: QueueAccess) -> list[str]:
    """List the ids of all snapshots, oldest first: those that have a record."""
    found = (name.split("/") for name in access.snapshots.sizes())
    return sorted(
        parts[0]
        for parts in found
        if len(parts) == 2 and parts[1] == RECORD and SNAPSHOT_ID.fullmatch(parts[0])
    )


def find(access: QueueAccess, wanted: str) -> str:
    """Return the id of a snapshot that is there, or of the newest one (``LATEST``)."""
    known = list_snapshots(access)
    if wanted == "LATEST" and known:
        return known[-1]
    if wanted not in known:
        raise ConfigError(
            "no-snapshot",
            f"snapshot {wanted} in {access.url}",
            found=f"only {', '.join(known[-5:])}" if known else "no snapshot",
            expected="a finished snapshot",
            hint=f"take an id from `pgdrill queue list {access.name}`, or take one with `pgdrill"
            f" queue snapshot {access.name}`",
        )
    return wanted


def read(access: QueueAccess, snapshot_id: str) -> SnapshotRecord:
    """Read a snapshot's record, checked against the queue, and against this host's own copy."""
    place = f"{access.url}/{key(snapshot_id)}"
    text = access.snapshots.read(key(snapshot_id), RECORD_BYTES)
    try:
        record = read_model(SnapshotRecord, text)
        if (record.snapshot_id, record.queue) != (snapshot_id, access.name):
            raise ValueError(f"it is that of {record.snapshot_id} of queue {record.queue}")  # noqa: TRY301
    except ValueError as error:
        raise BackupFault(
            "record-broken",
            place,
            found=f"unreadable ({error})",
            expected="the record that pgdrill wrote",
            hint="restore the object from the bucket's versions, or take another snapshot",
        ) from None
    own = local_file(access, snapshot_id)
    if own.exists() and own.read_bytes() != text:
        raise BackupFault(
            "record-changed",
            place,
            found="another record than the one that this host wrote when it took the snapshot",
            expected=f"what stands in {own}",
            hint="treat the snapshot as tampered with: choose another, and see who may write there",
        )
    return record
