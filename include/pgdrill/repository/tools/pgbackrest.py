"""pgBackRest: its commands, and the layout of its repository (tried with 2.55.1).

Run without a file of settings: everything comes by its variables.

Layout below the URL, the stanza being the cluster's name: ``backup/<stanza>/backup.info`` lists the
finished backups; ``backup/<stanza>/<label>/`` holds ``backup.manifest``, bundles of small files and
large files by themselves; ``archive/<stanza>/<version>-<n>/<16 digits>/`` holds segments with a
digest behind their names, and histories lie beside those folders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pgdrill.config import Cluster, RepositorySettings
from pgdrill.documents import NAME_BYTES
from pgdrill.errors import BackupFault, Problem
from pgdrill.host.process import Command
from pgdrill.host.tuning import Tuning
from pgdrill.repository.decoders import Undecodable
from pgdrill.repository.object_store import Storage
from pgdrill.repository.tools import pgbackrest_info as info
from pgdrill.repository.tools import pgbackrest_installation as installation
from pgdrill.repository.tools import pgbackrest_listing as listing
from pgdrill.repository.tools.base import BaseBackup, BaseBackups, BulkFetch, Entry, Fetch
from pgdrill.repository.tools.installation import Run, ToolFinding
from pgdrill.repository.wal_keys import WalKeys
from pgdrill.tool_facts.pgbackrest import FACTS

SCRIPT = Path(__file__).with_name("pgbackrest.sh")
COMPRESSIONS = {"lz4": "lz4", "zstd": "zst", "gzip": "gz", "none": "none"}
CONTROL = "pg1/global/pg_control"  # by it archive-get knows whose WAL it fetches
ARCHIVED = re.compile(
    r"([0-9A-F]{24}|[0-9A-F]{8}\.history)(?:-[0-9a-f]{40})?(?:\.(?!partial|backup)[a-z0-9]{1,8})?"
)
NO_ARCHIVE = "none"  # where no stanza is yet, and so no WAL
SHOWN_PROBLEMS = 100
EXIT_CODES = {
    1: "no such WAL in the repository",
    29: "a file cannot be restored",
    42: "a file cannot be read",
    55: "a file is missing",
    103: "no valid repository",
}


@dataclass(frozen=True, slots=True)
class PgBackRest:
    """The adapter for pgBackRest. ``binary`` is its path, ``secrets`` the AWS variables."""

    binary: str
    stanza: str
    data_directory: Path
    repository: RepositorySettings
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    facts = FACTS
    name = FACTS.name
    wal_absent_code = 1
    exit_codes = EXIT_CODES
    default_compression = FACTS.default_compression
    archived_name = ARCHIVED
    keeps_own_wal_only = True
    changed_by_marking = ()  # an annotation is in backup.info
    frees_wal_alone = True

    @classmethod
    def of_cluster(cls, cluster: Cluster, program: str, secrets: Mapping[str, str]) -> PgBackRest:
        """Return the adapter for a cluster's repository."""
        directory = cluster.server.data_directory
        return cls(program, cluster.name, directory, cluster.repository, secrets)

    def version(self) -> Command:
        """Return the command that prints ``pgBackRest 2.55.1``."""
        return Command((self.binary, "version"))

    def environment(self) -> dict[str, str]:
        """Return where the repository is, and what is alike for all commands."""
        where = self.repository
        url = urlsplit(where.url)
        common = {
            "PGBACKREST_STANZA": self.stanza,
            "PGBACKREST_PG1_PATH": str(self.data_directory),
            "PGBACKREST_COMPRESS_TYPE": COMPRESSIONS[where.compression or self.default_compression],
            "PGBACKREST_REPO1_PATH": url.path or "/",
            "PGBACKREST_LOG_LEVEL_FILE": "off",
            "PGBACKREST_LOG_LEVEL_CONSOLE": "off",
            "PGBACKREST_LOG_LEVEL_STDERR": "warn",
        }
        if url.scheme == "file":
            return {**common, "PGBACKREST_REPO1_TYPE": "posix"}
        endpoint = where.endpoint_url.removeprefix("https://").rstrip("/")
        return {
            **common,
            "PGBACKREST_REPO1_TYPE": "s3",
            "PGBACKREST_REPO1_S3_BUCKET": url.netloc,
            "PGBACKREST_REPO1_S3_REGION": where.region,
            "PGBACKREST_REPO1_S3_ENDPOINT": endpoint or f"s3.{where.region}.amazonaws.com",
            "PGBACKREST_REPO1_S3_URI_STYLE": "path" if endpoint else "host",
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
        """Return ``backup``, always full and from its beginning, with an immediate checkpoint.

        pgdrill itself waits for the WAL, and nothing is expired behind its back.
        """
        own = {
            "PGBACKREST_PG1_PATH": str(data_directory),
            "PGBACKREST_PG1_DATABASE": libpq.get("PGDATABASE", "postgres"),
            "PGBACKREST_PG1_PORT": libpq.get("PGPORT", "5432"),
            "PGBACKREST_PROCESS_MAX": str(tuning.streams),
            "PGBACKREST_REPO1_BUNDLE": "y",
            "PGBACKREST_START_FAST": "y",
            "PGBACKREST_RESUME": "n",
            "PGBACKREST_ARCHIVE_CHECK": "n",
            "PGBACKREST_EXPIRE_AUTO": "n",
        }
        return self._command("backup", "--type=full", home=home, more={**libpq, **own})

    def label(
        self, repository: Storage, backup: BaseBackup, parts: Mapping[str, int], home: Path
    ) -> str | Command:
        """Return the label's own file, which the manifest leads to."""
        manifest = info.read_manifest(repository, self._backups, backup.name)
        try:
            return manifest.content(repository, "pg_data/backup_label").decode()
        except (ValueError, Undecodable):
            return ""

    def fetch(
        self,
        backup: BaseBackup,
        into: Path,
        tablespaces: Mapping[str, Path],
        home: Path,
        streams: int,
    ) -> Fetch:
        """Return ``restore`` of a label, without recovery settings: pgdrill writes them.

        It does not try again what failed: a damaged bundle never comes right by waiting.
        """
        moves = (f"--tablespace-map={oid}={place}" for oid, place in tablespaces.items())
        more = {
            "PGBACKREST_PG1_PATH": str(into),
            "PGBACKREST_PROCESS_MAX": str(streams),
            "PGBACKREST_JOB_RETRY": "0",
        }
        words = ("restore", "--type=preserve", f"--set={backup.name}", *moves)
        return Fetch(self._command(*words, home=home, more=more))

    def wal_push(self) -> tuple[str, ...]:
        """Return ``archive-push %p``, which makes the stanza where there is none."""
        return (*self._words(), "archive-push", "%p")

    def wal_fetch(self) -> tuple[str, ...]:
        """Return ``archive-get %f %p``."""
        return (*self._words(), "archive-get", "%f", "%p")

    def one_wal_environment(self, folder: Path) -> dict[str, str]:
        """Return a home of its own: it never fetches more than one."""
        return {"HOME": str(folder)}

    def wal_environment(self, home: Path) -> dict[str, str]:
        """Return where :data:`CONTROL` lies, instead of the data directory."""
        return {**self.environment(), "PGBACKREST_PG1_PATH": str(home / "pg1"), "HOME": str(home)}

    def wal_keys(self, repository: Storage) -> WalKeys:
        """Return the keys below the archive of the cluster as it is now.

        A major version, or a new cluster in its place, has a folder of its own.
        """
        told = info.read_info(repository, f"archive/{self.stanza}", "archive") or {}
        now = told.get("db", {})
        number, version = (str(now.get(name, "")) for name in ("db-id", "db-version"))
        known = re.fullmatch(r"[1-9][0-9.]*-[1-9][0-9]*", archive := f"{version}-{number}")
        folder = f"archive/{self.stanza}/{archive if known else NO_ARCHIVE}"
        return WalKeys(f"{folder}/{{log}}/{{name}}", f"{folder}/{{name}}", exact=False)

    def wal_needs(
        self, repository: Storage, backup: BaseBackup | None
    ) -> Mapping[str, Callable[[], bytes]]:
        """Return pg_control, out of the backup."""
        if backup is None:
            backup = max(self.backups(repository), key=lambda one: one.finish_time, default=None)
        if backup is None:
            return {}
        name = backup.name
        return {CONTROL: lambda: self._control(repository, name)}

    def _control(self, repository: Storage, name: str) -> bytes:
        manifest = info.read_manifest(repository, self._backups, name)
        try:
            return manifest.content(repository, "pg_data/global/pg_control")
        except (ValueError, Undecodable) as error:
            raise BackupFault(
                "corrupt-part",
                f"global/pg_control of backup {name} in {repository.url}",
                found=str(error),
                expected="a part that unpacks",
                hint=(
                    "choose another backup; find out what changes the repository; take a new base"
                    " backup"
                ),
            ) from None

    def wal_bulk(self, segment_bytes: int) -> BulkFetch:
        """Return no command: what is fetched ahead is read by pgdrill itself."""
        return BulkFetch()

    def segment_environment(self, segment_bytes: int) -> dict[str, str]:
        """Return no variables: it reads the size in pg_control."""
        return {}

    def encrypts(self, environment: Mapping[str, str]) -> bool:
        """Return whether the repository has a cipher."""
        return environment.get(installation.CIPHER, "none") != "none"

    def backups(self, repository: Storage) -> BaseBackups:
        """Read the backups from ``backup.info``."""
        return listing.backups(repository, self._backups)

    def parts(self, repository: Storage, backup: BaseBackup) -> dict[str, int]:
        """List everything below the backup's folder, and those of backups that it builds on."""
        names = [backup.name, *self._references(repository, backup.name)]
        found: dict[str, int] = {}
        for name in dict.fromkeys(names):
            found |= repository.sizes(f"{self._backups}/{name}/")
        return found

    def _references(self, repository: Storage, name: str) -> list[str]:
        line = listing.listed(repository, self._backups).get(name, {})
        told: Any = line.get("backup-reference") or []
        return [one for one in told if re.fullmatch(info.LABEL, str(one))]

    def problems(
        self, repository: Storage, backup: BaseBackup, parts: Mapping[str, int]
    ) -> list[Problem]:
        """Find objects that the manifest needs, and that are gone or too short."""
        try:
            manifest = info.read_manifest(repository, self._backups, backup.name)
        except BackupFault as error:
            return [error.problem]
        found: dict[str, Problem] = {}
        for path, file in manifest.files.items():
            if info.leaves(path):
                return [_escape(backup.name, path)]
            if not file.size:
                continue  # nothing is stored of an empty file
            key, end = manifest.key(path), file.offset + file.stored_bytes
            if len(found) < SHOWN_PROBLEMS and parts.get(key, -1) < end and key not in found:
                what = f"{parts[key]} bytes of {end} or more" if key in parts else "no such object"
                found[key] = _missing(f"{repository.url}/{key}", what)
        return list(found.values())

    def catalog(self, repository: Storage) -> list[Entry]:
        """Read the catalog from one listing, ``backup.info`` and the manifests."""
        return listing.catalog(repository, self._backups)

    def permanent(self, repository: Storage, name: str) -> bool:
        """Return whether pgdrill's annotation is there. It counts as there if that is not known."""
        try:
            return listing.kept(listing.listed(repository, self._backups).get(name))
        except BackupFault:
            return True

    def mark(self, name: str, *, permanent: bool, home: Path) -> Command:
        """Return ``annotate``. Of pgBackRest's own it keeps no backup from being expired."""
        annotation = f"--annotation={info.KEEP}={'yes' if permanent else ''}"
        return self._command("annotate", f"--set={name}", annotation, home=home)

    def delete(self, name: str, *, home: Path, confirm: bool) -> Command:
        """Return ``expire`` of one label. What builds on it goes, too, and no WAL."""
        return self._expire(f"--set={name}", home=home, confirm=confirm)

    def delete_wal(self, repository: Storage, *, home: Path, confirm: bool) -> Command | None:
        """Return ``expire`` that counts full backups: as many as keep their WAL from there on.

        Of older ones it leaves the WAL that each needs itself.
        """
        count = listing.fulls_to_reach(listing.listed(repository, self._backups))
        if not count:
            return None
        words = ("--repo1-retention-archive-type=full", f"--repo1-retention-archive={count}")
        return self._expire(*words, home=home, confirm=confirm)

    def named(self, output: str, keys: Mapping[str, int]) -> set[str]:
        """Read labels and ranges of WAL from its messages."""
        return listing.named(output, keys, self.stanza)

    def crashed_when_refused(self, output: str) -> bool:
        """Return False: it says in words what the store refuses."""
        return False

    def lacking(self, run: Run) -> list[str]:
        """Return the commands that its help does not list."""
        return installation.lacking(self.binary, run)

    def settings(self) -> Iterator[ToolFinding]:
        """Look at the variables that are passed on, and refuse a cipher."""
        yield from installation.settings(self.environment())

    def wal_key(self, key: str) -> str:
        """Return the segment of ``archive/…/<segment>…``, or an empty string."""
        return listing.wal_key(key)

    @property
    def _backups(self) -> str:
        return f"backup/{self.stanza}"

    def _words(self) -> tuple[str, ...]:
        return ("sh", str(SCRIPT), self.binary)

    def _command(self, *words: str, home: Path, more: Mapping[str, str] | None = None) -> Command:
        own = {"HOME": str(home), "PGBACKREST_LOCK_PATH": str(home / "lock")}
        environment = {**self.environment(), **(more or {}), **own}
        return Command((*self._words(), *words), environment, EXIT_CODES)

    def _expire(self, *words: str, home: Path, confirm: bool) -> Command:
        """Return ``expire`` of what is said, whatever else this host's variables would keep."""
        stages = () if confirm else ("--dry-run",)
        kept = (
            ("full", "diff")
            if "retention-archive" in " ".join(words)
            else ("full", "diff", "archive")
        )
        without = (f"--reset-repo1-retention-{name}" for name in kept)
        more = {"PGBACKREST_LOG_LEVEL_CONSOLE": "info"}
        return self._command("expire", *stages, *without, *words, home=home, more=more)


def _missing(thing: str, found: str) -> Problem:
    return Problem(
        "missing-part",
        thing,
        found,
        "every object that the backup's manifest needs, whole",
        "choose another backup; find out what deletes from the bucket (lifecycle rules?); take a"
        " new base backup",
    )


def _escape(backup: str, path: str) -> Problem:
    return Problem(
        "unsafe-name",
        f"file {path[:NAME_BYTES]!r} of backup {backup}",
        "a path that leaves the data directory",
        "paths below the data directory",
        "treat the repository as tampered with; do not restore this backup",
    )
