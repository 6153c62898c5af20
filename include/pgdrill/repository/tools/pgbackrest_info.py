"""pgBackRest's own documents: backup.info, archive.info and a backup's manifest (2.55.1).

They are sections of lines ``key=JSON``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from pgdrill.documents import (
    DESCRIPTION_BYTES,
    LARGE_DOCUMENT_BYTES,
    LSN_END,
    NAME_BYTES,
    Bytes,
    Content,
    Location,
    Oid,
    SystemIdentifier,
    ToolDocument,
    as_model,
    load_json,
)
from pgdrill.errors import BackupFault, CouldNotVerify
from pgdrill.postgres.wal import parse_lsn
from pgdrill.repository.decoders import decoded
from pgdrill.repository.object_store import READERS, Storage
from pgdrill.repository.tools.base import BaseBackup

LABEL = r"[0-9]{8}-[0-9]{6}F(?:_[0-9]{8}-[0-9]{6}[DI])?"
ENCRYPTED = b"Salted__"
KEEP = "pgdrill-keep"  # the annotation of a backup that is marked permanent
FINISH_SECONDS = 1  # it notes whole seconds, rounded down: the backup was finished after them
SUFFIXES = {"none": "", "lz4": ".lz4", "gz": ".gz", "zst": ".zst", "bz2": ".bz2"}
FILES = "[target:file]"
Label = Annotated[str, Field(pattern=f"^{LABEL}$")]
Moment = Annotated[int, Field(ge=631152000, le=7258118400)]  # 1990 to 2200


class Listed(ToolDocument):
    """The part of a backup's line in ``backup.info`` that is used."""

    first_segment: Annotated[str, Field(pattern="^[0-9A-F]{24}$")] = Field(
        alias="backup-archive-start"
    )
    start: str = Field(alias="backup-lsn-start")
    finish: str = Field(alias="backup-lsn-stop")
    started: Moment = Field(alias="backup-timestamp-start")
    finished: Moment = Field(alias="backup-timestamp-stop")
    uncompressed_bytes: Bytes = Field(0, alias="backup-info-size")
    compressed_bytes: Bytes = Field(0, alias="backup-info-repo-size")
    parent: Annotated[str, Field(pattern=f"^({LABEL})?$")] = Field("", alias="backup-prior")
    references: list[Label] = Field(default_factory=list, alias="backup-reference")
    system: int = Field(alias="db-id", strict=True)
    annotations: dict[str, Any] = Field(default_factory=dict, alias="backup-annotation")


class System(ToolDocument):
    """A cluster that has had the stanza."""

    identifier: SystemIdentifier = Field(alias="db-system-id")
    version: Annotated[str, Field(pattern=r"^[1-9][0-9](\.[0-9]+)?$")] = Field(alias="db-version")


class Tablespace(ToolDocument):
    """A tablespace in a manifest."""

    oid: Oid = Field(alias="tablespace-id")
    location: Location = Field(alias="path")


class File(ToolDocument):
    """A file in a manifest: ``bundle`` None: an object of its own."""

    size: Bytes
    repo_size: Bytes | None = Field(None, alias="repo-size")
    bundle: Annotated[int, Field(ge=1)] | None = Field(None, alias="bni")
    offset: Bytes = Field(0, alias="bno")
    reference: Annotated[str, Field(pattern=f"^({LABEL})?$")] = ""
    blocks: Bytes = Field(0, alias="bims")

    @property
    def stored_bytes(self) -> int:
        """The bytes that it takes in the repository."""
        return self.size if self.repo_size is None else self.repo_size


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a backup, as its manifest lists them."""

    folder: str  # of all backups
    name: str
    suffix: str
    files: Mapping[str, File]

    def key(self, path: str) -> str:
        """Return the object that holds a file."""
        file = self.files[path]
        owner = f"{self.folder}/{file.reference or self.name}"
        if file.bundle is not None:
            return f"{owner}/bundle/{file.bundle}"
        return f"{owner}/{path}{'.pgbi' if file.blocks else self.suffix}"

    def content(self, repository: Storage, path: str) -> bytes:
        """Read a small file out of the repository. Raises ValueError where it cannot be."""
        if path not in self.files:
            raise ValueError(f"no {path}")
        file, arrived = self.files[path], b""
        chunks = repository.chunks(self.key(path))
        for chunk in chunks or ():
            arrived += chunk
            if len(arrived) >= file.offset + file.stored_bytes:
                break
        stored = arrived[file.offset : file.offset + file.stored_bytes]
        return b"".join(decoded([stored], self.suffix))


def sections(text: str) -> dict[str, dict[str, Any]]:
    """Read a document's sections. Raises ValueError for what is none."""
    found: dict[str, dict[str, Any]] = {}
    section: dict[str, Any] = {}
    for line in filter(None, text.split("\n")):
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], {})
            continue
        key, value = _pair(line)
        if key in section:
            raise ValueError(f"a key twice: {key[:60]!r}")
        section[key] = value
    return found


def _pair(line: str) -> tuple[str, Any]:
    """Return key and value: a file's name may hold ``=``, too, so the first JSON counts."""
    at = line.find("=")
    while at > 0:
        try:
            return line[:at], load_json(line[at + 1 :].encode())
        except json.JSONDecodeError:
            at = line.find("=", at + 1)
    raise ValueError(f"no key=value: {line[:60]!r}")


def read_info(repository: Storage, folder: str, name: str) -> dict[str, dict[str, Any]] | None:
    """Read ``<name>.info``, or its copy where that cannot be read; None where there is neither."""
    key = f"{folder}/{name}.info"
    there = [one for one in (key, f"{key}.copy") if one in repository.sizes(folder)]
    troubles = []
    for one in there:
        text = repository.read_listed(one, DESCRIPTION_BYTES)
        if text is not None and text.startswith(ENCRYPTED):
            raise CouldNotVerify(
                "encrypted-repository",
                f"{repository.url}/{one}",
                found="encrypted by pgBackRest",
                expected="a repository that pgdrill can read (it needs the listing)",
                hint=(
                    "let the store encrypt (server-side encryption, or the disk) and begin a new"
                    " stanza without repo1-cipher-type; or keep backups with wal-g, which can"
                ),
            )
        try:
            return sections(_text(text))
        except ValueError as error:
            troubles.append(str(error))
    if not there:
        return None
    raise unreadable(f"{repository.url}/{key}", "; ".join(troubles))


def _text(content: Content) -> str:
    if not isinstance(content, bytes) or not content:
        raise ValueError("no such object, or an empty one")
    return content.decode()


def parse_backup(
    name: str, line: Any, systems: Mapping[str, Any], spaces: Mapping[str, str]
) -> BaseBackup:
    """Return the backup of a line. Nothing that PostgreSQL could not have written is believed."""
    try:
        found = as_model(Listed, line)
        system = as_model(System, systems.get(str(found.system)))
        start, finish = parse_lsn(found.start), parse_lsn(found.finish)
        if not start <= finish < LSN_END:
            raise ValueError("it ends before it starts, or beyond any WAL")  # noqa: TRY301
        if ("_" in name) != bool(found.parent):
            raise ValueError("its name and the backup that it builds on contradict")  # noqa: TRY301
    except ValueError as error:
        raise unreadable(f"backup {name} in backup.info", str(error)) from None
    return BaseBackup(
        name=name,
        system_identifier=system.identifier,
        major_version=int(system.version.partition(".")[0]),
        timeline=int(found.first_segment[:8], 16),
        start_lsn=start,
        finish_lsn=finish,
        start_time=datetime.fromtimestamp(found.started, UTC),
        finish_time=datetime.fromtimestamp(found.finished + FINISH_SECONDS, UTC),
        uncompressed_bytes=found.uncompressed_bytes,
        compressed_bytes=found.compressed_bytes,
        tablespaces=spaces,
        parent=found.parent,
    )


def tablespaces(repository: Storage, keys: Iterable[str]) -> Iterator[dict[str, str] | BackupFault]:
    """Read the tablespaces of manifests, in their order, each by its beginning."""

    def one(key: str) -> dict[str, str] | BackupFault:
        try:
            text = _beginning(repository, key)
            spaces = [
                as_model(Tablespace, value)
                for value in sections(text).get("backup:target", {}).values()
                if isinstance(value, dict) and "tablespace-id" in value
            ]
        except ValueError as error:
            return unreadable(f"{repository.url}/{key}", str(error))
        return {space.oid: space.location for space in spaces}

    with ThreadPoolExecutor(READERS, "manifest") as pool:
        yield from pool.map(one, keys)


def _beginning(repository: Storage, key: str) -> str:
    """Return a manifest up to its list of files, which may be long."""
    arrived, mark = b"", f"\n{FILES}\n".encode()
    for chunk in repository.chunks(key, chunk_bytes=2**16) or ():
        arrived += chunk
        if mark in arrived:
            return arrived.partition(mark)[0].decode()
        if len(arrived) > DESCRIPTION_BYTES:
            break
    raise ValueError(f"no {FILES} in it" if arrived else "no such object, or an empty one")


def read_manifest(repository: Storage, folder: str, name: str) -> Manifest:
    """Read a backup's manifest. Raises :class:`BackupFault` where it cannot be read."""
    key = f"{folder}/{name}/backup.manifest"
    try:
        found = sections(_text(repository.read_listed(key, LARGE_DOCUMENT_BYTES)))
        kind = found.get("backup:option", {}).get("option-compress-type", "none")
        if kind not in SUFFIXES:
            raise ValueError(f"an unknown compression: {str(kind)[:60]!r}")  # noqa: TRY301
        listed = found.get(FILES.strip("[]"), {})
        files = {path: as_model(File, value) for path, value in listed.items()}
        if not files:
            raise ValueError("no files")  # noqa: TRY301
    except ValueError as error:
        raise unreadable(f"{repository.url}/{key}", str(error)) from None
    return Manifest(folder, name, SUFFIXES[kind], files)


def leaves(path: str) -> bool:
    """Return whether a name would leave the folder it is restored in, or is none."""
    return (
        ".." in PurePosixPath(path).parts
        or not re.match(r"pg_data/|pg_tblspc/[0-9]+/", path)
        or "\0" in path
        or len(path.encode(errors="replace")) > 4 * NAME_BYTES
    )


def unreadable(thing: str, found: str) -> BackupFault:
    """Return the error for a document that cannot be believed."""
    return BackupFault(
        "metadata-broken",
        thing,
        found=f"unreadable ({found[:300]})",
        expected="pgBackRest's key=JSON lines, as PostgreSQL made them",
        hint=(
            "the backup cannot be trusted: restore the object from the bucket's versions, or take a"
            " new base backup"
        ),
    )
