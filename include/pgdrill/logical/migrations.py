"""The rehearsal of a schema migration on a restored dump.

It tells what the migration locks, what it rewrites, how long it takes, and what it loses.

Files of plain SQL are run in the order of their names, statement by statement; Alembic's are turned
into SQL first (``alembic upgrade … --sql``), so that nothing but the restored cluster can be
reached. Whoever runs them may do what every role of the dump may, and is no superuser: a migration
makes and joins tables, which runs what their owners wrote.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.pq import TransactionStatus

from pgdrill.errors import ConfigError
from pgdrill.host.process import Command
from pgdrill.logical import pg_dump
from pgdrill.logical.pg_restore import Restore
from pgdrill.logical.report import LockTaken, StatementRun
from pgdrill.logical.sql_split import Statement, split
from pgdrill.reports.model import CheckResult, CheckStatus

logger = logging.getLogger(__name__)

FAMILY = "migration"
POLL_SECONDS = 0.02  # no event tells of another session's locks
STRENGTH = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
ALONE = re.compile(
    r"\bCONCURRENTLY\b|"
    r"^\s*(VACUUM|CALL|ALTER\s+SYSTEM|(CREATE|DROP)\s+(DATABASE|TABLESPACE|SUBSCRIPTION))\b",
    re.IGNORECASE,
)
COMMITS = re.compile(r"^\s*DO\b.*\b(COMMIT|ROLLBACK)\b", re.IGNORECASE | re.DOTALL)
CONTROL = re.compile(
    r"(BEGIN|START TRANSACTION|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|SET TRANSACTION)\b"
)
EXTENSION = re.compile(r"(CREATE|ALTER|DROP) EXTENSION\b")
RELATIONS = """
SELECT c.oid::int8, c.oid::regclass::text, coalesce(pg_relation_filenode(c.oid), 0)::int8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND c.relkind IN ('r', 'm', 'i', 'p', 'I', 'S', 'v', 'f')
"""
LOCKS = """
SELECT relation::int8, mode FROM pg_locks
WHERE pid = %s AND granted AND locktype = 'relation'
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
Relations = dict[int, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """The statements of a file; ``name`` as people know it."""

    name: str
    statements: tuple[Statement, ...]


class Failed(Exception):
    """A statement failed; the outcome says which."""

    def __init__(self, result: CheckResult) -> None:
        self.result = result


def read_folder(folder: Path) -> list[MigrationFile]:
    """Read the folder's ``*.sql`` by name.

    Of an Alembic environment nothing is read yet, for it depends on the database's revision.
    """
    if (folder / "alembic.ini").is_file():
        if importlib.util.find_spec("alembic") is None:
            raise ConfigError(
                "no-alembic",
                str(folder),
                found="alembic.ini, and no alembic in this Python",
                expected="alembic",
                hint="pip install alembic, or hand over a folder of .sql files",
            )
        return []
    files = sorted(folder.glob("*.sql")) if folder.is_dir() else []
    if not files:
        raise ConfigError(
            "no-migrations",
            str(folder),
            found="no .sql file and no alembic.ini" if folder.is_dir() else "no folder",
            expected="a folder of migrations",
            hint="name the folder that holds them",
        )
    return [_file(path.name, path.read_text("utf-8")) for path in files]


def _file(name: str, text: str) -> MigrationFile:
    statements = tuple(split(text))
    for one in statements:
        if one.text.lstrip().startswith("\\"):
            raise ConfigError(
                "psql-command",
                f"{name}:{one.line}",
                found=f"psql's own command {one.words[:30]!r}",
                expected="SQL, which every client can run",
                hint="write it as SQL",
            )
    return MigrationFile(name, statements)


def apply(
    work: Restore, folder: Path, files: list[MigrationFile], runs: list[StatementRun]
) -> list[CheckResult]:
    """Run the files on the first database of the dump, each in a session of its own.

    Ends at the first that fails.
    """
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
    return [
        _result(
            "pass",
            f"{len(runs)} statements of {len(files)} files",
            round(time.monotonic() - started, 1),
            "no error",
            f"rewrites {', '.join(rewritten)}" if rewritten else "no table rewritten",
        )
    ]


def _run_file(work: Restore, database: str, file: MigrationFile, runs: list[StatementRun]) -> None:
    with work.hands.make(database) as connection, work.hands.server.connect(database) as watch:
        for one in file.statements:
            runs.append(_run(connection, watch, file.name, one))
            work.progress(f"migrate {file.name}:{one.line}", 0, 0)
        if connection.info.transaction_status != TransactionStatus.IDLE:
            raise Failed(_result("fail", file.name, "a transaction left open", "COMMIT at its end"))


def _run(
    connection: psycopg.Connection, watch: psycopg.Connection, file: str, one: Statement
) -> StatementRun:
    """Run one statement, in a transaction of its own.

    One that is in a transaction already, or must be alone, gets none.
    """
    before = relations(watch)
    in_transaction = connection.info.transaction_status != TransactionStatus.IDLE
    if EXTENSION.match(one.verb) and not in_transaction:
        # extensions are a superuser's, and nothing of a user's is evaluated with them
        connection = watch
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
    # Of equally strong locks the table's comes first: its indexes were made after it.
    locks = [
        LockTaken(relation=before[oid][0], mode=mode)
        for oid, mode in sorted(taken, key=lambda it: (-STRENGTH.index(it[1]), it[0]))
        if oid in before
    ]
    run = StatementRun(
        file=file,
        line=one.line,
        words=one.words,
        seconds=round(seconds, 3),
        locks=locks[:20],
        strongest=locks[0] if locks else None,
        rewritten=rewritten(before, after),
        transactional=not alone,
    )
    strongest = f", {run.strongest.mode} on {run.strongest.relation}" if run.strongest else ""
    logger.info(
        "%s:%d %.3f s%s%s",
        file,
        one.line,
        run.seconds,
        strongest,
        f", REWRITES {run.rewritten}" if run.rewritten else "",
    )
    return run


def relations(connection: psycopg.Connection) -> Relations:
    """Return every relation that is there: oid -> name, and the file it is in.

    Another file afterwards: it was rewritten.
    """
    return {oid: (name, node) for oid, name, node in connection.execute(RELATIONS).fetchall()}


def rewritten(before: Relations, after: Relations) -> list[str]:
    """Return the relations that are in another file now.

    An index that was dropped and made again under its name is, too.
    """
    made_again = {name: node for oid, (name, node) in after.items() if oid not in before}
    found = {
        name: after[oid][1] if oid in after else made_again.get(name, 0)
        for oid, (name, _) in before.items()
    }
    return sorted(name for name, node in before.values() if node and found[name] not in (0, node))


def _locks(connection: psycopg.Connection, pid: int) -> set[tuple[int, str]]:
    return {(oid, mode) for oid, mode in connection.execute(LOCKS, (pid,)).fetchall()}


class _watching:
    """A look from outside at the locks of a statement that has to run outside of a transaction."""

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
    """Return the failure of a statement: file, line and statement, with the server's own words.

    Their details are left out, for they may hold values.
    """
    position = error.diag.statement_position
    line = one.line + one.text[: int(position) - 1].count("\n") if position else one.line
    return _result(
        "fail",
        f"{file}:{line}",
        error.sqlstate or type(error).__name__,
        "no error",
        f"{one.words} …: {error.diag.message_primary or str(error).splitlines()[0]}",
    )


def _alembic(work: Restore, folder: Path, database: str) -> MigrationFile:
    """Return Alembic's migrations from the restored revision on, as the SQL it would run.

    It connects to nothing.
    """
    with work.hands.make(database) as connection:
        there = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
        row = (
            connection.execute("SELECT version_num FROM alembic_version").fetchone()
            if there and there[0]
            else None
        )
    span = f"{row[0]}:head" if row else "head"
    written: list[bytes] = []
    argv = (
        sys.executable,
        "-m",
        "alembic",
        "-c",
        str(folder / "alembic.ini"),
        "upgrade",
        span,
        "--sql",
    )
    command = Command(argv, {**work.environment(database), "DATABASE_URL": "postgresql://"})
    done = pg_dump.run_unjudged(
        work.runner,
        command,
        "alembic",
        work.access,
        on_line=lambda line: line,
        on_stdout=lambda pipe, _: written.append(pipe.read()),
    )
    name = f"alembic upgrade {span}"
    if done.code:
        raise ConfigError(
            "alembic",
            name,
            found=done.ended[:500],
            expected="SQL (offline mode)",
            hint="make env.py's run_migrations_offline work: `alembic upgrade head --sql`",
        )
    return _file(name, b"".join(written).decode())


def _result(
    status: CheckStatus, thing: str, value: float | int | str, threshold: str, message: str = ""
) -> CheckResult:
    return CheckResult(
        name="migration",
        family=FAMILY,
        status=status,
        thing=thing,
        value=value,
        threshold=threshold,
        message=message,
        hint="mend the migration; production was not touched" if status == "fail" else "",
    )
