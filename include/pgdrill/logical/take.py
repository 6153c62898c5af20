"""The logical dump: every database is dumped from one snapshot each.

First the server is looked at; the manifest is written last.

pg_dump itself makes no query of a user's table: it asks the catalogs with an empty search path, and
reads rows by ``COPY table (columns) TO stdout``, which plans nothing. Only a foreign table it would
query, and those are left out of its default. What is counted and digested besides goes by the same
rule: see :mod:`pgdrill.postgres.guarded`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import sql

from pgdrill.access import Access
from pgdrill.baseline import extension_versions, filled_databases
from pgdrill.errors import ConfigError
from pgdrill.host.core_dumps import no_core_files
from pgdrill.host.lock import WAIT_SECONDS, ClusterLock, lease_for, this_process
from pgdrill.host.process import Command, Runner
from pgdrill.host.tuning import cores
from pgdrill.logical import cleanup, content, pg_dump
from pgdrill.logical import manifest as manifests
from pgdrill.logical.definitions import objects
from pgdrill.logical.manifest import DatabaseDump, DumpFile, Manifest
from pgdrill.logical.pg_dump import Archive
from pgdrill.logical.restore import check_files
from pgdrill.logical.transfer import Upload, upload_file
from pgdrill.postgres.admitted import check_admitted
from pgdrill.postgres.guarded import Guard
from pgdrill.postgres.prepared import check_readable
from pgdrill.recovery.sweep import sweep_first
from pgdrill.recovery.workspace import Workspace
from pgdrill.repository.archiver import check_server
from pgdrill.repository.leases import alone
from pgdrill.vectors.labels import LabelError, parse_label, read_comments

logger = logging.getLogger(__name__)

SAID_EVERY_SECONDS = 10.0  # which table is being dumped: hundreds of small ones are no news

Progress = Callable[[str, int, int], None]
TABLE = re.compile(r'dumping contents of table "(.+)"')

SERVER = """
SELECT current_setting('server_version'), current_setting('server_version_num')::int,
       pg_is_in_recovery(),
       current_setting('data_checksums') = 'on', current_setting('hot_standby_feedback'),
       (SELECT setting::bigint FROM pg_settings WHERE name = 'max_standby_streaming_delay'),
       coalesce((SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'), '')
"""
DATABASE = """
SELECT pg_encoding_to_char(encoding), datlocprovider::text, datcollate, datctype,
       pg_database_size(oid)
FROM pg_database WHERE datname = current_database()
"""
SNAPSHOT = """
SELECT pg_export_snapshot(),
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_lsn() END::text,
       transaction_timestamp()
"""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server that is dumped."""

    identifier: int
    version: str
    version_num: int
    standby: bool
    checksums: bool
    preload_libraries: str


@dataclass(frozen=True, slots=True)
class Dumping:
    """A dump on its way: whose, under which name, with which folder for what the tools write."""

    access: Access
    dump_id: str
    home: Path
    facts: ServerFacts
    runner: Runner
    progress: Progress

    def key(self, name: str) -> str:
        """Where a file of the dump lies in the store."""
        return manifests.key(self.dump_id, name)

    def claim(self) -> None:
        """Keep the folder for one more step: each may take its whole time."""
        _claim(self.access, self.home)


def take_dump(
    access: Access,
    *,
    databases: tuple[str, ...] = (),
    runner: Runner | None = None,
    progress: Progress = lambda *_: None,
) -> Manifest:
    """Take a dump. One that fails or is stopped on the way is taken back, and nobody sees it.

    It counts once it has been restored.
    """
    runner = runner or Runner()
    dump_id = manifests.new_dump_id()
    home = access.cluster.state_directory / "dumping" / dump_id
    lock = ClusterLock(access.cluster.state_directory / "dump.lock")
    no_core_files()
    sweep_first(access)
    _claim(access, home)
    try:
        with (
            lock.hold(lease_for("dump", home, access.cluster.dump.timeout_seconds, this_process())),
            alone(access, "dump", wait_seconds=WAIT_SECONDS, over=frozenset({"dump"})),
        ):
            work = Dumping(access, dump_id, home, _server(access), runner, progress)
            cleanup.clear(access, keep=dump_id)
            names = _databases(
                access,
                databases or access.cluster.dump.databases or access.cluster.server.databases,
            )
            try:
                manifest = _dump(work, names)
            except BaseException:
                cleanup.take_back(access, dump_id)
                raise
            lock.release("dump")
    finally:
        Workspace(home).destroy()
    return manifest


def _claim(access: Access, home: Path) -> None:
    Workspace(home).claim(
        "dump", time.time() + access.cluster.dump.timeout_seconds, owner=this_process()
    )


def _dump(work: Dumping, names: tuple[str, ...]) -> Manifest:
    access, facts = work.access, work.facts
    began, started = time.monotonic(), datetime.now(UTC)
    compression = pg_dump.compression_for(access.binaries, access.cluster.dump.compression)
    global_objects = _globals(work)
    dumped = [_database(work, name, compression) for name in names]
    manifest = Manifest(
        dump_id=work.dump_id,
        cluster=access.cluster.name,
        system_identifier=str(facts.identifier),
        server_version=facts.version,
        server_major=facts.version_num // 10000,
        from_standby=facts.standby,
        host=socket.gethostname(),
        pg_dump_version=access.binaries.output("pg_dump", "--version").strip(),
        started_at=started,
        ended_at=datetime.now(UTC),
        superuser=access.cluster.server.superuser,
        data_checksums=facts.checksums,
        preload_libraries=facts.preload_libraries,
        global_objects=global_objects,
        role_passwords=access.cluster.dump.role_passwords,
        databases=dumped,
        seconds=round(time.monotonic() - began, 3),
    )
    check_files(access, manifest)
    work.runner.check()  # all is sent, and still nobody wants it any more
    where = manifests.write(access, manifest)
    logger.info(
        "dump %s: %d databases, %.1f MB stored, manifest %s",
        work.dump_id,
        len(dumped),
        manifest.stored_bytes / 1e6,
        where,
    )
    return manifest


def _server(access: Access) -> ServerFacts:
    """Check and describe the server.

    It has to be the right one, not newer than pg_dump, and a standby only if it lets a long
    snapshot live.
    """
    source = access.dumped
    with source.connect() as connection:
        identifier = check_server(connection, source.cluster)
        row = connection.execute(SERVER).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    version, number, standby, checksums, feedback, delay_ms, preload = row
    pg_dump.check_versions(access.binaries, number)
    if standby and feedback != "on" and 0 <= delay_ms < 1000 * access.cluster.dump.timeout_seconds:
        raise ConfigError(
            "standby-conflict",
            f"standby of cluster {access.cluster.name}",
            found=f"hot_standby_feedback off and max_standby_streaming_delay {delay_ms} ms",
            expected="a standby that does not cancel the dump when it replays what vacuum removed",
            hint=(
                "set hot_standby_feedback = on there, or max_standby_streaming_delay to -1 or above"
                " dump.timeout_seconds"
            ),
        )
    return ServerFacts(identifier, version, number, standby, checksums, preload)


def _databases(access: Access, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the databases that are wanted, or all that are filled; the role is let into each."""
    with access.dumped.connect() as connection:
        names = wanted or filled_databases(connection)
        check_admitted(connection, access.cluster.name, names)
    return names


def _globals(work: Dumping) -> DumpFile:
    access = work.access
    with access.dumped.connect() as connection:
        # names of all databases' roles
        env = {**pg_dump.environment(connection), "PGCLIENTENCODING": "UTF8"}
    command = pg_dump.globals_command(
        access.binaries, env, passwords=access.cluster.dump.role_passwords
    )
    name = "globals.sql"
    upload = Upload(access.dumps, work.key(name), expected_bytes=0, moved=lambda _: None)
    pg_dump.run(work.runner, command, f"roles of {access.cluster.name}", access, on_stdout=upload)
    return upload.file(name)


def _database(work: Dumping, name: str, compression: str) -> DatabaseDump:
    work.claim()
    began, access = time.monotonic(), work.access
    settings = access.cluster.dump
    archive = Archive(settings.format, compression, settings.jobs or cores())
    key = secrets.token_hex(16)
    with _snapshot(access, name) as (connection, snapshot, lsn, at):
        encoding, provider, collate, ctype, size = _one(connection, DATABASE)
        extensions = extension_versions(connection)
        labels = dict(_labels(connection))
        sequences = content.read_sequences(connection)
        logger.info("%s: reading what its snapshot holds", name)
        with contextlib.closing(access.dumped.connect(name)) as catalogs:
            content.prepare(catalogs)
            limit = access.cluster.drill.baseline_table_bytes
            tables, not_dumped = content.read_tables(
                connection, Guard(catalogs), key, limit, standby=work.facts.standby
            )
        indexes = content.read_vector_indexes(connection, tables)
        large_objects = content.read_large_objects(connection, key)
        env = pg_dump.environment(connection)
        defined = definitions(
            access,
            pg_dump.schema_command(
                access.binaries, env, snapshot, int(settings.lock_wait_seconds * 1000)
            ),
            f"definitions of {name}",
            work.runner,
        )
        command = pg_dump.dump_command(
            access.dumped,
            env,
            archive,
            snapshot,
            work.home / "dump" if settings.format == "directory" else None,
        )
        files = _run(work, name, command, expected_bytes=size)
        with access.dumped.connect(name) as afterwards:
            content.prepare(afterwards)
            ranges = content.between(sequences, content.read_sequences(afterwards))
    return DatabaseDump(
        name=name,
        format=settings.format,
        compression=compression,
        files=files,
        command=[*command.argv],
        snapshot_lsn=lsn,
        snapshot_at=at,
        size_bytes=size,
        seconds=round(time.monotonic() - began, 3),
        encoding=encoding,
        locale_provider=provider,
        collate=collate or "",
        ctype=ctype or "",
        key=key,
        extensions=extensions,
        tables=tables,
        not_dumped=not_dumped,
        sequences=ranges,
        large_objects=large_objects,
        schema_objects=defined,
        vector_indexes=indexes,
        labels=labels,
    )


@contextlib.contextmanager
def _snapshot(access: Access, name: str) -> Iterator[tuple[psycopg.Connection, str, str, datetime]]:
    """Begin a transaction that reads, and exports its snapshot to pg_dump.

    Yields it with the snapshot, the LSN at which it was taken, and the time.
    """
    with contextlib.closing(access.dumped.connect(name)) as connection:
        content.prepare(connection)
        check_readable(connection, (name,))
        connection.autocommit = False
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        timeout = int(access.cluster.drill.statement_timeout_seconds * 1000)
        connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(timeout)))
        # it waits for pg_dump
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.execute(
            sql.SQL("SET LOCAL lock_timeout = {}").format(
                sql.Literal(int(access.cluster.dump.lock_wait_seconds * 1000))
            )
        )
        with _reading(name):
            snapshot, lsn, at = _one(connection, SNAPSHOT)
            yield connection, snapshot, lsn, at
        connection.rollback()


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """Raise what the server refuses while its content is read.

    It is told in the words in which pg_dump's own failures are told.
    """
    try:
        yield
    except psycopg.Error as error:
        words = error.diag.message_primary or str(error).strip()
        raise pg_dump.failure(
            f"reading database {name}", f"{type(error).__name__}: {words}", words
        ) from None


def _run(work: Dumping, name: str, command: Command, *, expected_bytes: int) -> list[DumpFile]:
    """Run pg_dump into the store; return the objects.

    Its stdout is sent as it comes, or the files of its folder once it has ended.
    """
    access = work.access
    what = f"dump of database {name}"
    stem = manifests.object_name(name)
    at_table, said_at = name, float("-inf")

    def line(text: str) -> str | None:
        nonlocal at_table, said_at
        if match := TABLE.search(text):
            at_table, now = match[1], time.monotonic()
            due = now - said_at >= SAID_EVERY_SECONDS
            said_at = now if due else said_at
            logger.log(logging.INFO if due else logging.DEBUG, "%s: dumping %s", name, at_table)
        return pg_dump.words_only(text)

    def moved(count: int) -> None:
        work.progress(f"dump {at_table}", count, 0)

    if access.cluster.dump.format == "custom":
        upload = Upload(
            access.dumps, work.key(f"{stem}.dump"), expected_bytes=expected_bytes, moved=moved
        )
        pg_dump.run(work.runner, command, what, access, on_stdout=upload, on_line=line)
        return [upload.file(f"{stem}.dump")]
    pg_dump.run(work.runner, command, what, access, on_line=line, on_bytes=moved)
    folder = work.home / "dump"
    named = {f"{stem}/{path.name}": path for path in sorted(folder.iterdir())}
    files = [
        upload_file(access.dumps, work.key(file), path, file, moved) for file, path in named.items()
    ]
    shutil.rmtree(folder)
    return files


def definitions(
    access: Access,
    command: Command,
    what: str,
    runner: Runner,
    superuser: tuple[str, str] = ("", ""),
) -> dict[str, str]:
    """Hash every object's definition; the text itself is kept nowhere.

    ``superuser``: whose name there, and what it stands for.
    """
    read: list[bytes] = []
    pg_dump.run(runner, command, what, access, on_stdout=lambda pipe, _: read.append(pipe.read()))
    return objects(b"".join(read).decode(errors="replace"), *superuser)


def _labels(connection: psycopg.Connection) -> Iterator[tuple[str, str]]:
    for place, comment in read_comments(connection).items():
        try:
            label = parse_label(comment)
        except LabelError as error:
            logger.warning("unreadable label of %s: %s", ".".join(place), error)
            continue
        if label:
            yield ".".join(place), str(label)


def _one(connection: psycopg.Connection, query: str) -> tuple:  # type: ignore[type-arg]
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - these have one row
    return row
