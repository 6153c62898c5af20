"""The restore of a dump: roles, definitions, rows, vector indexes, the rest, statistics.

Vector indexes are built one by one with all the memory.

Whatever evaluates what owners wrote is done by a role that is no superuser: see
:mod:`pgdrill.logical.hands`. One error of ``pg_restore`` and the dump has not been restored.
"""

from __future__ import annotations

import logging
import re
import time

import psycopg

from pgdrill.access import Access
from pgdrill.errors import BackupFault
from pgdrill.host.process import Command
from pgdrill.host.tuning import cores
from pgdrill.logical import index_builds, making
from pgdrill.logical.definitions import granted_by
from pgdrill.logical.manifest import DatabaseDump, DumpFile, Manifest, VectorIndex, key
from pgdrill.logical.pg_restore import (
    Restore,
    as_database,
    contents,
    is_a,
    is_index,
    pg_restore,
    restore_failure,
    run,
    use_list,
)
from pgdrill.logical.report import IndexBuild
from pgdrill.logical.transfer import download

logger = logging.getLogger(__name__)

THERE_ALREADY = ("postgres", "template1")
PSQL_ONLY = re.compile(r"\\(un)?restrict ")  # pg_dumpall's own words to psql
# Kinds of entries after the rows that evaluate nothing and want a superuser, or an owner who may
# not make them himself.
SUPERUSERS = (
    "EVENT TRIGGER",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "SUBSCRIPTION",
    "SUBSCRIPTION TABLE",
    "STATISTICS",
    "COMMENT",
    "SECURITY LABEL",
    "ACL",
    "DEFAULT ACL",
)
TABLE = re.compile(r'processing data for table "(.+)"')
NO_LONGER_FITS = "no longer fits into maintenance_work_mem"
BUILDING = "SELECT tuples_done FROM pg_stat_progress_create_index ORDER BY pid LIMIT 1"
INDEX_BYTES = (
    "SELECT coalesce(pg_relation_size(to_regclass(format('%%I.%%I', %s::text, %s::text))), 0)"
)
OTHERS_MEMORY_BYTES = 2**30


def fetch(work: Restore) -> None:
    """Fetch the dump.

    Anything but the manifest's sizes and digests ends it before a server sees it.
    """
    started, before = time.monotonic(), 0
    total = work.manifest.stored_bytes
    for file in files_of(work.manifest):

        def moved(count: int, before: int = before) -> None:
            work.progress("fetch dump", before + count, total)

        download(
            work.access.dumps,
            key(work.manifest.dump_id, file.name),
            file,
            work.folder / file.name,
            moved,
        )
        before += file.bytes
    work.timings.download_seconds = time.monotonic() - started
    work.timings.downloaded_bytes = before


def check_files(access: Access, manifest: Manifest) -> None:
    """Check that every file of the dump is listed in its size.

    It takes a second, before a cluster is made for the dump.
    """
    listed = access.dumps.sizes(f"{manifest.dump_id}/")
    for file in files_of(manifest):
        name = key(manifest.dump_id, file.name)
        if listed.get(name) != file.bytes:
            gone = name not in listed
            raise BackupFault(
                "missing-part" if gone else "dump-damaged",
                f"{access.dumps.url}/{name}",
                found="no such object" if gone else f"{listed[name]} bytes",
                expected=f"{file.bytes} bytes, as the manifest says",
                hint="choose another dump; find out what changes the bucket; take a new dump",
            )


def files_of(manifest: Manifest) -> list[DumpFile]:
    """Return every file of a dump, the roles first."""
    return [
        manifest.global_objects,
        *(file for database in manifest.databases for file in database.files),
    ]


def restore(work: Restore) -> None:
    """Restore everything in order. The server is running and empty."""
    started = time.monotonic()
    again = _roles(work)
    later: dict[str, list[bytes]] = {}
    for database in work.manifest.databases:
        later[database.name] = _definitions(work, database)
        _data(work, database)
        _vector_indexes(work, database)
        _others(work, database)
    _analyze(work)
    _superusers(work, again, later)
    work.timings.restore_seconds = time.monotonic() - started


def _roles(work: Restore) -> list[str]:
    """Make the roles before what they own; return the lines that give them their powers back.

    Tablespaces are places of another machine, and are left out.
    """
    started = time.monotonic()
    script = work.folder / work.manifest.global_objects.name
    lines = script.read_text().splitlines()
    script.unlink()  # it may hold password hashes
    kept = [
        granted_by(line, work.manifest.superuser, work.hands.superuser)
        for line in lines
        if " TABLESPACE " not in line and not PSQL_ONLY.match(line)
    ]
    if spaces := sum(line.startswith("CREATE TABLESPACE") for line in lines):
        work.notes.append(
            f"{spaces} tablespaces are not made here: everything is in the default one"
        )
    _run_all(work, kept, "roles")
    if taken := work.hands.begin():
        logger.info(
            "while rows are loaded these roles have no power outside of their databases: %s",
            ", ".join(sorted(taken)),
        )
    work.timings.roles_seconds = time.monotonic() - started
    return [line for line in kept if line.startswith(("ALTER ROLE ", "GRANT "))]


def _run_all(work: Restore, lines: list[str], what: str) -> None:
    r"""Run SQL lines, but not by psql.

    In a script that somebody else wrote `\! …` is a command of this host.
    """
    try:
        with work.hands.server.connect("postgres") as connection:
            connection.execute("\n".join(lines).encode())
    except psycopg.Error as error:
        raise restore_failure(what, [f"error: {error}".splitlines()[0]]) from None


def _definitions(work: Restore, database: DatabaseDump) -> list[bytes]:
    """Make the database and all definitions in it; return the statements that come last."""
    if database.name not in THERE_ALREADY:
        lines = [
            line
            for line in contents(work, database)
            if is_a(line, "DATABASE", "ACL - DATABASE", "COMMENT - DATABASE")
        ]
        run(
            work,
            pg_restore(work, database, ["--create", use_list(work, lines)], connect_to="postgres"),
            f"database {database.name}",
        )
    script = work.folder / "definitions.sql"
    run(
        work,
        pg_restore(work, database, ["--section=pre-data", f"--file={script}"]),
        f"script of {database.name}",
    )
    try:
        return making.make(work.hands, database.name, script, work.runner)
    except psycopg.Error as error:
        words = error.diag.message_primary or str(error).strip()
        raise restore_failure(f"definitions of {database.name}", [f"error: {words}"]) from None
    finally:
        script.unlink()


def _data(work: Restore, database: DatabaseDump) -> None:
    """Load the rows, by a role whose rights no CHECK and no domain can use."""
    began: list[float] = []

    def line(text: str) -> None:
        if match := TABLE.search(text):
            began[:] = began or [time.monotonic()]
            work.progress(f"restore {match[1]}", 0, 0)

    command = pg_restore(
        work, database, ["--section=data", f"--jobs={work.jobs}"], user=work.hands.maker
    )
    run(work, command, f"rows of {database.name}", seen=line)
    seconds = time.monotonic() - began[0] if began else 0.0
    work.timings.data_seconds = (work.timings.data_seconds or 0) + seconds
    work.timings.rows = (work.timings.rows or 0) + database.rows
    logger.info("%s: %d rows in %.1f s", database.name, database.rows, seconds)


def _vector_indexes(work: Restore, database: DatabaseDump) -> None:
    """Build the vector indexes one after the other, each with the whole machine.

    Two at once would share the memory that one of them needs.
    """
    listing = contents(work, database)
    for index in database.vector_indexes:
        lines = [line for line in listing if is_index(line, index)]
        if len(lines) != 1:
            raise BackupFault(
                "index-not-listed",
                f"index {index.schema_name}.{index.name} of {database.name}",
                found=f"{len(lines)} entries",
                expected="one in the archive's contents",
                hint="take a new dump: manifest and archive do not belong together",
            )
        build = _build(work, database, index, lines)
        work.builds.append(build)
        work.timings.vector_indexes_seconds = (
            work.timings.vector_indexes_seconds or 0
        ) + build.seconds


def _build(
    work: Restore, database: DatabaseDump, index: VectorIndex, lines: list[str]
) -> IndexBuild:
    plan = index_builds.plan_build(
        index,
        available_bytes=index_builds.available_bytes(),
        shared_memory_bytes=index_builds.shared_memory_bytes(),
        cores=cores(),
        configured_bytes=work.access.cluster.dump.maintenance_work_mem_bytes,
    )
    name = f"{index.schema_name}.{index.name}"
    level = logging.INFO if plan.fits else logging.WARNING
    logger.log(
        level, "building %s on %d rows: %s, %d workers", name, index.rows, plan.reason, plan.workers
    )
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

        command = pg_restore(
            work,
            database,
            ["--section=post-data", use_list(work, lines)],
            options=plan.options,
            user=work.hands.maker,
        )
        run(work, command, f"index {name}", seen=line, on_bytes=tick)
        seconds = time.monotonic() - started
        row = watch.execute(INDEX_BYTES, (index.schema_name, index.name)).fetchone()
    hnsw = index.method == "hnsw"
    build = IndexBuild(
        database=database.name,
        index=name,
        table=index.table,
        method=index.method,
        kind=index.kind,
        dimensions=index.dimensions,
        m=index_builds.option(index, "m") if hnsw else 0,
        rows=index.rows,
        ef_construction=index_builds.option(index, "ef_construction") if hnsw else 0,
        seconds=round(seconds, 3),
        index_bytes=row[0] if row else 0,
        needed_bytes=plan.needed_bytes,
        workers=plan.workers,
        maintenance_work_mem_bytes=plan.memory_bytes,
        fits=plan.fits and not overflowed,
        points=points[-200:],
    )
    logger.info(
        "%s: %d rows in %.1f s, %.0f rows/s", name, build.rows, build.seconds, build.rows_per_second
    )
    return build


def _others(work: Restore, database: DatabaseDump) -> None:
    """Make keys, other indexes, triggers, policies and refreshed views.

    They are made in parallel, the memory shared out.
    """
    started = time.monotonic()
    lines = [
        line
        for line in contents(work, database)
        if not any(is_index(line, index) for index in database.vector_indexes)
        and not is_a(line, *SUPERUSERS)
    ]
    memory = max(
        index_builds.SMALLEST_MEMORY_BYTES,
        min(OTHERS_MEMORY_BYTES, index_builds.available_bytes() // (2 * work.jobs)),
    )
    command = pg_restore(
        work,
        database,
        ["--section=post-data", f"--jobs={work.jobs}", use_list(work, lines)],
        options=f"-c maintenance_work_mem={memory // 1024}kB",
        user=work.hands.maker,
    )
    run(work, command, f"keys and indexes of {database.name}")
    work.timings.others_seconds = (work.timings.others_seconds or 0) + time.monotonic() - started


def _analyze(work: Restore) -> None:
    """Analyze every database: statistics are not in a dump, and without them no plan is right."""
    started = time.monotonic()
    for database in work.manifest.databases:
        argv = (
            work.access.binaries.path("vacuumdb"),
            "--analyze-only",
            f"--jobs={work.jobs}",
            "--quiet",
            as_database(database.name),
        )
        run(
            work,
            Command(argv, work.environment(database.name, user=work.hands.maker)),
            f"statistics of {database.name}",
        )
    work.timings.analyze_seconds = time.monotonic() - started


def _superusers(work: Restore, roles: list[str], later: dict[str, list[bytes]]) -> None:
    """Give the roles their powers back, and make what only superusers may own.

    By then nothing is evaluated any more. Event triggers come last.
    """
    work.hands.end()
    _run_all(work, roles, "powers of roles")
    for database in work.manifest.databases:
        with work.hands.server.connect(database.name) as connection:
            for statement in later[database.name]:
                connection.execute(statement)
        lines = [line for line in contents(work, database) if is_a(line, *SUPERUSERS)]
        run(
            work,
            pg_restore(work, database, ["--section=post-data", use_list(work, lines)]),
            f"what superusers own in {database.name}",
        )
