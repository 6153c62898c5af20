"""pg_restore and its companions, run on the throw-away cluster.

Their own words are read and never waved through.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from psycopg.conninfo import make_conninfo

from pgdrill.access import Access
from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError
from pgdrill.host.process import Command, Runner
from pgdrill.host.tuning import cores
from pgdrill.logical import pg_dump
from pgdrill.logical.hands import Hands
from pgdrill.logical.manifest import DatabaseDump, Manifest, VectorIndex
from pgdrill.logical.report import DumpTimings, IndexBuild
from pgdrill.postgres.roles import Roles, make_roles
from pgdrill.postgres.server import LocalServer
from pgdrill.repository.failures import CORRUPT, RIGHTS, SPACE

Progress = Callable[[str, int, int], None]
TROUBLE = re.compile(r"^\w+(:\S*)*: (error|warning): |\b(ERROR|FATAL|PANIC):  ")
HOST = re.compile(
    r"could not resize shared memory|out of (shared )?memory|cannot allocate memory|could not"
    r" access file|extension control file|"
    r"is not available|server closed the connection|the database system is",
    re.IGNORECASE,
)


@dataclass
class Restore:
    """A dump that is being restored. Every step fills in ``timings`` and ``builds``."""

    access: Access
    manifest: Manifest
    folder: Path
    server: LocalServer
    runner: Runner
    timings: DumpTimings
    progress: Progress = lambda *_: None
    builds: list[IndexBuild] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def hands(self) -> Hands:
        """The roles that work in it."""
        return Hands.of(self.server)

    def roles(self) -> Roles:
        """Return the roles that ask of what was restored.

        They are nobody whose rights an owner's function could use.
        """
        names = [database.name for database in self.manifest.databases]
        return make_roles(self.hands.server, self.server.log_file.with_name("roles"), names)

    @property
    def jobs(self) -> int:
        """The number of parallel jobs."""
        return self.access.cluster.dump.jobs or cores()

    def archive(self, database: DatabaseDump) -> Path:
        """Return the local copy: parallel restores read it in several places at once."""
        first = self.folder / database.files[0].name
        return first if database.format == "custom" else first.parent

    def environment(self, database: str, options: str = "", *, user: str = "") -> dict[str, str]:
        """Return where the restored server is, and as whom.

        That is the cluster's superuser, if nobody else is named.
        """
        server, user = self.server, user or self.hands.superuser
        # the encoding in which it was dumped
        stored = next(
            (one.encoding for one in self.manifest.databases if one.name == database), "UTF8"
        )
        return {
            "PGHOST": str(server.socket_directory),
            "PGPORT": str(server.port),
            "PGUSER": user,
            "PGDATABASE": database,
            "PGPASSWORD": "",
            "PGSSLMODE": "disable",
            "PGAPPNAME": "pgdrill restore",
            "PGCLIENTENCODING": stored,
            "PGOPTIONS": f"{self.hands.settings(user)} {options}".strip(),
            "LC_ALL": "C",
        }


def contents(work: Restore, database: DatabaseDump) -> list[str]:
    """Return the archive's table of contents, without comments."""
    argv = (work.access.binaries.path("pg_restore"), "--list", str(work.archive(database)))
    done = run(work, Command(argv, {"LC_ALL": "C"}), f"contents of {database.name}")
    return [line for line in done if line and not line.startswith(";")]


def is_a(line: str, *kinds: str) -> bool:
    """Return whether a line of the contents is of one of these kinds.

    A line is ``3456; 1259 16543 KIND schema name owner``.
    """
    words = line.partition("; ")[2].split(" ", 2)
    return len(words) == 3 and words[2].startswith(tuple(f"{kind} " for kind in kinds))


def listed(name: str) -> str:
    """Return a name as the list of an archive's contents shows it, an entry a line."""
    return name.replace("\n", " ").replace("\r", " ")


def is_index(line: str, index: VectorIndex) -> bool:
    """Return whether a line is ``3456; 1259 16543 INDEX public items_embedding_idx owner``."""
    return (
        f" INDEX {listed(index.schema_name)} {listed(index.name)} " in f"{line} "
        and " INDEX ATTACH " not in line
    )


def use_list(work: Restore, lines: list[str]) -> str:
    listing = work.folder / "contents.list"
    listing.write_text("\n".join(lines) + "\n")
    return f"--use-list={listing}"


def pg_restore(
    work: Restore,
    database: DatabaseDump,
    words: list[str],
    *,
    options: str = "",
    connect_to: str = "",
    user: str = "",
) -> Command:
    """Return the command of pg_restore.

    It connects over the private socket, or writes a script where ``words`` say so.
    """
    name = connect_to or database.name
    to = [] if any(word.startswith("--file=") for word in words) else [as_database(name)]
    argv = (
        work.access.binaries.path("pg_restore"),
        "--no-password",
        "--no-tablespaces",
        "--verbose",
        *words,
        *to,
        str(work.archive(database)),
    )
    return Command(argv, work.environment(name, options, user=user))


def as_database(name: str) -> str:
    """Return the option for a database of that name and no other.

    These programs take a name with ``=`` in it for a connection string.
    """
    return f"--dbname={make_conninfo('', dbname=name)}"


def run(
    work: Restore,
    command: Command,
    what: str,
    *,
    seen: Callable[[str], None] = lambda _: None,
    on_bytes: Callable[[int], None] | None = None,
) -> list[str]:
    """Run a program of the restore; return stdout's lines.

    One line of trouble and it has failed, whatever its exit code.
    """
    trouble: list[str] = []

    def line(text: str) -> str | None:
        seen(text)
        own = pg_dump.words_only(text)
        if own is None or not TROUBLE.search(own):
            return None
        trouble.append(own)
        return own

    # While the server builds an index pg_restore has nothing to do: only the time limit can tell a
    # hang.
    done = pg_dump.run_unjudged(
        work.runner, command, what, work.access, on_line=line, on_bytes=on_bytes, stall_seconds=None
    )
    if done.code or trouble:
        raise restore_failure(what, trouble or [done.ended])
    return done.stdout.splitlines()


def restore_failure(what: str, lines: list[str]) -> PgdrillError:
    """Return whose fault it is that something was not restored: this host's, or the dump's."""
    text = "\n".join(lines)
    errors = [
        line for line in lines if "error" in line.lower() and "errors ignored" not in line
    ] or lines
    found = " | ".join(errors[:3]) + (f" | and {len(errors) - 3} more" if len(errors) > 3 else "")
    if SPACE.search(text):
        return CouldNotVerify(
            "no-space",
            what,
            found=found[:800],
            expected="room on the disk",
            hint="make room, or set drill.work_directory to a larger disk",
        )
    if HOST.search(text):
        return CouldNotVerify(
            "restore-host",
            what,
            found=found[:800],
            expected="a server here that can hold the dump",
            hint="give it what the message names: memory, /dev/shm, an extension's package",
        )
    if CORRUPT.search(text) or "could not read from input file" in text:
        return BackupFault(
            "dump-damaged",
            what,
            found=found[:800],
            expected="an archive that can be read to its end",
            hint="choose another dump; take a new one now",
        )
    if RIGHTS.search(text) or "must be owner" in text:
        return CouldNotVerify(
            "restore-rights",
            what,
            found=found[:800],
            expected="a dump that can be made and loaded without a superuser",
            hint=(
                "a drill lets no function of a table's owner run as superuser: see what the named"
                " object does, and restore it by hand"
            ),
        )
    return BackupFault(
        "restore-errors",
        what,
        found=found[:800],
        expected="a restore without any error",
        hint=(
            "what cannot be restored is no copy: mend the named object on production (or the target"
            " version's incompatibility), and take a new dump"
        ),
    )
