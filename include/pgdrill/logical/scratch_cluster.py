"""The throw-away cluster a dump is restored into.

It is made like the dumped one, harmless, and asked first what it can hold.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg import sql

from pgdrill.access import Access
from pgdrill.errors import ConfigError, CouldNotVerify
from pgdrill.host.fence.choose import Fence, environment
from pgdrill.host.priority import low_priority_words
from pgdrill.host.tuning import cores
from pgdrill.logical.hands import Hands
from pgdrill.logical.manifest import DatabaseDump, Manifest
from pgdrill.postgres import sandbox_settings
from pgdrill.postgres.libraries import preloaded
from pgdrill.postgres.server import LocalServer
from pgdrill.recovery.room import check_room
from pgdrill.recovery.workspace import Workspace

INITDB_SECONDS = 300
# the archive, the tables (text shrinks in an archive) and their indexes, times the database's own
# size
ROOM = 2.5
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
AVAILABLE = "SELECT name, version FROM pg_available_extension_versions"
DEFAULTS = "SELECT name, default_version FROM pg_available_extensions"


def for_target(access: Access, manifest: Manifest, bin_dir: str = "") -> Access:
    """Return the access with the programs of the server that is restored into.

    They are never older than the dumped server.
    """
    if bin_dir:
        server = access.cluster.server.model_copy(update={"bin_dir": Path(bin_dir)})
        access = replace(access, cluster=access.cluster.model_copy(update={"server": server}))
    found = access.binaries.major_version
    if found < manifest.server_major:
        raise ConfigError(
            "older-target",
            f"PostgreSQL in {access.binaries.folder}",
            found=f"version {found}",
            expected=f"{manifest.server_major} or newer, as the dumped server was",
            hint="name the programs of that version (--bin-dir, server.bin_dir)",
        )
    return access


def room_for(workspace: Workspace, manifest: Manifest, keep_free_bytes: int) -> None:
    """Check that there is free space for archive, tables and indexes, before any of them comes."""
    needed = int(
        sum(database.size_bytes + database.stored_bytes for database in manifest.databases)
        * ROOM
        / 2
    )
    check_room(workspace.directory, needed, keep_free_bytes)


def make_cluster(
    access: Access, workspace: Workspace, manifest: Manifest, fence: Fence
) -> LocalServer:
    """Run ``initdb`` with the dumped server's encoding, locale and checksums, then start it.

    Both run in the fence.
    """
    first = manifest.databases[0]
    server = _server(access, workspace, manifest, fence)
    provider = PROVIDERS.get(first.locale_provider, "libc")
    locale = first.collate or first.ctype or "C"
    argv = [
        *low_priority_words(access.cluster.drill.priority),
        *fence.words(),
        str(Path(access.binaries.path("initdb")).resolve()),
        "-D",
        str(workspace.data_directory),
        "-U",
        server.superuser,
        "--auth=trust",
        f"--encoding={first.encoding}",
        f"--locale={locale}",
        *(["--no-sync"] if access.cluster.drill.durability == "fast" else []),
        # each database brings its own provider along
        *(["--locale-provider=libc"] if provider != "libc" else []),
        *(
            ["--data-checksums"]
            if manifest.data_checksums
            else ["--no-data-checksums"]
            if access.binaries.major_version >= 18
            else []
        ),
    ]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=INITDB_SECONDS,
        check=False,
        env=environment(access.binaries.folder),
        cwd="/",
    )
    if done.returncode:
        raise CouldNotVerify(
            "initdb",
            f"initdb in {workspace.data_directory}",
            found=done.stderr.strip()[-400:],
            expected=f"a cluster in {first.encoding}, {locale}",
            hint="install that locale here (locale-gen), or mend what it says",
        )
    server.start(access.cluster.dump.timeout_seconds)
    return server


def _server(access: Access, workspace: Workspace, manifest: Manifest, fence: Fence) -> LocalServer:
    hba = workspace.configuration / "pg_hba.conf"
    hba.write_text(sandbox_settings.HBA)
    for file in (workspace.configuration, hba):  # the server may be another user's
        file.chmod(0o755 if file.is_dir() else 0o644)
    workers = cores()
    fast = access.cluster.drill.durability == "fast"
    options = {
        # harmless
        "archive_mode": "off",
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "hba_file": str(hba),
        "dynamic_shared_memory_type": "mmap",
        "max_logical_replication_workers": "0",
        "autovacuum": "off",
        "shared_preload_libraries": preloaded(
            manifest.preload_libraries, access.cluster.drill.allowed_libraries
        ),
        "pg_prewarm.autoprewarm": "off",
        # swift: what is loaded into a new table needs no WAL, for it can be loaded again
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "1h",
        "shared_buffers": f"{sandbox_settings.shared_buffers_mb()}MB",
        "max_worker_processes": str(workers + 8),
        "max_parallel_workers": str(workers + 4),
        **(
            {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"} if fast else {}
        ),
        # a log that people can read
        "logging_collector": "off",
        "log_line_prefix": "%m [%p] ",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        # statements and details may hold rows
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
    }
    return Hands.of(workspace.server(access, options=options, fence=fence)).server


def check_extensions(
    connection: psycopg.Connection, database: DatabaseDump, where: str
) -> list[str]:
    """Check that every extension is to be had there, and none older than it was.

    Returns what is newer, in words.
    """
    defaults: dict[str, str] = dict(connection.execute(DEFAULTS).fetchall())
    newer = []
    for name, recorded in database.extensions.items():
        found = defaults.get(name)
        if found is None:
            raise CouldNotVerify(
                "no-extension",
                f"extension {name} at {where}",
                found="not installed",
                expected=f"{recorded}, which database {database.name} uses",
                hint=f"install the package of {name} for that server",
            )
        if older(found, recorded):
            raise CouldNotVerify(
                "older-extension",
                f"extension {name} at {where}",
                found=f"version {found}",
                expected=f"{recorded} or newer, as database {database.name} had",
                hint=f"install {name} {recorded} or newer for that server",
            )
        if found != recorded:
            newer.append(f"{name} {found} here, {recorded} when it was dumped")
    return newer


def check_index_options(connection: psycopg.Connection, database: DatabaseDump, where: str) -> None:
    """Try each kind of vector index on an empty table, and roll everything back.

    An access method, operator class or option that this pgvector does not know is named before any
    row comes.
    """
    kinds = {
        (i.method, i.opclass, i.kind, i.dimensions, tuple(i.options)): i
        for i in database.vector_indexes
    }
    if not kinds:
        return
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE SCHEMA pgdrill_probe")
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA pgdrill_probe")
        connection.execute("SET LOCAL search_path = pgdrill_probe, public")
        for (method, opclass, kind, dimensions, options), index in kinds.items():
            size = sql.SQL("({})").format(sql.Literal(dimensions)) if dimensions else sql.SQL("")
            values = sql.SQL(", ").join(
                sql.SQL("{} = {}").format(
                    sql.Identifier(option.partition("=")[0]), sql.Literal(option.partition("=")[2])
                )
                for option in options
            )
            try:
                with connection.transaction():
                    connection.execute(
                        sql.SQL("CREATE TABLE probe (v {}{})").format(sql.Identifier(kind), size)
                    )
                    connection.execute(
                        sql.SQL("CREATE INDEX ON probe USING {} (v {}) {}").format(
                            sql.Identifier(method),
                            sql.Identifier(opclass),
                            sql.SQL("WITH ({})").format(values) if options else sql.SQL(""),
                        )
                    )
                    connection.execute("DROP TABLE probe")
            except psycopg.Error as error:
                raise CouldNotVerify(
                    "index-option",
                    f"index {index.schema_name}.{index.name} of {database.name} at {where}",
                    found=f"{error.diag.message_primary}",
                    expected=f"{method} with {opclass} {', '.join(options)}".strip(),
                    hint="install the pgvector version that the dump records, or one that is newer",
                ) from None


def older(found: str, recorded: str) -> bool:
    """Return whether a version is an earlier one; versions that are no numbers are not compared."""
    try:
        return [int(part) for part in found.split(".")] < [
            int(part) for part in recorded.split(".")
        ]
    except ValueError:
        return False
