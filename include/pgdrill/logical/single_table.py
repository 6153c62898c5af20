"""A single table out of a dump, restored into a database that a person names.

It is all of it or nothing, and never over another.

Loading rows and building indexes evaluates what the table's owner wrote, with the rights of the
role that does it, on a server that no fence stands around. So that role is no superuser, unless
whoever restores trusts every owner of a table there.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pgdrill.access import CONNECT_SECONDS, Access
from pgdrill.errors import BackupFault, ConfigError, Unreachable
from pgdrill.host.core_dumps import no_core_files
from pgdrill.host.lock import this_process
from pgdrill.host.process import Command, Runner
from pgdrill.logical import content, pg_dump, scratch_cluster
from pgdrill.logical import manifest as manifests
from pgdrill.logical.manifest import DatabaseDump, Manifest, TableContent
from pgdrill.logical.pg_restore import TROUBLE, listed, restore_failure
from pgdrill.logical.transfer import download
from pgdrill.postgres import session
from pgdrill.postgres.relation_names import apart, joined
from pgdrill.postgres.roles import powers
from pgdrill.recovery.sweep import sweep_first
from pgdrill.recovery.workspace import Workspace

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
# What belongs to a table in an archive's contents. Keys to other tables and triggers are left out,
# and said.
OF_TABLE = (
    "TABLE",
    "TABLE DATA",
    "SEQUENCE",
    "SEQUENCE SET",
    "SEQUENCE OWNED BY",
    "DEFAULT",
    "CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "TABLE ATTACH",
    "COMMENT",
    "STATISTICS",
)
LEFT_OUT = (
    "FK CONSTRAINT",
    "TRIGGER",
    "POLICY",
    "ROW SECURITY",
    "ACL",
    "RULE",
    "CHECK CONSTRAINT",
    "PUBLICATION TABLE",
)


@dataclass(frozen=True, slots=True)
class TableResult:
    """What was restored; ``left_out`` counts what a table alone cannot bring, ``code`` says whose
    functions ran as ``role``.
    """

    dump_id: str
    database: str
    tables: tuple[str, ...]
    rows: int
    left_out: dict[str, int]
    replaced: bool
    role: str
    code: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Which dump a table comes from, and which database of it where several hold one of its
    name.
    """

    dump: str = "LATEST"
    database: str = ""


LATEST = Origin()


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a person has allowed there: to ``replace`` the table, and to run its owner's code
    ``as_superuser``.
    """

    replace: bool = False
    as_superuser: bool = False


NOTHING = Allowed()


@dataclass(frozen=True, slots=True)
class Found:
    """A database of a dump, and those of its tables that are restored: one with its partitions."""

    home: DatabaseDump
    tables: dict[str, TableContent]


def restore_table(
    access: Access,
    into: str,
    table: str,
    *,
    origin: Origin = LATEST,
    allowed: Allowed = NOTHING,
    runner: Runner | None = None,
    progress: Progress = lambda *_: None,
) -> TableResult:
    """Restore a table with its partitions, own sequences and indexes into ``into`` (a libpq
    connection string).

    It becomes the connecting role's. That may be a superuser only where every owner of a table is
    trusted.
    """
    runner = runner or Runner()
    manifest = manifests.choose(access, origin.dump)
    found = _find(manifest, table, origin.database)
    home = found.home
    with _connect(into, as_superuser=allowed.as_superuser) as connection:
        pg_dump.check_versions(access.binaries, connection.info.server_version)
        _check_place(connection, found, allowed.replace)
        folder = _scratch(access)
        try:
            for file in home.files:
                download(
                    access.dumps,
                    manifests.key(manifest.dump_id, file.name),
                    file,
                    folder / file.name,
                    lambda count: progress("fetch dump", count, home.stored_bytes),
                )
            first = folder / home.files[0].name
            archive = first if home.format == "custom" else first.parent
            script, left_out = _write_script(access, runner, archive, found)
            drops = _write_drops(folder, connection, found if allowed.replace else None)
            _restore(access, runner, connection, home.name, (drops, script))
        finally:
            Workspace(folder).destroy()
        rows, role = _compare(connection, found), connection.info.user
    code = tuple(f"{name}: {table.code}" for name, table in found.tables.items() if table.code)
    return TableResult(
        manifest.dump_id,
        home.name,
        tuple(found.tables),
        rows,
        left_out,
        allowed.replace,
        role,
        code,
    )


def _find(manifest: Manifest, table: str, database: str) -> Found:
    """Return the database that holds the table, and the table with its partitions."""
    wanted = joined(*apart(table))
    homes = [
        one for one in manifest.databases if wanted in one.tables and database in ("", one.name)
    ]
    if len(homes) != 1:
        near = [
            name
            for one in manifest.databases
            for name in one.tables
            if apart(name)[1] == apart(table)[1]
        ][:5]
        raise ConfigError(
            "no-table" if not homes else "which-database",
            f"table {wanted} of dump {manifest.dump_id}",
            found=(
                f"in {', '.join(one.name for one in homes)}"
                if homes
                else f"no such table{', but ' + ', '.join(near) if near else ''}"
            ),
            expected="one database that holds it",
            hint="write schema.table as in the dump; name the database with --database",
        )
    home, names, waiting = homes[0], {}, [wanted]
    while waiting:
        name = waiting.pop()
        names[name] = home.tables[name]
        waiting.extend(child for child in home.tables[name].children if child in home.tables)
    return Found(home, names)


def _check_place(connection: psycopg.Connection, found: Found, replace: bool) -> None:
    """Check, before a byte is fetched, that nothing is written over.

    What the table needs has to be there, too.
    """
    home = found.home
    there = [name for name in found.tables if _exists(connection, name)]
    if there and not replace:
        raise ConfigError(
            "table-exists",
            f"table {there[0]} in {_shown(connection)}",
            found="a table of that name",
            expected="none: nothing is written over",
            hint="rename it, restore into another database, or say --replace",
        )
    needed = {"vector": home.extensions["vector"]} if "vector" in home.extensions else {}
    if needed:
        scratch_cluster.check_extensions(
            connection, home.model_copy(update={"extensions": needed}), _shown(connection)
        )
        if (
            connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone()
            is None
        ):
            raise ConfigError(
                "no-extension",
                f"extension vector in {_shown(connection)}",
                found="not created",
                expected="vector, for tables with vectors",
                hint="CREATE EXTENSION vector there",
            )
    for schema in {apart(name)[0] for name in found.tables}:
        if (
            connection.execute(
                "SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)
            ).fetchone()
            is None
        ):
            raise ConfigError(
                "no-schema",
                f"schema {schema} in {_shown(connection)}",
                found="no such schema",
                expected="the table's schema",
                hint=f"CREATE SCHEMA {schema} there",
            )


def _write_script(
    access: Access, runner: Runner, archive: Path, found: Found
) -> tuple[Path, dict[str, int]]:
    """Write the SQL that makes and fills the tables, beside the archive; and say how many lines of
    which kinds are left out of it.
    """
    program = access.binaries.path("pg_restore")
    lines = pg_dump.run(
        runner,
        Command((program, "--list", str(archive)), {"LC_ALL": "C"}),
        "the archive's contents",
        access,
    ).stdout.splitlines()
    chosen, left_out = choose(lines, found.tables)
    listing, script = archive.with_name("contents.list"), archive.with_name("table.sql")
    listing.write_text("\n".join(chosen) + "\n")
    write = (
        program,
        "--no-owner",
        "--no-privileges",
        "--no-tablespaces",
        f"--use-list={listing}",
        f"--file={script}",
        str(archive),
    )
    pg_dump.run(runner, Command(write, {"LC_ALL": "C"}), f"table of {found.home.name}", access)
    return script, left_out


def _write_drops(folder: Path, connection: psycopg.Connection, replaced: Found | None) -> Path:
    drops = [
        sql.SQL("DROP TABLE IF EXISTS {}")
        .format(sql.Identifier(*apart(name)))
        .as_string(connection)
        + ";"
        for name in reversed(replaced.tables if replaced else {})
    ]
    script = folder / "first.sql"
    script.write_text("\n".join(drops) + "\n")
    return script


def _restore(
    access: Access,
    runner: Runner,
    connection: psycopg.Connection,
    database: str,
    scripts: Sequence[Path],
) -> None:
    """Run the scripts where the connection goes: all or nothing."""
    argv = (
        access.binaries.path("psql"),
        "--no-psqlrc",
        "--quiet",
        "--no-password",
        "--single-transaction",
        "--set=ON_ERROR_STOP=1",
        "--output=/dev/null",
        *(f"--file={script}" for script in scripts),
    )
    trouble: list[str] = []

    def line(text: str) -> str | None:
        own = pg_dump.words_only(text)
        if own and TROUBLE.search(own):
            trouble.append(own)
        return own

    done = pg_dump.run_unjudged(
        runner,
        Command(argv, {**pg_dump.environment(connection), "PGCLIENTENCODING": "UTF8"}),
        "table",
        access,
        on_line=line,
        stall_seconds=None,
    )
    if done.code:
        raise restore_failure(
            f"table of {database}, nothing of which is left", trouble or [done.ended]
        )


def choose(lines: list[str], names: dict[str, TableContent]) -> tuple[list[str], dict[str, int]]:
    """Return the lines of an archive's contents that belong to the tables.

    Returned with them is how many of each other kind do as well.
    """
    chosen: list[str] = []
    left_out: dict[str, int] = {}
    for line in lines:
        words = line.partition("; ")[2].split(" ", 2)
        if line.startswith(";") or len(words) < 3:
            continue
        kind = next(
            (
                kind
                for kind in sorted((*OF_TABLE, *LEFT_OUT), key=len, reverse=True)
                if words[2].startswith(kind + " ")
            ),
            "",
        )
        rest = words[2][len(kind) + 1 :]
        if not kind or not any(_belongs(kind, rest, name, table) for name, table in names.items()):
            continue
        if kind in OF_TABLE:
            chosen.append(line)
        else:
            left_out[kind] = left_out.get(kind, 0) + 1
    return chosen, left_out


def _belongs(kind: str, rest: str, name: str, table: TableContent) -> bool:
    """Return whether an entry ``schema tag owner`` belongs to a table.

    The tag is the table, ``table column``, an index, a sequence or ``TABLE table``.
    """
    schema, plain = map(listed, apart(name))
    indexes = [listed(one) for one in table.indexes]
    own = {
        "INDEX": indexes,
        "INDEX ATTACH": indexes,
        **{
            one: [listed(apart(it)[1]) for it in table.sequences]
            for one in ("SEQUENCE", "SEQUENCE SET", "SEQUENCE OWNED BY")
        },
    }
    if kind in own:
        return any(rest.startswith(f"{schema} {one} ") for one in own[kind])
    if kind in ("COMMENT", "ACL"):
        tags = (f"TABLE {plain} ", f"COLUMN {plain}.", *(f"INDEX {one} " for one in indexes))
        return any(rest.startswith(f"{schema} {tag}") for tag in tags)
    return rest.startswith(f"{schema} {plain} ")


def _compare(connection: psycopg.Connection, restored: Found) -> int:
    """Raise unless the rows are there as they were dumped; return their number."""
    content.prepare(connection)
    total = 0
    for name, before in restored.tables.items():
        if not before.columns:
            continue
        found = content.again(connection, name, restored.home.key, before)
        total += found.rows
        if (found.rows, found.digest) != (before.rows, before.digest):
            raise BackupFault(
                "other-content",
                f"table {name} in {_shown(connection)}",
                found=f"{found.rows} rows" if found.rows != before.rows else "other content",
                expected=f"{before.rows} rows as dumped",
                hint="look for a trigger or default there that changed rows; restore another dump",
            )
    return total


def _exists(connection: psycopg.Connection, name: str) -> bool:
    quoted = sql.Identifier(*apart(name)).as_string(connection)
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (quoted,)).fetchone()
    return bool(row and row[0])


def _connect(into: str, *, as_superuser: bool) -> psycopg.Connection:
    """Connect, by no setting of the database there.

    Whoever owns it could have other functions found than PostgreSQL's.
    """
    try:
        words = conninfo_to_dict(into)
    except psycopg.ProgrammingError:
        words = {"password": ""}
    if "password" in words or "dbname" not in words:
        raise ConfigError(
            "bad-dsn",
            "--into",
            found="a password in it, no dbname, or no connection string",
            expected="host=… user=… dbname=…, the password in PGPASSWORD or ~/.pgpass",
            hint="write it like that",
        )
    try:
        given = {key: str(value) for key, value in words.items() if value is not None}
        defaults = {"connect_timeout": str(CONNECT_SECONDS), "application_name": "pgdrill"}
        connection = session.connect({**given, **defaults}, superuser=as_superuser)
    except psycopg.OperationalError as error:
        raise Unreachable(
            "server-unreachable",
            "the server of --into",
            found=str(error).strip()[:300],
            expected="a connection",
            hint="check host, role, password and pg_hba.conf",
        ) from None
    if not as_superuser and (power := powers(connection, connection.info.user)):
        where = f"role {connection.info.user} at {_shown(connection)}"
        connection.close()
        raise ConfigError(
            "restores-as-superuser",
            where,
            found=f"it is or may become {power}",
            expected=(
                "a role that may create tables in that schema and no more: loading rows and"
                " building indexes runs what the table's owner wrote into CHECKs, generated columns"
                " and indexes, with that role's rights"
            ),
            hint=(
                "name such a role in --into (user=…), and give the table to its owner afterwards"
                " (ALTER TABLE … OWNER TO); or say --as-superuser, if every owner of a table there"
                " is trusted"
            ),
        )
    return connection


def _shown(connection: psycopg.Connection) -> str:
    return f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"


def _scratch(access: Access) -> Path:
    """Make a folder for what the table's dump holds, which goes when this process does."""
    no_core_files()
    sweep_first(access)
    folder = access.cluster.state_directory / "tables" / secrets.token_hex(8)
    steps = 4  # fetching, two runs of pg_restore, psql
    Workspace(folder).claim(
        "table", time.time() + steps * access.cluster.dump.timeout_seconds, owner=this_process()
    )
    return folder
