"""PostgreSQL's own programs: finding them, and running them as somebody who is not root."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgdrill.errors import CouldNotVerify

QUICK_SECONDS = 60

# A restored server refuses to start if one of these settings is lower than production's.
LIMITS = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}


@functools.cache
def as_ordinary_user() -> tuple[str, ...]:
    """Return the words to put before a command that refuses to run as root.

    There are none for an ordinary user. As root a user namespace of its own gives the process
    another number without touching a file's owner.
    """
    if os.geteuid() != 0:
        return ()
    words = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
    try:
        probe = subprocess.run(
            [*words, "true"], capture_output=True, text=True, timeout=QUICK_SECONDS, check=False
        )
        refused = probe.stderr.strip() if probe.returncode else ""
    except FileNotFoundError:
        refused = "no program unshare (Debian: util-linux)"
    if refused:
        raise CouldNotVerify(
            "root",
            "PostgreSQL's servers",
            found=f"running as root and user namespaces refused ({refused})",
            expected="an ordinary user, or a kernel that allows user namespaces",
            hint=(
                "run pgdrill as an ordinary user (for example `runuser -u postgres -- …`), or allow"
                " user namespaces"
            ),
        )
    return words


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL installation's ``bin`` folder."""

    folder: Path

    def path(self, program: str) -> str:
        """Return the full path of a program.

        Raises an error that names it where it is not installed.
        """
        found = self.folder / program
        if not found.exists():
            raise CouldNotVerify(
                "binaries",
                f"{found}",
                found="no such program",
                expected="PostgreSQL's server programs",
                hint="set server.bin_dir in dr.toml to the folder that holds `postgres`",
            )
        return str(found)

    @property
    def major_version(self) -> int:
        """The major version: ``18`` for 18.6."""
        text = self.output("postgres", "--version")
        return int(re.findall(r"\d+", text)[0])

    def output(
        self, program: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> str:
        """Return what a short-running program prints.

        Raises an error with its last words if it fails.
        """
        done = subprocess.run(
            [self.path(program), *arguments],
            capture_output=True,
            text=True,
            timeout=QUICK_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
        )
        if done.returncode:
            raise CouldNotVerify(
                "postgres-program",
                program,
                found=f"exit code {done.returncode}: {done.stderr.strip()[-400:]}",
                expected="success",
                hint=f"run `{program} {' '.join(arguments)}` by hand",
            )
        return done.stdout

    @property
    def places(self) -> tuple[Path, Path] | None:
        """The folders of this installation's libraries and of its extensions' files.

        None where it does not say (no pg_config).
        """
        if not (self.folder / "pg_config").exists():
            return None
        libraries, share = self.output("pg_config", "--pkglibdir", "--sharedir").splitlines()
        return Path(libraries), Path(share)

    def control_data(self, data_directory: Path) -> ControlData:
        """Read what ``pg_control`` says of a data directory, running or not."""
        lines = (
            line.partition(":")
            for line in self.output("pg_controldata", "-D", str(data_directory)).splitlines()
        )
        return ControlData({key.strip(): value.strip() for key, _, value in lines})


def is_data_directory(folder: Path) -> bool:
    """Return True if a cluster's files are there, and this user may see so."""
    try:
        return (folder / "global" / "pg_control").is_file()
    except PermissionError:
        return False


@dataclass(frozen=True, slots=True)
class ControlData:
    """The lines of ``pg_controldata`` by their label."""

    values: Mapping[str, str]

    @property
    def system_identifier(self) -> int:
        """The number that ``initdb`` gave the cluster for life."""
        return int(self.values["Database system identifier"])

    @property
    def of_standby(self) -> bool:
        """True if these are a standby's files, running or not."""
        return self.values["Database cluster state"] in (
            "in archive recovery",
            "shut down in recovery",
        )

    @property
    def limits(self) -> dict[str, int]:
        """The server settings that a standby or restored server must not undercut."""
        return {
            name: int(self.values[label]) for label, name in LIMITS.items() if label in self.values
        }

    @property
    def wal_segment_bytes(self) -> int:
        """The size of a WAL segment file."""
        return int(self.values["Bytes per WAL segment"])
