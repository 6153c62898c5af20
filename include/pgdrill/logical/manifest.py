"""The manifest: the parts of a logical dump, and what its snapshot held.

It is JSON without any row content.

It is written last. What has no manifest is no dump: a dump that failed or was killed is invisible.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from pgdrill.access import Access
from pgdrill.documents import (
    LARGE_DOCUMENT_BYTES,
    Bytes,
    Instant,
    StrictModel,
    load_json,
    read_model,
)
from pgdrill.errors import BackupFault, ConfigError, CouldNotVerify

MANIFEST_VERSION = 1
DUMP_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
UNFIT = re.compile(r"[^A-Za-z0-9_-]")


class DumpFile(StrictModel):
    """An object of the dump, below the dump's own prefix."""

    name: str
    bytes: Bytes
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class TableContent(StrictModel):
    """A table in the snapshot.

    ``digest`` is None where the table was too large to be digested, and ``why`` says so.

    ``columns`` are digested in this order. ``indexes`` and ``children`` (partitions) are names, for
    restoring it alone. ``code`` names somebody's function that a query of it would have run: then
    it was digested from COPY's lines. ``bytes``: of the table in the snapshot, without indexes; 0
    in dumps of older versions.
    """

    rows: int
    bytes: int = 0
    digest: str | None
    code: str = ""
    why: str = ""
    columns: list[str]
    indexes: list[str] = Field(default_factory=list)
    sequences: list[str] = Field(default_factory=list)
    children: list[str] = Field(default_factory=list)


class SequenceRange(StrictModel):
    """A sequence's value before and after the dump: it moves outside of any snapshot."""

    first: int | None
    last: int | None


class VectorIndex(StrictModel):
    """An HNSW or IVFFlat index that a restore has to build.

    ``rows`` have a vector; ``bytes`` is its size on disk.
    """

    schema_name: str
    name: str
    table: str
    method: str
    opclass: str
    options: list[str]
    dimensions: int | None
    kind: str
    rows: int
    bytes: int


class DatabaseDump(StrictModel):
    """One database of the dump.

    ``command`` is what was run, exactly; passwords and address were in its environment.
    """

    name: str
    format: Literal["custom", "directory"]
    compression: str
    files: list[DumpFile]
    command: list[str]
    snapshot_lsn: str
    snapshot_at: Instant
    size_bytes: Bytes
    seconds: float
    encoding: str
    locale_provider: str
    collate: str
    ctype: str
    key: str
    extensions: dict[str, str]
    tables: dict[str, TableContent]
    not_dumped: dict[str, str]
    sequences: dict[str, SequenceRange]
    large_objects: TableContent
    schema_objects: dict[str, str]
    vector_indexes: list[VectorIndex]
    labels: dict[str, str]

    @property
    def stored_bytes(self) -> int:
        """The bytes that it takes in the store."""
        return sum(file.bytes for file in self.files)

    @property
    def rows(self) -> int:
        """The number of rows in all tables."""
        return sum(table.rows for table in self.tables.values())


class Manifest(StrictModel):
    """One logical dump of a cluster."""

    version: int = MANIFEST_VERSION
    dump_id: str = Field(pattern=f"^{DUMP_ID.pattern}$")
    cluster: str
    system_identifier: str = Field(pattern="^[0-9]{1,20}$")
    server_version: str
    server_major: int = Field(ge=8, le=99)
    from_standby: bool
    pg_dump_version: str
    started_at: Instant
    ended_at: Instant
    host: str
    superuser: str
    data_checksums: bool
    preload_libraries: str
    global_objects: DumpFile
    role_passwords: bool
    databases: list[DatabaseDump]
    seconds: float

    @property
    def stored_bytes(self) -> int:
        """The bytes that it takes in the store."""
        return self.global_objects.bytes + sum(database.stored_bytes for database in self.databases)


def new_dump_id() -> str:
    """Make an id, as ``20261201T040000Z-3f9a2c``: it sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def key(dump_id: str, name: str = "manifest.json") -> str:
    """Return where an object of a dump is kept."""
    return f"{dump_id}/{name}"


def object_name(database: str) -> str:
    """Return a database's name as part of an object's name; two of them never become the same."""
    fit = UNFIT.sub("_", database)
    return fit if fit == database else f"{fit}-{database.encode().hex()}"


def write(access: Access, manifest: Manifest) -> str:
    """Write the manifest, which makes the dump visible."""
    return access.dumps.write(key(manifest.dump_id), manifest.model_dump_json(indent=1).encode())


def list_dumps(access: Access) -> list[str]:
    """List the ids of all dumps, oldest first: those that have a manifest."""
    found = (name.split("/") for name in access.dumps.sizes())
    return sorted(
        parts[0]
        for parts in found
        if len(parts) == 2 and parts[1] == "manifest.json" and DUMP_ID.fullmatch(parts[0])
    )


def choose(access: Access, wanted: str) -> Manifest:
    """Read the manifest of a dump by its id, or of the newest one (``LATEST``)."""
    known = list_dumps(access)
    if wanted == "LATEST" and known:
        wanted = known[-1]
    if wanted not in known:
        raise ConfigError(
            "no-dump",
            f"dump {wanted} in {access.dumps.url}",
            found=f"only {', '.join(known[-5:])}" if known else "no dump",
            expected="a finished dump",
            hint="take an id from `pgdrill dumps`, or take one with `pgdrill dump`",
        )
    return read(access, wanted)


def read(access: Access, dump_id: str) -> Manifest:
    """Read a dump's manifest, checked against the cluster."""
    place = f"{access.dumps.url}/{key(dump_id)}"
    text = access.dumps.read(key(dump_id), LARGE_DOCUMENT_BYTES)
    try:
        data = load_json(text)
        _check_version(data, place)
        manifest = read_model(Manifest, text)
        if manifest.dump_id != dump_id:
            raise ValueError(f"it is that of dump {manifest.dump_id}")  # noqa: TRY301
    except ValueError as error:
        raise BackupFault(
            "manifest-broken",
            place,
            found=f"unreadable ({error})",
            expected="the manifest pgdrill wrote",
            hint="restore the object from the bucket's versions, or take another dump",
        ) from None
    _belongs(access, manifest, place)
    return manifest


def _check_version(data: Any, place: str) -> None:
    version = data.get("version") if isinstance(data, dict) else None
    if version != MANIFEST_VERSION and isinstance(version, int):
        raise CouldNotVerify(
            "manifest-version",
            place,
            found=f"version {version}",
            expected=f"version {MANIFEST_VERSION}",
            hint="restore it with the pgdrill that took it, or with pg_restore by hand",
        )


def _belongs(access: Access, manifest: Manifest, place: str) -> None:
    """Raise unless a manifest is the cluster's, with names that pgdrill would have written.

    Names in a manifest become paths and database names.
    """
    identifier = access.cluster.server.system_identifier
    if manifest.cluster != access.cluster.name or (
        identifier and str(identifier) != manifest.system_identifier
    ):
        raise BackupFault(
            "wrong-cluster",
            place,
            found=(
                f"a dump of cluster {manifest.cluster}, system identifier"
                f" {manifest.system_identifier}"
            ),
            expected=f"cluster {access.cluster.name}" + (f", {identifier}" if identifier else ""),
            hint="give each cluster a dump.url of its own; look for what copied it there",
        )
    names = [
        manifest.global_objects.name,
        *(file.name for database in manifest.databases for file in database.files),
    ]
    bad = [name for name in names if not FILE_NAME.fullmatch(name) or ".." in name]
    if bad:
        raise BackupFault(
            "unsafe-name",
            place,
            found=f"file name {bad[0]!r}",
            expected="names that pgdrill gives",
            hint="treat the dump as tampered with",
        )
