"""Your own checks: SQL files with an expectation, and an application's own test.

The test is pointed at the restored cluster. The family comes last: an application's test may write,
and nothing is compared after that.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from pgdrill.checks.base import Context, Outcome, check, not_asked
from pgdrill.checks.custom_sql import SqlCheck, read_checks
from pgdrill.config import ApplicationTest
from pgdrill.errors import ConfigError
from pgdrill.host.process import Command, Completed, ProcessTimeout
from pgdrill.postgres.roles import powers
from pgdrill.postgres.server_words import words_of

COUNTED_ROWS = 10_000
SHOWN_LINES = 6
SHOWN_CHARACTERS = 600
# SQLSTATE classes of a statement that could not be asked (wrong in itself, writes, no right, too
# slow, no room) …
NOT_ANSWERED = ("0A", "21", "22", "25", "26", "42", "53", "54", "55", "57")
# … and those whose messages may repeat values of rows.
MAY_SHOW_VALUES = ("21", "22", "23", "P0")
INHERITED = ("PATH", "HOME", "LANG")


@check(
    "own-sql",
    "own",
    passing="every statement in your checks_directory gives what its header expects",
    hint=(
        "run the file's statement on production: if it is wrong there too, the data is to be mended"
        " and not the backup"
    ),
    example="vectors-of-their-tenant: 1 (rows), wanted no rows",
)
def own_sql(context: Context) -> Iterator[Outcome]:
    """Yield one answer for each file; a file that cannot be read or asked is no pass."""
    files, errors = read_checks(context.cluster)
    for error in errors:
        yield _broken(error)
    for file in files:
        yield _asked(context, file)
    if not files and not errors:
        yield not_asked("checks_directory", "no *.sql file there")


def _broken(error: ConfigError) -> Outcome:
    it = error.problem
    return Outcome(
        "skip", it.thing, message=f"found {it.found}; expected {it.expected}", hint=it.hint
    )


def _asked(context: Context, file: SqlCheck) -> Outcome:
    database = file.database or (context.databases[0] if len(context.databases) == 1 else "")
    if database not in context.databases:
        named = f"database {database} is not checked" if database else "it names no database"
        return Outcome(
            "skip",
            file.name,
            message=f"{named}; checked are {', '.join(context.databases)}",
            hint=file.hint,
        )
    limit = file.timeout or context.cluster.drill.statement_timeout_seconds
    try:
        connection = context.connect(database)
    except psycopg.Error as error:
        # not damage by itself: the server may be starting again after what it met before
        return Outcome(
            "skip",
            file.name,
            message=f"no connection: {str(error).strip().partition(chr(10))[0]}",
            hint=file.hint,
        )
    try:
        with connection, connection.transaction(force_rollback=True):
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute("SET LOCAL row_security = off")
            connection.execute(
                sql.SQL("SET LOCAL statement_timeout = {}").format(
                    sql.Literal(max(1, int(limit * 1000)))
                )
            )
            # from here on no statement can make the transaction a writing one
            connection.execute("SELECT")
            return _answer(connection, file)
    except psycopg.errors.QueryCanceled:
        return Outcome("skip", file.name, message=f"took longer than {limit:g} s", hint=file.hint)
    except psycopg.Error as error:
        return _refused(file, error)


def _answer(connection: psycopg.Connection, file: SqlCheck) -> Outcome:
    """Run the statement and judge what it gives.

    Rows are streamed, so that memory stays flat. The statement is sent so that the server refuses a
    second one.
    """
    rows: int = 0
    first: tuple[object, ...] = ()
    for row in connection.cursor().stream(file.statement.encode()):
        rows, first = rows + 1, first or row
        if rows == COUNTED_ROWS:
            break
    if file.expect.counts_rows:
        return _judged(file, rows, "rows, or more" if rows == COUNTED_ROWS else "rows")
    if rows != 1 or len(first) != 1:
        return Outcome(
            "skip",
            file.name,
            None,
            file.expect.words,
            "gave no single number to compare: one row with one column",
            file.hint,
        )
    value = first[0]
    if value is None or (isinstance(value, float | Decimal) and not math.isfinite(value)):
        return Outcome(
            file.severity,
            file.name,
            "NULL" if value is None else str(value),
            file.expect.words,
            "",
            file.hint,
        )
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return Outcome("skip", file.name, None, file.expect.words, "gave no number", file.hint)
    return _judged(file, Decimal(str(value)), "")


def _judged(file: SqlCheck, value: int | Decimal, words: str) -> Outcome:
    shown = int(value) if value == int(value) else float(value)
    status = "pass" if file.expect.holds(value) else file.severity
    return Outcome(
        status, file.name, shown, file.expect.words, words, "" if status == "pass" else file.hint
    )


def _refused(file: SqlCheck, error: psycopg.Error) -> Outcome:
    """Return the outcome for an error, with the server's first line where it cannot hold values.

    Damage is a failure whatever the file's severity.
    """
    state = (error.sqlstate or "")[:2]
    words = words_of(error)[:300]
    if state == "25":
        words = f"the statement writes, and was refused: {words}"
    shown = type(error).__name__ if state in MAY_SHOW_VALUES else f"{type(error).__name__}: {words}"
    unanswered = state in NOT_ANSWERED or isinstance(error, psycopg.ProgrammingError)
    return Outcome(
        "skip" if unanswered else "fail", file.name, None, file.expect.words, shown, file.hint
    )


@check(
    "application-test",
    "own",
    passing="the configured command, pointed at the restored cluster, ends with exit code 0",
    hint=(
        "run the command against production; if it passes there, the restored data lacks what it"
        " needs: see its last lines"
    ),
    example=(
        "pytest: 1 (FAILED tests/smoke/test_search.py::test_a_search_finds - AssertionError: 0"
        " agents), wanted exit code 0"
    ),
)
def application_test(context: Context) -> Iterator[Outcome]:
    """Run the application's own test, only on a cluster of our own: it may write."""
    settings = context.cluster.application_test
    if not settings.command:
        yield not_asked("command", "application_test.command is empty")
    elif context.prepare is None:
        yield not_asked(
            settings.command[0],
            "a cluster that pgdrill did not restore is only read, and the test may write",
        )
    else:
        yield _tested(context, settings, context.cluster.home / settings.working_directory)


def _tested(context: Context, settings: ApplicationTest, folder: Path) -> Outcome:
    thing = settings.command[0]
    if settings.user and (power := _power(context, settings.user)):
        why = (
            f"application_test.user {settings.user} is {power}"
            if power == settings.user
            else f"{settings.user} may become {power}"
        )
        return Outcome(
            "skip",
            thing,
            message=(
                f"not started: {why}, and whatever users wrote into tables would run with a"
                " superuser's rights"
            ),
            hint="leave application_test.user empty, or name the application's own role",
            required=settings.required,
        )
    environment = _environment(context, settings)
    program = shutil.which(folder / thing if "/" in thing else thing, path=environment["PATH"])
    why = ""
    if not folder.is_dir():
        why = f"could not be started: working_directory {folder} is no folder"
    elif program is None:
        why = f"could not be started: no executable {thing} (looked in PATH {environment['PATH']})"
    else:
        command = Command(
            (program, *settings.command[1:]), environment, clean=True, working_directory=folder
        )
        try:
            with (
                context.made_roles.standing_in(context.databases)
                if context.made_roles
                else contextlib.nullcontext()
            ):
                return _ended(
                    thing,
                    context.runner.run(command, timeout_seconds=settings.timeout_seconds),
                    settings,
                )
        except ProcessTimeout as late:
            why = (
                f"took longer than {settings.timeout_seconds:g} s and was ended:"
                f" {_end(late.last_lines)}"
            )
        except OSError as error:
            why = f"could not be started: {error.strerror or error}"
    return Outcome("skip", thing, message=why, required=settings.required)


def _ended(thing: str, done: Completed, settings: ApplicationTest) -> Outcome:
    if done.code == 0:
        return Outcome("pass", thing, 0, "exit code 0", f"{done.seconds:.1f} s")
    last = done.last_lines[-1] if done.last_lines else ""
    # the guard that starts it, see Runner
    if done.code in (126, 127) and last.startswith("setpriv: "):
        return Outcome(
            "skip", thing, message=f"could not be started: {last}", required=settings.required
        )
    return Outcome("fail", thing, done.code, "exit code 0", _end(_lines(done)))


def _environment(context: Context, settings: ApplicationTest) -> dict[str, str]:
    """Return all that the command sees of the environment.

    None of production's secrets is in it, unless the configuration passes one on by name.
    """
    database = settings.database or context.databases[0]
    assert context.prepare  # noqa: S101 - asked only where there is one
    with context.prepare(database) as connection:
        host, port, user = connection.info.host, str(connection.info.port), connection.info.user
    user = settings.user or (context.made_roles.application if context.made_roles else user)
    url = (
        f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}"
        f"?{urlencode({'host': host, 'port': port})}"
    )
    names = (*INHERITED, *settings.pass_environment)
    return {
        "PATH": os.defpath,
        **{name: os.environ[name] for name in names if name in os.environ},
        "PGHOST": host,
        "PGPORT": port,
        "PGUSER": user,
        "PGDATABASE": database,
        "DATABASE_URL": url,
        # The file in HOME holds production's passwords. This file does not exist, and nobody can
        # make it.
        "PGPASSFILE": "/dev/null/none",
        "PGDRILL_DRILL_ID": context.report.drill_id if context.report else "",
    }


def _power(context: Context, role: str) -> str:
    with context.system() as connection:
        return powers(connection, role)


def _lines(done: Completed) -> tuple[str, ...]:
    """Return the last lines of both streams.

    Some programs complain on stderr, and test runners on stdout.
    """
    out = done.stdout.splitlines()[-SHOWN_LINES:]
    return (
        tuple(out)
        if tuple(done.last_lines[-len(out) :]) == tuple(out)
        else (*out, *done.last_lines[-SHOWN_LINES:])
    )


def _end(lines: tuple[str, ...]) -> str:
    return (
        " | ".join(line.strip() for line in lines[-2 * SHOWN_LINES :] if line.strip())[
            -SHOWN_CHARACTERS:
        ]
        or "no output"
    )
