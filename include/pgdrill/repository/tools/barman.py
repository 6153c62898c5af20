"""barman-cloud: its commands, and the layout of its repository (tried with 3.19.1).

Run as programs, never imported.

Layout below the URL: ``<server>/base/<id>/backup.info`` (written last, status DONE) beside
``data.tar…`` and one archive for each tablespace; ``<server>/wals/<16 digits>/<segment>`` and
``<server>/wals/<n>.history``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import quote

from pydantic import Field

from pgdrill.config import Cluster, RepositorySettings
from pgdrill.documents import (
    DESCRIPTION_BYTES,
    LSN_END,
    Bytes,
    Content,
    Instant,
    Location,
    ServerVersion,
    SystemIdentifier,
    Timeline,
    ToolDocument,
    as_model,
    whole_number,
)
from pgdrill.errors import BackupFault, PgdrillError, Problem
from pgdrill.host.process import Command
from pgdrill.host.tuning import Tuning
from pgdrill.postgres.wal import ARCHIVED_NAME, parse_lsn
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools import barman_installation, barman_listing
from pgdrill.repository.tools.base import BaseBackup, BaseBackups, BulkFetch, Entry, Fetch
from pgdrill.repository.tools.installation import Run, ToolFinding
from pgdrill.repository.wal_keys import WalKeys
from pgdrill.tool_facts.barman import FACTS

ID = re.compile(r"[^/]+/base/([0-9]{8}T[0-9]{6})/backup\.info")
PART = re.compile(r"(data|[0-9]{1,10})(?:_([0-9]{4}))?\.tar(?:\.[A-Za-z0-9]+)?")
PLAIN = re.compile(r"\w[\w.-]*", re.ASCII)
LONGEST_LIST = 2**20  # characters that tell the tablespaces
EXIT_CODES = {
    1: "the operation failed",
    2: "the network or the store failed",
    3: "wrong arguments",
    4: "barman-cloud gave up",
}


def _database(name: str) -> str:
    """Return a database's name as barman can take it.

    Barman splits what it makes of a name at its spaces, whatever the quotes, and takes one with
    ``=`` in it for a connection string: a URL has neither spaces nor quotes.
    """
    return (
        name
        if PLAIN.fullmatch(name)
        else f"postgresql:///{quote(name, safe='')}?application_name=pgdrill"
    )


@dataclass(frozen=True, slots=True)
class BarmanCloud:
    """The adapter for barman-cloud.

    ``folder`` holds the ``barman-cloud-*`` programs, ``server`` is the name below the URL.
    """

    folder: Path
    server: str
    repository: RepositorySettings
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    facts = FACTS
    name = FACTS.name
    wal_absent_code = 1
    archived_name = ARCHIVED_NAME
    exit_codes = EXIT_CODES
    default_compression = FACTS.default_compression
    keeps_own_wal_only = False  # barman-cloud-backup-delete frees no WAL behind a kept backup
    changed_by_marking = ()
    frees_wal_alone = False

    @classmethod
    def of_cluster(cls, cluster: Cluster, program: str, secrets: Mapping[str, str]) -> BarmanCloud:
        """Return the adapter for a cluster's repository."""
        return cls(Path(program).parent, cluster.name, cluster.repository, secrets)

    def version(self) -> Command:
        """Return the command that prints ``barman-cloud-backup 3.19.1``."""
        return Command((self._program("backup"), "--version"))

    def environment(self) -> dict[str, str]:
        """Return boto3's variables."""
        return {"AWS_DEFAULT_REGION": self.repository.region, **self.secrets}

    def backup(
        self,
        data_directory: Path,
        libpq: Mapping[str, str],
        home: Path,
        tuning: Tuning,
        delta_steps: int = 0,
    ) -> Command:
        """Return ``barman-cloud-backup``, always full, with an immediate checkpoint.

        Without one it waits minutes for the next.
        """
        words = (
            self._program("backup"),
            *self._store_options(),
            "--immediate-checkpoint",
            *self._compression(),
            # the one variable of libpq's that barman overrides
            "--dbname",
            _database(libpq.get("PGDATABASE", "postgres")),
            "--jobs",
            str(tuning.streams),
            *self._place(),
        )
        return Command(words, {**self.environment(), **libpq, "HOME": str(home)}, EXIT_CODES)

    def label(
        self, repository: Storage, backup: BaseBackup, parts: Mapping[str, int], home: Path
    ) -> str | Command:
        """Return the label from ``backup.info``, which holds it as Python writes a string."""
        text = repository.read_listed(
            f"{self.server}/base/{backup.name}/backup.info", DESCRIPTION_BYTES
        )
        try:
            told = ast.literal_eval(_values(text).get("backup_label", "None"))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return ""
        return told if isinstance(told, str) else ""

    def fetch(
        self,
        backup: BaseBackup,
        into: Path,
        tablespaces: Mapping[str, Path],
        home: Path,
        streams: int,
    ) -> Fetch:
        """Return ``barman-cloud-restore``: one stream, whatever is wanted; it syncs nothing."""
        moves = [
            word
            for oid, place in tablespaces.items()
            for word in ("--tablespace", f"{backup.tablespace_names[oid]}:{place}")
        ]
        words = (
            self._program("restore"),
            *self._store_options(),
            *moves,
            *self._place(),
            backup.name,
            str(into),
        )
        return Fetch(Command(words, {**self.environment(), "HOME": str(home)}, EXIT_CODES))

    def wal_push(self) -> tuple[str, ...]:
        """Return ``barman-cloud-wal-archive … %p``."""
        return (
            self._program("wal-archive"),
            *self._store_options(),
            *self._compression(),
            *self._place(),
            "%p",
        )

    def wal_fetch(self) -> tuple[str, ...]:
        """Return ``barman-cloud-wal-restore … %f %p``.

        Its exit code 1 means absent, 4 everything else.
        """
        return (self._program("wal-restore"), *self._store_options(), *self._place(), "%f", "%p")

    def one_wal_environment(self, folder: Path) -> dict[str, str]:
        """Return a home of its own: it never fetches more than one."""
        return {"HOME": str(folder)}

    def wal_environment(self, home: Path) -> dict[str, str]:
        """Return nothing but keys and a home."""
        return {**self.environment(), "HOME": str(home)}

    def wal_keys(self, repository: Storage) -> WalKeys:
        """Return the keys: segments in a folder for each 256 of them.

        Histories lie beside those folders.
        """
        return WalKeys(f"{self.server}/wals/{{log}}/{{name}}", f"{self.server}/wals/{{name}}")

    def wal_needs(
        self, repository: Storage, backup: BaseBackup | None
    ) -> Mapping[str, Callable[[], bytes]]:
        """Return nothing: it fetches from any folder."""
        return {}

    def wal_bulk(self, segment_bytes: int) -> BulkFetch:
        """Return no command: it is not used.

        What barman fetches in parallel lies under its final name before it is whole.
        """
        return BulkFetch()

    def segment_environment(self, segment_bytes: int) -> dict[str, str]:
        """Return no variables: barman asks the server, and notes the size in ``backup.info``."""
        return {}

    def encrypts(self, environment: Mapping[str, str]) -> bool:
        """Return False: it never encrypts by itself. The store may, and decrypts what is read."""
        return False

    def backups(self, repository: Storage) -> BaseBackups:
        """Read the backups from each ``backup.info`` that says DONE."""
        keys = {
            key: match[1]
            for key in repository.sizes(f"{self.server}/base/")
            if (match := ID.fullmatch(key))
        }
        texts = repository.read_all(keys, DESCRIPTION_BYTES)
        return BaseBackups.read(((keys[key], text) for key, text in texts), parse_backup_info)

    def parts(self, repository: Storage, backup: BaseBackup) -> dict[str, int]:
        """List everything below the backup's folder."""
        return repository.sizes(f"{self.server}/base/{backup.name}/")

    def problems(
        self, repository: Storage, backup: BaseBackup, parts: Mapping[str, int]
    ) -> list[Problem]:
        """Find holes in the numbering, missing archives, empty objects.

        (``backup.info`` lists no parts: pgdrill's own record of a backup does.)
        """
        folder = f"{repository.url}/{self.server}/base/{backup.name}"
        numbers: dict[str, list[int]] = {}
        for key in parts:
            if match := PART.fullmatch(PurePosixPath(key).name):
                numbers.setdefault(match[1], []).append(int(match[2] or 0))
        found = []
        for stem in ("data", *backup.tablespaces):
            seen = numbers.get(stem, [])
            lacking = sorted(set(range(max(seen, default=0) + 1)) - set(seen))
            found += [
                _missing(f"{folder}/{stem}{f'_{n:04d}' if n else ''}.tar", "no such object")
                for n in lacking
            ]
        return found + [
            _missing(f"{repository.url}/{key}", "an empty object")
            for key, size in parts.items()
            if not size
        ]

    def catalog(self, repository: Storage) -> list[Entry]:
        """Read the catalog from one listing, and each ``backup.info``."""
        return barman_listing.catalog(repository, self.server, parse_backup_info)

    def permanent(self, repository: Storage, name: str) -> bool:
        """Return whether barman's annotation says to keep it."""
        return repository.read(f"{self.server}/base/{name}/annotations/keep") is not None

    def mark(self, name: str, *, permanent: bool, home: Path) -> Command:
        """Return ``barman-cloud-backup-keep``, with the backup's own WAL only."""
        how = ("--target", "standalone") if permanent else ("--release",)
        words = (self._program("backup-keep"), *self._store_options(), *how, *self._place(), name)
        return Command(words, {**self.environment(), "HOME": str(home)}, EXIT_CODES)

    def delete(self, name: str, *, home: Path, confirm: bool) -> Command:
        """Return ``barman-cloud-backup-delete`` of an id.

        With the oldest one goes the WAL before the next.
        """
        how = () if confirm else ("--dry-run",)
        words = (
            self._program("backup-delete"),
            *self._store_options(),
            *how,
            "--backup-id",
            name,
            *self._place(),
        )
        return Command(words, {**self.environment(), "HOME": str(home)}, EXIT_CODES)

    def delete_wal(self, repository: Storage, *, home: Path, confirm: bool) -> Command | None:
        """Return None: WAL goes with the oldest backup."""
        return None

    def named(self, output: str, keys: Mapping[str, int]) -> set[str]:
        """Read the keys from the lists and prefixes that a dry run prints."""
        return barman_listing.named(output, keys, self.repository.url)

    def crashed_when_refused(self, output: str) -> bool:
        """Return False: it says in words what the store refuses."""
        return False

    def lacking(self, run: Run) -> list[str]:
        """Return the programs that its folder lacks."""
        return barman_installation.lacking(self.folder)

    def settings(self) -> Iterator[ToolFinding]:
        """Tell the variables that are passed on."""
        yield barman_installation.passed_on(self.environment())

    def wal_key(self, key: str) -> str:
        """Return the segment of ``…/wals/<16 digits>/<segment>…``, or an empty string."""
        return barman_listing.wal_key(key)

    def _program(self, action: str) -> str:
        return str(self.folder / f"barman-cloud-{action}")

    def _place(self) -> tuple[str, str]:
        return (self.repository.url, self.server)

    def _store_options(self) -> tuple[str, ...]:
        endpoint = self.repository.endpoint_url
        return ("--endpoint-url", endpoint, "--addressing-style", "path") if endpoint else ()

    def _compression(self) -> tuple[str, ...]:
        chosen = self.repository.compression or self.default_compression
        return () if chosen == "none" else (f"--{chosen}",)


class BackupInfo(ToolDocument):
    """The part of ``backup.info`` that is used. Sizes may be missing."""

    system_identifier: SystemIdentifier = Field(alias="systemid")
    server_version: ServerVersion = Field(alias="version")
    timeline: Timeline
    start: str = Field(alias="begin_xlog")
    finish: str = Field(alias="end_xlog")
    start_time: Instant = Field(alias="begin_time")
    finish_time: Instant = Field(alias="end_time")
    size: Bytes = 0


class Tablespace(ToolDocument):
    """A tablespace. ``barman-cloud-restore`` moves it by its name, in ``name:folder``."""

    name: Annotated[
        str, Field(min_length=1, max_length=255, pattern=r"^[^:\x00-\x1f\x7f-][^:\x00-\x1f\x7f]*$")
    ]
    oid: int = Field(strict=True)
    location: Location


def parse_backup_info(name: str, text: Content) -> BaseBackup | None:
    """Parse a backup from ``backup.info`` (``key=value`` lines); None for one that is not finished.

    Nothing that PostgreSQL could not have written is believed.
    """
    try:
        values = _values(text)
        if values.get("status", "DONE") != "DONE":
            return None
        values |= {} if re.fullmatch(r"[0-9]{1,20}", values.get("size", "")) else {"size": "0"}
        found = as_model(BackupInfo, values)
        start, finish = parse_lsn(found.start), parse_lsn(found.finish)
        if not start <= finish < LSN_END:
            raise ValueError("it ends before it starts, or beyond any WAL")  # noqa: TRY301
        spaces = {
            whole_number(str(space.oid), 1, 2**32 - 1): space
            for space in _tablespaces(values.get("tablespaces", ""))
        }
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise BackupFault(
            "metadata-broken",
            f"backup.info of backup {name}",
            found=f"unreadable ({type(error).__name__}: {str(error)[:300]})",
            expected="barman's key=value lines, as PostgreSQL made them",
            hint=(
                "the backup cannot be trusted: restore the object from the bucket's versions, or"
                " take a new base backup"
            ),
        ) from None
    return BaseBackup(
        name=name,
        system_identifier=found.system_identifier,
        major_version=found.server_version // 10000,
        timeline=found.timeline,
        start_lsn=start,
        finish_lsn=finish,
        start_time=found.start_time,
        finish_time=found.finish_time,
        uncompressed_bytes=found.size,
        tablespaces={str(oid): space.location for oid, space in spaces.items()},
        tablespace_names={str(oid): space.name for oid, space in spaces.items()},
    )


def _values(text: Content) -> dict[str, str]:
    if not isinstance(text, bytes) or not text:
        raise ValueError(
            text.problem.found
            if isinstance(text, PgdrillError)
            else "no such object, or an empty one"
        )
    pairs = [line.partition("=")[::2] for line in text.decode().splitlines() if "=" in line]
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key twice")
    return values


def _tablespaces(text: str) -> list[Tablespace]:
    if len(text) > LONGEST_LIST:
        raise ValueError("an endless list of tablespaces")
    rows = ast.literal_eval(text or "None") or []
    if not isinstance(rows, list) or not all(
        isinstance(row, tuple) and len(row) == 3 for row in rows
    ):
        raise ValueError("no list of tablespaces")
    return [
        as_model(Tablespace, dict(zip(("name", "oid", "location"), row, strict=True)))
        for row in rows
    ]


def _missing(thing: str, found: str) -> Problem:
    return Problem(
        "missing-part",
        thing,
        found,
        "every archive of the backup, with content",
        "choose another backup; find out what deletes from the bucket (lifecycle rules?); take a"
        " new base backup",
    )
