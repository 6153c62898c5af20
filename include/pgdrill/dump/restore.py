"""Restoring a dump: roles, data, vector indexes one by one with all the memory, the rest, statistics.

``pg_restore``'s own words are read and never waved through: one error and the dump has not been restored.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pgdrill.access import Access
from pgdrill.dump import client, indexes
from pgdrill.dump.manifest import DatabaseDump, DumpFile, Manifest, VectorIndex, key
from pgdrill.dump.report import DumpTimings, IndexBuild
from pgdrill.dump.schema import is_of
from pgdrill.dump.stream import download
from pgdrill.errors import BackupFault, CouldNotVerify, PgdrillError
from pgdrill.failures import CORRUPT, SPACE
from pgdrill.postgres.server import LocalServer
from pgdrill.process import Command, Runner
from pgdrill.tuning import cores

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
THERE_ALREADY = ("postgres", "template1")
TABLE = re.compile(r'processing data for table "(.+)"')
TROUBLE = re.compile(r"^\w+(:\S*)*: (error|warning): |\b(ERROR|FATAL|PANIC):  ")
HOST = re.compile(
    r"could not resize shared memory|out of (shared )?memory|cannot allocate memory|could not access file|extension control file|"
    r"is not available|server closed the connection|the database system is", re.IGNORECASE,
)  # fmt: skip
NO_LONGER_FITS = "no longer fits into maintenance_work_mem"
BUILDING = "SELECT tuples_done FROM pg_stat_progress_create_index ORDER BY pid LIMIT 1"
INDEX_BYTES = "SELECT coalesce(pg_relation_size(to_regclass(format('%%I.%%I', %s::text, %s::text))), 0)"
OTHERS_MEMORY_BYTES = 2**30


@dataclass
class Restore:
    """What restoring a dump works with; every step fills in ``timings`` and ``builds``."""

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
    def jobs(self) -> int:
        """Parallel jobs."""
        return self.access.cluster.dump.jobs or cores()

    def archive(self, database: DatabaseDump) -> Path:
        """The local copy: parallel restores read it in several places at once."""
        first = self.folder / database.files[0].name
        return first if database.format == "custom" else first.parent

    def environment(self, database: str, options: str = "") -> dict[str, str]:
        """Where the restored server is."""
        server = self.server
        return {"PGHOST": str(server.socket_directory), "PGPORT": str(server.port), "PGUSER": server.superuser,
                "PGDATABASE": database, "PGPASSWORD": "", "PGSSLMODE": "disable", "PGAPPNAME": "pgdrill restore",
                "PGOPTIONS": options, "LC_ALL": "C"}  # fmt: skip


def fetch(work: Restore) -> None:
    """Bring the dump here; anything but the manifest's sizes and digests ends it before a server sees it."""
    started, before = time.monotonic(), 0
    total = work.manifest.stored_bytes
    for file in files_of(work.manifest):
        def moved(count: int, before: int = before) -> None:
            work.progress("fetch dump", before + count, total)

        download(work.access.dumps, key(work.manifest.dump_id, file.name), file, work.folder / file.name, moved)
        before += file.bytes
    work.timings.download_seconds, work.timings.downloaded_bytes = time.monotonic() - started, before


def check_files(access: Access, manifest: Manifest) -> None:
    """Every file of the dump is listed in its size: a second, before a cluster is made for it."""
    listed = access.dumps.sizes(f"{manifest.dump_id}/")
    for file in files_of(manifest):
        name = key(manifest.dump_id, file.name)
        if listed.get(name) != file.bytes:
            gone = name not in listed
            raise BackupFault(
                "missing-part" if gone else "dump-damaged", f"{access.dumps.url}/{name}",
                found="no such object" if gone else f"{listed[name]} bytes", expected=f"{file.bytes} bytes, as the manifest says",
                mend="choose another dump; find out what changes the bucket; take a new dump",
            )  # fmt: skip


def files_of(manifest: Manifest) -> list[DumpFile]:
    """Every file of a dump, the roles first."""
    return [manifest.global_objects, *(file for database in manifest.databases for file in database.files)]


def restore(work: Restore) -> None:
    """Everything in order. The server is running and empty."""
    started = time.monotonic()
    _roles(work)
    for database in work.manifest.databases:
        _data(work, database)
        _vector_indexes(work, database)
        _others(work, database)
    _analyze(work)
    work.timings.restore_seconds = time.monotonic() - started


def _roles(work: Restore) -> None:
    """Roles before what they own. The superuser is there already; tablespaces are places of another machine."""
    started = time.monotonic()
    script = work.folder / work.manifest.global_objects.name
    lines = script.read_text().splitlines()
    kept = [line for line in lines if " TABLESPACE " not in line
            and not (line.startswith("CREATE ROLE") and is_of(work.manifest.superuser, line))]  # fmt: skip
    if spaces := sum(line.startswith("CREATE TABLESPACE") for line in lines):
        work.notes.append(f"{spaces} tablespaces are not made here: everything is in the default one")
    script.write_text("\n".join(kept) + "\n")
    argv = (work.access.binaries.path("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={script}")
    run(work, Command(argv, work.environment("postgres")), "roles")
    script.unlink()  # it may hold password hashes
    work.timings.roles_seconds = time.monotonic() - started


def _data(work: Restore, database: DatabaseDump) -> None:
    """Definitions and rows in one go: PostgreSQL writes no WAL for rows of a table that the same run made."""
    exists = database.name in THERE_ALREADY
    began: list[float] = []

    def line(text: str) -> None:
        if match := TABLE.search(text):
            began[:] = began or [time.monotonic()]
            work.progress(f"restore {match[1]}", 0, 0)

    command = pg_restore(work, database, ["--section=pre-data", "--section=data", f"--jobs={work.jobs}",
                                          *([] if exists else ["--create"])],
                         connect_to=database.name if exists else "postgres")  # fmt: skip
    run(work, command, f"rows of {database.name}", seen=line)
    seconds = time.monotonic() - began[0] if began else 0.0
    work.timings.data_seconds = (work.timings.data_seconds or 0) + seconds
    work.timings.rows = (work.timings.rows or 0) + database.rows
    logger.info("%s: %d rows in %.1f s", database.name, database.rows, seconds)


def _vector_indexes(work: Restore, database: DatabaseDump) -> None:
    """One after the other, each with the whole machine: two at once would share the memory that one of them needs."""
    listing = contents(work, database)
    for index in database.vector_indexes:
        lines = [line for line in listing if is_index(line, index)]
        if len(lines) != 1:
            raise BackupFault(
                "index-not-listed", f"index {index.schema_name}.{index.name} of {database.name}", found=f"{len(lines)} entries",
                expected="one in the archive's contents", mend="take a new dump: manifest and archive do not belong together",
            )  # fmt: skip
        build = _build(work, database, index, lines)
        work.builds.append(build)
        work.timings.vector_indexes_seconds = (work.timings.vector_indexes_seconds or 0) + build.seconds


def _build(work: Restore, database: DatabaseDump, index: VectorIndex, lines: list[str]) -> IndexBuild:
    plan = indexes.plan_build(
        index, available_bytes=indexes.available_bytes(), shared_memory_bytes=indexes.shared_memory_bytes(), cores=cores(),
        configured_bytes=work.access.cluster.dump.maintenance_work_mem_bytes,
    )  # fmt: skip
    name = f"{index.schema_name}.{index.name}"
    level = logging.INFO if plan.fits else logging.WARNING
    logger.log(level, "building %s on %d rows: %s, %d workers", name, index.rows, plan.reason, plan.workers)
    if not plan.fits:
        work.notes.append(f"{name}: {plan.reason}; its build takes several times as long")
    points: list[tuple[int, float]] = []
    overflowed = []
    started = time.monotonic()
    with work.server.connect(database.name) as watch:
        def tick(_: int) -> None:
            row = watch.execute(BUILDING).fetchone()
            if row and row[0] and (not points or row[0] > points[-1][0]):
                points.append((row[0], round(time.monotonic() - started, 3)))
                work.progress(f"build {name}", row[0], index.rows)

        def line(text: str) -> None:
            overflowed.extend([text] if NO_LONGER_FITS in text else [])

        command = pg_restore(work, database, ["--section=post-data", _listed(work, lines)], options=plan.options)
        run(work, command, f"index {name}", seen=line, on_bytes=tick)
        seconds = time.monotonic() - started
        row = watch.execute(INDEX_BYTES, (index.schema_name, index.name)).fetchone()
    hnsw = index.method == "hnsw"
    build = IndexBuild(
        database=database.name, index=name, table=index.table, method=index.method, kind=index.kind, dimensions=index.dimensions,
        m=indexes.option(index, "m") if hnsw else 0, rows=index.rows,
        ef_construction=indexes.option(index, "ef_construction") if hnsw else 0,
        seconds=round(seconds, 3), index_bytes=row[0] if row else 0, needed_bytes=plan.needed_bytes, workers=plan.workers,
        maintenance_work_mem_bytes=plan.memory_bytes, fits=plan.fits and not overflowed, points=points[-200:],
    )  # fmt: skip
    logger.info("%s: %d rows in %.1f s, %.0f rows/s", name, build.rows, build.seconds, build.rows_per_second)
    return build


def _others(work: Restore, database: DatabaseDump) -> None:
    """Keys, other indexes, triggers, policies, refreshed views: in parallel, the memory shared out."""
    started = time.monotonic()
    lines = [line for line in contents(work, database) if not any(is_index(line, index) for index in database.vector_indexes)]
    memory = max(indexes.SMALLEST_MEMORY_BYTES, min(OTHERS_MEMORY_BYTES, indexes.available_bytes() // (2 * work.jobs)))
    command = pg_restore(work, database, ["--section=post-data", f"--jobs={work.jobs}", _listed(work, lines)],
                         options=f"-c maintenance_work_mem={memory // 1024}kB")  # fmt: skip
    run(work, command, f"keys and indexes of {database.name}")
    work.timings.others_seconds = (work.timings.others_seconds or 0) + time.monotonic() - started


def _analyze(work: Restore) -> None:
    """Statistics are not in a dump, and without them no plan is the right one."""
    started = time.monotonic()
    for database in work.manifest.databases:
        argv = (work.access.binaries.path("vacuumdb"), "--analyze-only", f"--jobs={work.jobs}", "--quiet")
        run(work, Command(argv, work.environment(database.name)), f"statistics of {database.name}")
    work.timings.analyze_seconds = time.monotonic() - started


def contents(work: Restore, database: DatabaseDump) -> list[str]:
    """The archive's table of contents, without comments."""
    argv = (work.access.binaries.path("pg_restore"), "--list", str(work.archive(database)))
    done = run(work, Command(argv, {"LC_ALL": "C"}), f"contents of {database.name}")
    return [line for line in done if line and not line.startswith(";")]


def is_index(line: str, index: VectorIndex) -> bool:
    """``3456; 1259 16543 INDEX public items_embedding_idx owner``."""
    return f" INDEX {index.schema_name} {index.name} " in f"{line} " and " INDEX ATTACH " not in line


def _listed(work: Restore, lines: list[str]) -> str:
    listing = work.folder / "contents.list"
    listing.write_text("\n".join(lines) + "\n")
    return f"--use-list={listing}"


def pg_restore(work: Restore, database: DatabaseDump, words: list[str], *, options: str = "", connect_to: str = "") -> Command:
    """The command; it connects over the private socket."""
    name = connect_to or database.name
    argv = (work.access.binaries.path("pg_restore"), "--no-password", "--no-tablespaces", "--verbose", *words,
            f"--dbname={name}", str(work.archive(database)))  # fmt: skip
    return Command(argv, work.environment(name, options))


def run(
    work: Restore, command: Command, what: str, *, seen: Callable[[str], None] = lambda _: None,
    on_bytes: Callable[[int], None] | None = None,
) -> list[str]:  # fmt: skip
    """Run a program of the restore; one line of trouble and it has failed, whatever its exit code. Gives stdout's lines."""
    trouble: list[str] = []

    def line(text: str) -> str | None:
        seen(text)
        own = client.words_only(text)
        if own is None or not TROUBLE.search(own):
            return None
        trouble.append(own)
        return own

    # While the server builds an index pg_restore has nothing to do: only the time limit can tell a hang.
    done = client.run_unjudged(work.runner, command, what, work.access, on_line=line, on_bytes=on_bytes, stall_seconds=None)
    if done.code or trouble:
        raise restore_failure(what, trouble or [done.ended])
    return done.stdout.splitlines()


def restore_failure(what: str, lines: list[str]) -> PgdrillError:
    """Whose fault it is that something was not restored: this host's, or the dump's."""
    text = "\n".join(lines)
    errors = [line for line in lines if "error" in line.lower() and "errors ignored" not in line] or lines
    found = " | ".join(errors[:3]) + (f" | and {len(errors) - 3} more" if len(errors) > 3 else "")
    if SPACE.search(text):
        return CouldNotVerify("no-space", what, found=found[:800], expected="room on the disk",
                              mend="make room, or set drill.work_directory to a larger disk")  # fmt: skip
    if HOST.search(text):
        return CouldNotVerify("restore-host", what, found=found[:800], expected="a server here that can hold the dump",
                              mend="give it what the message names: memory, /dev/shm, an extension's package")  # fmt: skip
    if CORRUPT.search(text) or "could not read from input file" in text:
        return BackupFault("dump-damaged", what, found=found[:800], expected="an archive that can be read to its end",
                           mend="choose another dump; take a new one now")  # fmt: skip
    return BackupFault(
        "restore-errors", what, found=found[:800], expected="a restore without any error",
        mend="what cannot be restored is no copy: mend the named object on production (or the target version's "
        "incompatibility), and take a new dump",
    )  # fmt: skip
