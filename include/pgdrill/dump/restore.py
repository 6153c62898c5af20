"""Restoring a dump: roles, data, vector indexes one by one with all the memory, the rest, statistics.

One error of ``pg_restore`` and the dump has not been restored.
"""

from __future__ import annotations

import logging
import re
import time

import psycopg

from pgdrill.access import Access
from pgdrill.dump import indexes
from pgdrill.dump.manifest import DatabaseDump, DumpFile, Manifest, VectorIndex, key
from pgdrill.dump.pgrestore import (
    Restore,
    as_database,
    contents,
    is_index,
    pg_restore,
    restore_failure,
    run,
    use_list,
)
from pgdrill.dump.report import IndexBuild
from pgdrill.dump.schema import is_of
from pgdrill.dump.stream import download
from pgdrill.errors import BackupFault
from pgdrill.process import Command
from pgdrill.tuning import cores

logger = logging.getLogger(__name__)

THERE_ALREADY = ("postgres", "template1")
PSQL_ONLY = re.compile(r"\\(un)?restrict ")  # pg_dumpall's own words to psql
TABLE = re.compile(r'processing data for table "(.+)"')
NO_LONGER_FITS = "no longer fits into maintenance_work_mem"
BUILDING = "SELECT tuples_done FROM pg_stat_progress_create_index ORDER BY pid LIMIT 1"
INDEX_BYTES = "SELECT coalesce(pg_relation_size(to_regclass(format('%%I.%%I', %s::text, %s::text))), 0)"
OTHERS_MEMORY_BYTES = 2**30


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
    kept = [line for line in lines if " TABLESPACE " not in line and not PSQL_ONLY.match(line)
            and not (line.startswith("CREATE ROLE") and is_of(work.manifest.superuser, line))]  # fmt: skip
    if spaces := sum(line.startswith("CREATE TABLESPACE") for line in lines):
        work.notes.append(f"{spaces} tablespaces are not made here: everything is in the default one")
    script.unlink()  # it may hold password hashes
    # Not by psql: in a script that somebody else wrote `\! …` is a command of this host.
    try:
        with work.server.connect("postgres") as connection:
            connection.execute("\n".join(kept).encode())
    except psycopg.Error as error:
        raise restore_failure("roles", [f"error: {error}".splitlines()[0]]) from None
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

        command = pg_restore(work, database, ["--section=post-data", use_list(work, lines)], options=plan.options)
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
    command = pg_restore(work, database, ["--section=post-data", f"--jobs={work.jobs}", use_list(work, lines)],
                         options=f"-c maintenance_work_mem={memory // 1024}kB")  # fmt: skip
    run(work, command, f"keys and indexes of {database.name}")
    work.timings.others_seconds = (work.timings.others_seconds or 0) + time.monotonic() - started


def _analyze(work: Restore) -> None:
    """Statistics are not in a dump, and without them no plan is the right one."""
    started = time.monotonic()
    for database in work.manifest.databases:
        argv = (work.access.binaries.path("vacuumdb"), "--analyze-only", f"--jobs={work.jobs}", "--quiet", as_database(database.name))
        run(work, Command(argv, work.environment(database.name)), f"statistics of {database.name}")
    work.timings.analyze_seconds = time.monotonic() - started
