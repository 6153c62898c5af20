"""wal-g: its commands, and the layout of its repository (tried with 3.0.8).

Layout: ``basebackups_005/<name>_backup_stop_sentinel.json`` is written last;
``basebackups_005/<name>/`` holds ``files_metadata.json`` and ``tar_partitions/``; ``wal_005/``
holds compressed segments and history files.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field

from pgdrill.config import Cluster, RepositorySettings
from pgdrill.documents import (
    DESCRIPTION_BYTES,
    LARGE_DOCUMENT_BYTES,
    NAME_BYTES,
    Bytes,
    Content,
    Instant,
    Location,
    Lsn,
    Oid,
    ServerVersion,
    SystemIdentifier,
    ToolDocument,
    as_model,
    load_json,
    read_model,
    whole_number,
)
from pgdrill.errors import BackupFault, Problem
from pgdrill.host.process import Command
from pgdrill.host.tuning import Tuning
from pgdrill.postgres.wal import ARCHIVED_NAME
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools import walg_installation, walg_listing
from pgdrill.repository.tools.base import BaseBackup, BaseBackups, BulkFetch, Entry, Fetch
from pgdrill.repository.tools.installation import Run, ToolFinding
from pgdrill.repository.tools.walg_failures import crashed_when_refused
from pgdrill.repository.wal_keys import WalKeys
from pgdrill.tool_facts.walg import FACTS

BASE = "basebackups_005"
WAL = "wal_005"
NAME = r"base_[0-9A-F]{24}(?:_D_[0-9A-F]{24})?"
SENTINEL = re.compile(rf"{BASE}/({NAME})_backup_stop_sentinel\.json")
PART = re.compile(r"[A-Za-z0-9_.-]{1,255}")
NUMBERED = re.compile(r"part_([0-9]{1,9})\.tar")
LONGEST_CHAIN = 1000  # of deltas
# After the first message wal-g sleeps a minute, then two, then four, … before it tries the same
# part again. After the second, which follows WALG_DOWNLOAD_FILE_RETRIES, it should have ended, and
# does so only once it fetches part by part and all of them fail.
HOPELESS = (
    r"Extraction error in \S+: .*(lz4: |zstd|brotli|unexpected EOF|closed pipe|checksum|magic|no"
    r" space left|invalid tar)"
    r"|retries left: -"
)
ENCRYPTION = re.compile(r"WALG_(PGP_|GPG_|LIBSODIUM_KEY|CSE_KMS_|YC_CSE_|ENVELOPE_).*")
EXIT_CODES = {1: "wal-g gave up", 74: "no such WAL in the repository", 2: "wrong arguments"}


@dataclass(frozen=True, slots=True)
class WalG:
    """The adapter for wal-g. ``binary`` is wal-g's path, ``secrets`` the AWS variables."""

    binary: str
    repository: RepositorySettings
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    facts = FACTS
    name = FACTS.name
    wal_absent_code = 74
    archived_name = ARCHIVED_NAME
    exit_codes = EXIT_CODES
    default_compression = FACTS.default_compression
    keeps_own_wal_only = True
    changed_by_marking = ("metadata.json",)
    frees_wal_alone = True

    @classmethod
    def of_cluster(cls, cluster: Cluster, program: str, secrets: Mapping[str, str]) -> WalG:
        """Return the adapter for a cluster's repository."""
        return cls(program, cluster.repository, secrets)

    def version(self) -> Command:
        """Return the command that prints ``wal-g version v3.0.8 …``."""
        return Command((self.binary, "--version"))

    def environment(self) -> dict[str, str]:
        """Return where the repository is and how to get in.

        Retries are bounded, for the default ones last longer than an RTO.
        """
        where = self.repository
        common = {
            "WALG_COMPRESSION_METHOD": where.compression or self.default_compression,
            "WALG_PREVENT_WAL_OVERWRITE": "true",
            # For wal-push: each segment by a process of its own. What 3.0.8 uploads in the
            # background for later segments is taken for archived; in a storm of switches 13
            # segments in a row were then not in the store (seen once).
            "WALG_UPLOAD_CONCURRENCY": "1",
            "WALG_S3_MAX_RETRIES": "3",
            "S3_MAX_THROTTLING_RETRY_DELAY": "2000",
        }
        if where.url.startswith("file://"):
            return {**common, "WALG_FILE_PREFIX": where.url.removeprefix("file://")}
        endpoint = (
            {"AWS_ENDPOINT": where.endpoint_url, "AWS_S3_FORCE_PATH_STYLE": "true"}
            if where.endpoint_url
            else {}
        )
        return {
            **common,
            "WALG_S3_PREFIX": where.url,
            "AWS_REGION": where.region,
            **endpoint,
            **self.secrets,
        }

    def backup(
        self,
        data_directory: Path,
        libpq: Mapping[str, str],
        home: Path,
        tuning: Tuning,
        delta_steps: int = 0,
    ) -> Command:
        """Return ``backup-push``."""
        # Its driver knows no PGHOSTADDR; a certificate that has to fit the name needs the name.
        address = (
            {}
            if libpq.get("PGSSLMODE") == "verify-full"
            else {"PGHOST": libpq.get("PGHOSTADDR") or libpq.get("PGHOST", "")}
        )
        own = {
            **self.environment(),
            **libpq,
            **address,
            "HOME": str(home),
            "WALG_DELTA_MAX_STEPS": str(delta_steps),
            "WALG_UPLOAD_CONCURRENCY": str(tuning.streams),
            "WALG_UPLOAD_DISK_CONCURRENCY": str(tuning.readers),
            "WALG_TAR_SIZE_THRESHOLD": str(tuning.part_bytes),
        }
        return Command((self.binary, "backup-push", str(data_directory)), own, EXIT_CODES)

    def label(
        self, repository: Storage, backup: BaseBackup, parts: Mapping[str, int], home: Path
    ) -> str | Command:
        """Return ``st cat`` of the label's own part, decrypted where it is encrypted."""
        folder = f"{BASE}/{backup.name}/tar_partitions/"
        key = next((key for key in parts if key.startswith(f"{folder}backup_label.tar")), "")
        own = {**self.environment(), "HOME": str(home)}
        decrypt = ("--decrypt",) if self.encrypts({**os.environ, **own}) else ()
        return (
            Command((self.binary, "st", "cat", key, "--decompress", *decrypt), own, EXIT_CODES)
            if key
            else ""
        )

    def fetch(
        self,
        backup: BaseBackup,
        into: Path,
        tablespaces: Mapping[str, Path],
        home: Path,
        streams: int,
    ) -> Fetch:
        """Return ``backup-fetch`` of the full name.

        Few retries, for a missing part never comes back by waiting.
        """
        own = {
            **self.wal_environment(home),
            "WALG_DOWNLOAD_CONCURRENCY": str(streams),
            "WALG_DOWNLOAD_FILE_RETRIES": "1",
            # file by file; restore() syncs them all at once, folders too
            "WALG_TAR_DISABLE_FSYNC": "true",
        }
        words: tuple[str, ...] = (self.binary, "backup-fetch", str(into), backup.name)
        if not tablespaces:
            return Fetch(Command(words, own, EXIT_CODES, HOPELESS))
        spec = home / "restore-spec.json"
        content: dict[str, Any] = {"base_prefix": str(into), "tablespaces": sorted(tablespaces)}
        content |= {
            oid: {"loc": str(place), "link": f"pg_tblspc/{oid}"}
            for oid, place in tablespaces.items()
        }
        return Fetch(
            Command((*words, "--restore-spec", str(spec)), own, EXIT_CODES, HOPELESS),
            {spec: json.dumps(content)},
        )

    def wal_push(self) -> tuple[str, ...]:
        """Return ``wal-push %p``."""
        return (self.binary, "wal-push", "%p")

    def wal_fetch(self) -> tuple[str, ...]:
        """Return ``wal-fetch %f %p``."""
        return (self.binary, "wal-fetch", "%f", "%p")

    def one_wal_environment(self, folder: Path) -> dict[str, str]:
        """Return no prefetching, which would go on in the background."""
        return {
            "HOME": str(folder),
            "WALG_DOWNLOAD_CONCURRENCY": "1",
            "WALG_PREFETCH_DIR": str(folder),
        }

    def wal_environment(self, home: Path) -> dict[str, str]:
        """Return a home of its own, and prefetching outside ``pg_wal``.

        Parallel wal-g processes share caches in their home.
        """
        cores = str(len(os.sched_getaffinity(0)))
        own = {
            "HOME": str(home),
            "TMPDIR": str(home),
            "WALG_PREFETCH_DIR": str(home / "prefetch"),
            "WALG_DOWNLOAD_CONCURRENCY": cores,
        }
        return {**self.environment(), **own}

    def wal_keys(self, repository: Storage) -> WalKeys:
        """Return the keys: segments and histories lie side by side."""
        return WalKeys(f"{WAL}/{{name}}", f"{WAL}/{{name}}")

    def wal_needs(
        self, repository: Storage, backup: BaseBackup | None
    ) -> Mapping[str, Callable[[], bytes]]:
        """Return nothing: it fetches from any folder."""
        return {}

    def wal_bulk(self, segment_bytes: int) -> BulkFetch:
        """Return ``wal-prefetch``, which fetches the next segments after a given one.

        ``wal-fetch`` starts it for itself in the background.
        """
        environment = {
            "WALG_DOWNLOAD_CONCURRENCY": "{count}",
            "WALG_PREFETCH_DIR": "{into}",
            **self.segment_environment(segment_bytes),
        }
        return BulkFetch(
            (self.binary, "wal-prefetch", "{before}", "{into}/x"), environment, ".wal-g/prefetch"
        )

    def segment_environment(self, segment_bytes: int) -> dict[str, str]:
        """Return the size of a segment in MiB.

        Without it wal-g refuses to back up a server with segments of another size, and reads the
        names of larger or smaller ones wrong.
        """
        return {"WALG_PG_WAL_SIZE": str(segment_bytes // 2**20)}

    def encrypts(self, environment: Mapping[str, str]) -> bool:
        """Return whether any of the settings that give wal-g a key is set."""
        return any(environment.get(name) for name in environment if ENCRYPTION.fullmatch(name))

    def backups(self, repository: Storage) -> BaseBackups:
        """Read the backups from the sentinels: no sentinel, no backup."""
        keys = {
            key: match[1]
            for key in repository.sizes(f"{BASE}/")
            if (match := SENTINEL.fullmatch(key))
        }
        texts = repository.read_all(keys, DESCRIPTION_BYTES)
        return BaseBackups.read(((keys[key], text) for key, text in texts), parse_sentinel)

    def parts(self, repository: Storage, backup: BaseBackup) -> dict[str, int]:
        """List everything below the backup's folder, with its sentinel.

        Those of the backups that a delta builds on are listed, too.
        """
        keys: dict[str, int] = {}
        for name in self._chain(repository, backup.name):
            sentinel = f"{BASE}/{name}_backup_stop_sentinel.json"
            found = repository.sizes(f"{BASE}/{name}")
            keys |= {
                key: size
                for key, size in found.items()
                if key == sentinel or key.startswith(f"{BASE}/{name}/")
            }
        return keys

    def problems(
        self, repository: Storage, backup: BaseBackup, parts: Mapping[str, int]
    ) -> list[Problem]:
        """Find parts that ``files_metadata.json`` lists and the store lacks.

        ``backup-fetch`` exits 0 without them.
        """
        found = []
        for name in self._chain(repository, backup.name):
            folder = f"{BASE}/{name}"
            stored = {
                PurePosixPath(key).name
                for key in parts
                if key.startswith(f"{folder}/tar_partitions/")
            }
            if not any(part.startswith("pg_control.tar") for part in stored):
                found.append(
                    _missing(
                        f"{repository.url}/{folder}/tar_partitions/pg_control.tar", "no such object"
                    )
                )
            if _lists_no_files(repository, name):
                found += [
                    _missing(
                        f"{repository.url}/{folder}/tar_partitions/part_{number:03}.tar",
                        "no such object",
                    )
                    for number in _lacking(stored)
                ]
                continue
            metadata = f"{repository.url}/{folder}/files_metadata.json"
            text = repository.read_listed(f"{folder}/files_metadata.json", LARGE_DOCUMENT_BYTES)
            if text is None:
                found.append(_missing(metadata, "no such object"))
                continue
            try:
                listed = read_model(FilesMetadata, text)
            except ValueError as error:
                found.append(_missing(metadata, f"no list of the backup's files: {error}"))
                continue
            expected = set(listed.parts)
            found += [
                _escape(name, file) for file in (*listed.files, *listed.parts) if _leaves(file)
            ]
            found += [_escape(name, part) for part in listed.parts if not PART.fullmatch(part)]
            for part in sorted(expected - stored):
                found.append(
                    _missing(f"{repository.url}/{folder}/tar_partitions/{part}", "no such object")
                )
            for part in sorted(
                name
                for name in stored - expected
                if not name.startswith(("pg_control.tar", "backup_label.tar"))
            ):
                found.append(_unexpected(f"{repository.url}/{folder}/tar_partitions/{part}"))
        found += [
            _missing(f"{repository.url}/{key}", "an empty object")
            for key, size in parts.items()
            if size == 0
        ]
        return found

    def catalog(self, repository: Storage) -> list[Entry]:
        """Read the catalog from one listing, and two small objects of each backup."""
        return walg_listing.catalog(repository, parse_sentinel)

    def permanent(self, repository: Storage, name: str) -> bool:
        """Return the mark that is in ``metadata.json``."""
        return walg_listing.permanent(repository, name)

    def mark(self, name: str, *, permanent: bool, home: Path) -> Command:
        """Return ``backup-mark``. The backups it builds on are marked along with it.

        A mark is taken off one by one, deltas first.
        """
        words = (self.binary, "backup-mark", *(() if permanent else ("--impermanent",)), name)
        return Command(words, {**self.environment(), "HOME": str(home)}, EXIT_CODES)

    def delete(self, name: str, *, home: Path, confirm: bool) -> Command:
        """Return ``delete target`` of a full name. Deltas that build on it go, too.

        It does not ask whether the backup is marked.
        """
        return self._delete("target", name, home=home, confirm=confirm)

    def delete_wal(self, repository: Storage, *, home: Path, confirm: bool) -> Command | None:
        """Return ``delete garbage ARCHIVES``, which looks at the WAL folder only.

        (``delete before`` takes every object of the prefix with a backup's name in it, and
        pgdrill's records of marked backups with them.)
        """
        return self._delete("garbage", "ARCHIVES", home=home, confirm=confirm)

    def named(self, output: str, keys: Mapping[str, int]) -> set[str]:
        """Read the keys from the lines ``will be deleted: <key>, from storage: default``."""
        return walg_listing.named(output)

    def crashed_when_refused(self, output: str) -> bool:
        """Return whether it crashed with SIGSEGV, as 3.0.8 does then."""
        return crashed_when_refused(output)

    def lacking(self, run: Run) -> list[str]:
        """Return the commands that its help does not list."""
        return walg_installation.lacking(self.binary, run)

    def settings(self) -> Iterator[ToolFinding]:
        """Look at its variables, its file, and what it was built without."""
        wrong: list[ToolFinding] = []
        settings = walg_installation.own_settings(wrong, self.repository.url)
        wrong += walg_installation.built_without(self.binary, settings, self.repository.compression)
        yield from wrong or [
            walg_installation.good_settings(
                settings, self.environment(), encrypted=self.encrypts(settings)
            )
        ]

    def wal_key(self, key: str) -> str:
        """Return the segment of ``wal_005/<segment>…``, or an empty string.

        The object may be compressed, partial, or a backup's history.
        """
        return walg_listing.wal_key(key)

    def _delete(self, *words: str, home: Path, confirm: bool) -> Command:
        argv = (
            *walg_listing.MERGED,
            self.binary,
            "delete",
            *words,
            *(("--confirm",) if confirm else ()),
        )
        return Command(argv, {**self.environment(), "HOME": str(home)}, EXIT_CODES)

    def _chain(self, repository: Storage, name: str) -> list[str]:
        """Return a backup's name, and those of the backups its deltas build on."""
        names = [name]
        while "_D_" in names[-1]:
            parent = parse_sentinel(
                names[-1],
                repository.read_listed(
                    f"{BASE}/{names[-1]}_backup_stop_sentinel.json", DESCRIPTION_BYTES
                ),
            ).parent
            if parent in names or len(names) > LONGEST_CHAIN:
                raise _unreadable(
                    name,
                    f"no chain of deltas: {parent} comes again, or after {LONGEST_CHAIN} others",
                )
            names.append(parent)
        return names


class Sentinel(ToolDocument):
    """The part of ``…_backup_stop_sentinel.json`` that is used.

    LSNs are integers, times are RFC 3339.
    """

    system_identifier: SystemIdentifier = Field(alias="SystemIdentifier")
    server_version: ServerVersion = Field(alias="PgVersion")
    start_lsn: Lsn = Field(alias="LSN")
    finish_lsn: Lsn = Field(alias="FinishLSN")
    start_time: Instant = Field(alias="StartTime")
    finish_time: Instant = Field(alias="FinishTime")
    uncompressed_bytes: Bytes = Field(alias="UncompressedSize")
    compressed_bytes: Bytes = Field(alias="CompressedSize")
    spec: dict[str, Any] | None = Field(None, alias="Spec")
    parent: str = Field("", alias="DeltaFrom", pattern=rf"^(?:{NAME})?$")


class Tablespaces(ToolDocument):
    """The tablespaces that a sentinel names."""

    oids: list[Oid] = Field(default_factory=list, alias="tablespaces")


class Tablespace(ToolDocument):
    """The place of a tablespace on production."""

    location: Location = Field(alias="loc")


class FilesMetadata(ToolDocument):
    """The part of ``files_metadata.json`` that is used.

    It has the names of the files, and of the parts they are in.
    """

    parts: dict[str, Any] = Field(alias="TarFileSets")
    files: dict[str, Any] = Field(alias="Files")


def parse_sentinel(name: str, text: Content) -> BaseBackup:
    """Parse a backup's sentinel. Nothing that PostgreSQL could not have written is believed."""
    try:
        data = load_json(text)
        if isinstance(data, dict):  # a full backup says null, or nothing
            data = {
                key: value for key, value in data.items() if key != "DeltaFrom" or value is not None
            }
        found = as_model(Sentinel, data)
        spec = {
            key: value
            for key, value in (found.spec or {}).items()
            if key != "tablespaces" or value is not None
        }
        spaces = {
            oid: as_model(Tablespace, spec.get(oid)).location
            for oid in as_model(Tablespaces, spec).oids
        }
        if found.finish_lsn < found.start_lsn:
            raise ValueError("it ends before it starts")  # noqa: TRY301
        if ("_D_" in name) != bool(found.parent):
            raise ValueError(  # noqa: TRY301
                f"its name and the backup that it builds on, {found.parent or 'none'}, contradict"
                " each other"
            )
        return BaseBackup(
            name=name,
            system_identifier=found.system_identifier,
            major_version=found.server_version // 10000,
            timeline=whole_number(str(int(name.removeprefix("base_")[:8], 16)), 1, 2**32 - 1),
            start_lsn=found.start_lsn,
            finish_lsn=found.finish_lsn,
            start_time=found.start_time,
            finish_time=found.finish_time,
            uncompressed_bytes=found.uncompressed_bytes,
            compressed_bytes=found.compressed_bytes,
            tablespaces=spaces,
            parent=found.parent,
        )
    except ValueError as error:
        raise _unreadable(name, str(error)) from None


def _unreadable(name: str, found: str) -> BackupFault:
    return BackupFault(
        "metadata-broken",
        f"sentinel of backup {name}",
        found=f"unreadable ({found})",
        expected="wal-g's JSON, as PostgreSQL made it",
        hint=(
            "the backup cannot be trusted: restore the object from the bucket's versions, or take a"
            " new base backup"
        ),
    )


def _lists_no_files(repository: Storage, name: str) -> bool:
    """Return whether the backup was taken with WALG_WITHOUT_FILES_METADATA.

    Its parts are then known by their numbers, and by pgdrill's record.
    """
    try:
        told = load_json(
            repository.read_listed(f"{BASE}/{name}_backup_stop_sentinel.json", DESCRIPTION_BYTES)
        )
    except ValueError:
        return False
    return isinstance(told, dict) and told.get("FilesMetadataDisabled") is True


def _lacking(stored: Iterable[str]) -> list[int]:
    """Return the numbers of parts, below the highest, that are not there."""
    numbers = {int(match[1]) for part in stored if (match := NUMBERED.match(part))}
    return sorted(set(range(1, max(numbers, default=1) + 1)) - numbers)


def _leaves(file: str) -> bool:
    """Return whether a name would leave the folder it is unpacked in, or is none."""
    return (
        ".." in PurePosixPath(file).parts
        or "\0" in file
        or len(file.encode(errors="replace")) > 4 * NAME_BYTES
    )


def _missing(thing: str, found: str) -> Problem:
    return Problem(
        "missing-part",
        thing,
        found,
        "every object that the backup's own metadata lists, with content",
        "choose another backup; find out what deletes from the bucket (lifecycle rules?); take a"
        " new base backup",
    )


def _unexpected(thing: str) -> Problem:
    return Problem(
        "unexpected-part",
        thing,
        "a part that files_metadata.json does not list; wal-g would unpack it over the others",
        "the listed parts and no others",
        "find out what writes into the bucket; take a new base backup",
    )


def _escape(backup: str, file: str) -> Problem:
    return Problem(
        "unsafe-name",
        f"file {file[:NAME_BYTES]!r} of backup {backup}",
        "a path that leaves the data directory",
        "paths below the data directory",
        "treat the repository as tampered with; do not restore this backup",
    )
