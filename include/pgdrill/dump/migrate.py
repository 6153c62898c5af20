"""The rehearsal of a schema migration on a restored dump: what it locks, what it rewrites, how long, and what it loses.

Files of plain SQL are run in the order of their names, statement by statement; Alembic's are turned into SQL first
(``alembic upgrade … --sql``), so that nothing but the restored cluster can be reached.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from pgdrill.dump import client, content
from pgdrill.dump.report import LockTaken, StatementRun
from pgdrill.dump.restore import Restore
from pgdrill.dump.statements import Statement, split
from pgdrill.errors import ConfigError
from pgdrill.process import Command
from pgdrill.report import CheckResult

logger = logging.getLogger(__name__)

FAMILY = "migration"
POLL_SECONDS = 0.02  # no event tells of another session's locks
STRENGTH = ("AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock",
            "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")  # fmt: skip
ALONE = re.compile(r"\bCONCURRENTLY\b|^\s*(VACUUM|CALL|ALTER\s+SYSTEM|(CREATE|DROP)\s+(DATABASE|TABLESPACE|SUBSCRIPTION))\b", re.IGNORECASE)
COMMITS = re.compile(r"^\s*DO\b.*\b(COMMIT|ROLLBACK)\b", re.IGNORECASE | re.DOTALL)
CONTROL = re.compile(r"(BEGIN|START TRANSACTION|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|SET TRANSACTION)\b")
RELATIONS = """
SELECT c.oid::int8, c.oid::regclass::text, coalesce(pg_relation_filenode(c.oid), 0)::int8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'm', 'i', 'p', 'I', 'S', 'v', 'f')
"""
LOCKS = """
SELECT relation::int8, mode FROM pg_locks
WHERE pid = %s AND granted AND locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
Relations = dict[int, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """A file's statements; ``name`` as people know it."""

    name: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Remembered:
    """A table before the migrations: rows, and a digest of each column's values with its type."""

    rows: int
    columns: dict[str, tuple[str, str]]


class Failed(Exception):
    """A statement failed; the outcome says which."""

    def __init__(self, result: CheckResult) -> None:
        self.result = result


def read_folder(folder: Path) -> list[MigrationFile]:
    """The folder's ``*.sql`` by name; of an Alembic environment nothing yet, for it depends on the database's revision."""
    if (folder / "alembic.ini").is_file():
        if importlib.util.find_spec("alembic") is None:
            raise ConfigError("no-alembic", str(folder), found="alembic.ini, and no alembic in this Python",
                              expected="alembic", mend="pip install alembic, or hand over a folder of .sql files")  # fmt: skip
        return []
    files = sorted(folder.glob("*.sql")) if folder.is_dir() else []
    if not files:
        raise ConfigError("no-migrations", str(folder), found="no .sql file and no alembic.ini" if folder.is_dir() else "no folder",
                          expected="a folder of migrations", mend="name the folder that holds them")  # fmt: skip
    return [_file(path.name, path.read_text("utf-8")) for path in files]


def _file(name: str, text: str) -> MigrationFile:
    statements = tuple(split(text))
    for one in statements:
        if one.text.lstrip().startswith("\\"):
            raise ConfigError("psql-command", f"{name}:{one.line}", found=f"psql's own command {one.words[:30]!r}",
                              expected="SQL, which every client can run", mend="write it as SQL")  # fmt: skip
    return MigrationFile(name, statements)


def apply(work: Restore, folder: Path, files: list[MigrationFile], runs: list[StatementRun]) -> list[CheckResult]:
    """Run them on the first database of the dump, each file in a session of its own. Ends at the first that fails."""
    database = work.manifest.databases[0].name
    if not files:
        files = [_alembic(work, folder, database)]
    started = time.monotonic()
    try:
        for file in files:
            _run_file(work, database, file, runs)
    except Failed as failed:
        return [failed.result]
    rewritten = sorted({name for run in runs for name in run.rewritten})
    return [_result("pass", f"{len(runs)} statements of {len(files)} files", round(time.monotonic() - started, 1), "no error",
                    f"rewrites {', '.join(rewritten)}" if rewritten else "no table rewritten")]  # fmt: skip


def _run_file(work: Restore, database: str, file: MigrationFile, runs: list[StatementRun]) -> None:
    with work.server.connect(database) as connection, work.server.connect(database) as watch:
        for one in file.statements:
            runs.append(_run(connection, watch, file.name, one))
            work.progress(f"migrate {file.name}:{one.line}", 0, 0)
        if connection.info.transaction_status != TransactionStatus.IDLE:
            raise Failed(_result("fail", file.name, "a transaction left open", "COMMIT at its end"))


def _run(connection: psycopg.Connection, watch: psycopg.Connection, file: str, one: Statement) -> StatementRun:
    """One statement, in a transaction of its own unless it is in one already or must be alone."""
    before = relations(watch)
    in_transaction = connection.info.transaction_status != TransactionStatus.IDLE
    alone = not in_transaction and bool(ALONE.search(one.text) or COMMITS.match(one.text))
    own = not in_transaction and not alone and not CONTROL.match(one.verb)
    if in_transaction:
        before = relations(connection)
    held = _locks(connection, connection.info.backend_pid) if in_transaction else set()
    taken: set[tuple[int, str]] = set()
    started = time.monotonic()
    try:
        if own:
            connection.execute("BEGIN")
        if alone:
            with _watching(watch, connection.info.backend_pid, taken):
                connection.execute(one.text.encode())
        else:
            connection.execute(one.text.encode())
        seconds = time.monotonic() - started
        inside = connection.info.transaction_status == TransactionStatus.INTRANS
        if inside:
            taken |= _locks(connection, connection.info.backend_pid) - held
        after = relations(connection)
        if own:
            started = time.monotonic()
            connection.execute("COMMIT")
            seconds += time.monotonic() - started
    except psycopg.Error as error:
        raise Failed(_failure(file, one, error)) from None
    locks = [LockTaken(relation=before[oid][0], mode=mode) for oid, mode in
             sorted(taken, key=lambda it: -STRENGTH.index(it[1])) if oid in before]  # fmt: skip
    run = StatementRun(
        file=file, line=one.line, words=one.words, seconds=round(seconds, 3), locks=locks[:20], strongest=locks[0] if locks else None,
        rewritten=sorted(name for oid, (name, node) in before.items() if node and oid in after and after[oid][1] not in (0, node)),
        transactional=not alone,
    )  # fmt: skip
    strongest = f", {run.strongest.mode} on {run.strongest.relation}" if run.strongest else ""
    logger.info("%s:%d %.3f s%s%s", file, one.line, run.seconds, strongest, f", REWRITES {run.rewritten}" if run.rewritten else "")
    return run


def relations(connection: psycopg.Connection) -> Relations:
    """Every relation that is there: oid -> name, and the file it is in. Another file afterwards: it was rewritten."""
    return {oid: (name, node) for oid, name, node in connection.execute(RELATIONS).fetchall()}


def _locks(connection: psycopg.Connection, pid: int) -> set[tuple[int, str]]:
    return {(oid, mode) for oid, mode in connection.execute(LOCKS, (pid,)).fetchall()}


class _watching:
    """Looks from outside at the locks of a statement that has to run outside of a transaction."""

    def __init__(self, watch: psycopg.Connection, pid: int, taken: set[tuple[int, str]]) -> None:
        self.watch, self.pid, self.taken = watch, pid, taken
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.taken |= _locks(self.watch, self.pid)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _failure(file: str, one: Statement, error: psycopg.Error) -> CheckResult:
    """File, line and statement; the server's own words without their details, which may hold values."""
    position = error.diag.statement_position
    line = one.line + one.text[: int(position) - 1].count("\n") if position else one.line
    return _result("fail", f"{file}:{line}", error.sqlstate or type(error).__name__, "no error",
                   f"{one.words} …: {error.diag.message_primary or str(error).splitlines()[0]}")  # fmt: skip


def remember(work: Restore) -> dict[str, Remembered]:
    """Rows and column digests of every table of the database that is migrated."""
    database = work.manifest.databases[0]
    with work.server.connect(database.name) as connection:
        content.prepare(connection)
        return {name: _column_digests(connection, name, database.key)
                for name, table in database.tables.items() if table.columns}  # fmt: skip


def kept(work: Restore, before: dict[str, Remembered], may_change: Sequence[str]) -> Iterator[CheckResult]:
    """Is everything still there? Each column is compared by the values it holds; a dropped or retyped one is said."""
    database = work.manifest.databases[0]
    agreeing = 0
    with work.server.connect(database.name) as connection:
        content.prepare(connection)
        for name, was in before.items():
            worse = "warn" if name in may_change or name.removeprefix("public.") in may_change else "fail"
            now = _column_digests(connection, name, database.key)
            if not now.columns and was.columns:
                yield _result(worse, name, "no such table", f"{was.rows} rows", name_of="data-kept")
                continue
            if now.rows != was.rows:
                yield _result(worse, name, now.rows, f"{was.rows} rows", name_of="data-kept")
                continue
            changed = [column for column, (kind, digest) in was.columns.items()
                       if column in now.columns and now.columns[column][0] == kind and now.columns[column][1] != digest]  # fmt: skip
            for column in changed:
                yield _result(worse, f"{name}.{column}", "other values", "as before", name_of="data-kept")
            for column, (kind, _) in was.columns.items():
                if column not in now.columns:
                    yield _result("warn", f"{name}.{column}", "no such column", kind, "dropped or renamed", name_of="data-kept")
                elif now.columns[column][0] != kind:
                    yield _result("warn", f"{name}.{column}", now.columns[column][0], kind, "retyped: values not compared",
                                  name_of="data-kept")  # fmt: skip
            agreeing += not changed
    if agreeing:
        yield _result("pass", f"{agreeing} tables", agreeing, "rows and values as before", name_of="data-kept")


def _column_digests(connection: psycopg.Connection, name: str, key: str) -> Remembered:
    schema, _, table = name.partition(".")
    quoted = sql.Identifier(schema, table).as_string(connection)
    there = connection.execute("SELECT to_regclass(%s)::oid", (quoted,)).fetchone()
    if not there or there[0] is None:
        return Remembered(0, {})
    cells = content.columns_of(connection, schema, table)
    types: dict[str, str] = dict(connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped",
        (there[0],)).fetchall())  # fmt: skip
    sums = [sql.SQL("coalesce(sum({}), 0)::text").format(content.row_hash(key, [cell])) for cell in cells.values()]
    row = connection.execute(
        sql.SQL("SELECT {} FROM ONLY {} t").format(sql.SQL(", ").join([sql.SQL("count(*)"), *sums]), sql.Identifier(schema, table))
    ).fetchone()
    values = list(row or [0])
    return Remembered(values[0], {column: (types[column], digest) for column, digest in zip(cells, values[1:], strict=True)})


def _alembic(work: Restore, folder: Path, database: str) -> MigrationFile:
    """Alembic's migrations from the restored revision on, as the SQL it would run; it connects to nothing."""
    with work.server.connect(database) as connection:
        there = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if there and there[0] else None
    span = f"{row[0]}:head" if row else "head"
    written: list[bytes] = []
    argv = (sys.executable, "-m", "alembic", "-c", str(folder / "alembic.ini"), "upgrade", span, "--sql")
    command = Command(argv, {**work.environment(database), "DATABASE_URL": "postgresql://"})
    done = client.run_unjudged(work.runner, command, "alembic", work.access, on_line=lambda line: line,
                               on_stdout=lambda pipe, _: written.append(pipe.read()))  # fmt: skip
    name = f"alembic upgrade {span}"
    if done.code:
        raise ConfigError("alembic", name, found=done.ended[:500], expected="SQL (offline mode)",
                          mend="make env.py's run_migrations_offline work: `alembic upgrade head --sql`")  # fmt: skip
    return _file(name, b"".join(written).decode())


def _result(
    status: str, thing: str, value: float | int | str, threshold: str, message: str = "", *, name_of: str = "migration"
) -> CheckResult:
    mends = {"migration": "mend the migration; production was not touched",
             "data-kept": "mend the migration, or name the table as one that may change (--may-change)"}  # fmt: skip
    return CheckResult(name=name_of, family=FAMILY, status=status, thing=thing, value=value, threshold=threshold,
                       message=message, mend=mends[name_of] if status in ("fail", "warn") else "")  # fmt: skip
