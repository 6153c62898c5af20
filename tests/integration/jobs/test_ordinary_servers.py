"""Servers that are set up as servers are: encodings, settings of roles and databases, libpq's own
ways in, databases that are closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from pgdrill.access import Access, Credentials
from pgdrill.backup import take_backup
from pgdrill.baseline import take_baseline
from pgdrill.baseline.heartbeat import beat
from pgdrill.cli import main
from pgdrill.drill import destroy_stage, drill
from pgdrill.errors import Refused
from pgdrill.logical.drill import drill_dump
from pgdrill.logical.take import take_dump
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill.reports.terminal import report_table
from pgdrill.verify import verify
from pgdrill_demo.stack import preferred_tool
from tests.conftest import need
from tests.damage.small import SmallStack
from tests.integration.worlds import healthy, production

TOOLS = ("wal-g", "barman-cloud")
# Each as somebody has set it for a role or a database; what is shorter than a job would end it.
SETTINGS = {
    "client_encoding": "LATIN1",
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "iso_8601",
    "TimeZone": "'Asia/Kolkata'",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "xmlbinary": "hex",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "default_transaction_read_only": "on",
    "statement_timeout": "'20ms'",
    "lock_timeout": "'20ms'",
    "idle_session_timeout": "'300ms'",
    "idle_in_transaction_session_timeout": "'300ms'",
    "transaction_timeout": "'300ms'",
    "restrict_nonsystem_relation_kind": "view",
    "gin_fuzzy_search_limit": "3",
    "exit_on_error": "on",
    "quote_all_identifiers": "on",
    "search_path": "''",
    "row_security": "off",
    "client_min_messages": "debug1",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "timezone_abbreviations": "'Australia'",
    "session_replication_role": "replica",
    "plan_cache_mode": "force_generic_plan",
    "constraint_exclusion": "on",
    "synchronous_commit": "remote_apply",
}
# libpq's own, as a worker may have them; the last two outrank a startup packet's options.
VARIABLES = {
    "PGCLIENTENCODING": "LATIN1",
    "PGOPTIONS": "-c statement_timeout=20ms",
    "PGTZ": "Asia/Tokyo",
    "PGDATESTYLE": "German",
}
OVERRULING = (
    "-c default_transaction_read_only=off -c statement_timeout=0 -c transaction_timeout=0 -c"
    " session_replication_role=origin"
)


def run(
    stack: SmallStack, *statements: str | bytes, database: str = "postgres", **words: str
) -> None:
    words = {"options": OVERRULING, "client_encoding": "UTF8", **words}
    with psycopg.connect(stack.conninfo(database=database), autocommit=True, **words) as connection:  # type: ignore[arg-type]
        for one in statements:
            connection.execute(one)


def configured(stack: SmallStack, **server: object) -> Access:
    """The stack's access with other words in ``[clusters.agents.server]``."""
    return Access(
        stack.cluster.model_copy(update={"server": stack.cluster.server.model_copy(update=server)}),
        stack.credentials,
    )


@pytest.fixture(params=TOOLS)
def stack(request: pytest.FixtureRequest) -> Iterator[SmallStack]:
    with production(need(request.param)) as made:
        yield made


@pytest.fixture(scope="module")
def plain() -> Iterator[SmallStack]:
    """Shared: each test takes away what it made."""
    with production(need(preferred_tool())) as made:
        yield made


def drilled_from_dump(access: Access) -> None:
    take_dump(access)
    report = drill_dump(access)
    assert report.verdict == "passed", (
        report.reason,
        [one for one in report.results if one.status not in ("pass", "warn")],
    )


def drilled_and_verified(access: Access, *, as_superuser: bool = True) -> None:
    """By a drill, and its kept copy by ``verify`` once more."""
    report = drill(access, keep=True)
    try:
        healthy(report)
        server = Workspace.of(access, report.drill_id).server(access)
        found = verify(
            access,
            f"host={server.socket_directory} user=postgres",
            as_superuser=as_superuser,
            baseline=store.load_baseline(access, report.drill_id),
        )
        assert not [one for one in found.results if one.status == "fail"]
        assert not [one for one in found.results if "could not run" in one.message]
    finally:
        destroy_stage(access, report.drill_id)


# --- Encodings ---

LATIN1 = """CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'"""
EUC_JP = """CREATE DATABASE japan TEMPLATE template0 ENCODING EUC_JP LOCALE 'C'"""
ASCII = """CREATE DATABASE any_bytes TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'"""
UMLAUTS = """
CREATE TABLE t (id int PRIMARY KEY, t text);
INSERT INTO t SELECT i, 'Müller' FROM generate_series(1, 50) i;
CREATE TABLE "Straße" (id int, "größe" text); INSERT INTO "Straße" VALUES (1, 'weiß');
COMMENT ON TABLE t IS 'Müller';
CREATE TYPE farbe AS ENUM ('grün', 'weiß'); CREATE SEQUENCE "zähler";
CREATE INDEX "schlüssel" ON t (t);
"""
# Valid in no encoding but the single bytes' own; names are ASCII.
BYTES = b"""
CREATE TABLE t (id int PRIMARY KEY, t text); \
INSERT INTO t SELECT i, E'M\\xfcller' FROM generate_series(1, 50) i;
COMMENT ON TABLE t IS E'M\\xfcller'; \
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''\\xfc''::text';
""".replace(b"\\xfc", b"\xfc")


def test_databases_in_any_encoding_are_backed_up_drilled_dumped_and_verified(
    stack: SmallStack,
) -> None:
    """With umlauts in rows, and in names of tables, columns, types, sequences and indexes; and
    bytes that are in no encoding at all.
    """
    run(
        stack,
        LATIN1,
        EUC_JP,
        ASCII,
        ASCII.replace("any_bytes", "empty"),
        'CREATE DATABASE "Ünï\'s"',
    )
    run(stack, UMLAUTS, database="latin")
    run(stack, UMLAUTS, database="Ünï's")
    run(
        stack,
        "CREATE TABLE t (t text); INSERT INTO t VALUES ('日本')",
        "SET client_encoding = 'EUC_JP'",
        b"INSERT INTO t VALUES (E'\\xa2\\xaf')",
        database="japan",
    )
    run(stack, "SET client_encoding = 'SQL_ASCII'", BYTES, database="any_bytes")
    run(stack, UMLAUTS, database="empty")  # in no more than UTF-8's bytes
    take_backup(stack.access)
    drilled_and_verified(stack.access)
    drilled_from_dump(stack.access)


def test_a_changed_byte_is_found_in_any_encoding(plain: SmallStack) -> None:
    """On the copy, where text is asked for in another form than it is stored in."""
    run(plain, LATIN1, ASCII)
    try:
        run(plain, UMLAUTS, database="latin")
        run(plain, "SET client_encoding = 'SQL_ASCII'", BYTES, database="any_bytes")
        take_backup(plain.access)
        report = drill(plain.access, keep=True)
        try:
            healthy(report)
            baseline = store.load_baseline(plain.access, report.drill_id)
            server = Workspace.of(plain.access, report.drill_id).server(plain.access)
            for name, other in (
                ("latin", "'M\u00f6ller'"),
                ("any_bytes", "E'M' || chr(246) || 'ller'"),
            ):
                # in place, and nobody is told: as damage is
                with server.connect(name) as connection:
                    connection.execute(
                        f"SET session_replication_role = replica; UPDATE t SET t = {other} WHERE"
                        " id = 7"
                    )
            found = verify(
                plain.access,
                f"host={server.socket_directory} user=postgres",
                as_superuser=True,
                baseline=baseline,
            )
            wrong = {
                one.thing
                for one in found.results
                if one.name == "table-content" and one.status == "fail"
            }
            assert {thing.partition(".")[0] for thing in wrong} >= {"latin", "any_bytes"}, wrong
        finally:
            destroy_stage(plain.access, report.drill_id)
    finally:
        run(plain, "DROP DATABASE latin", "DROP DATABASE any_bytes")


# --- Settings that somebody made for a role, a database or the whole server, and libpq's own
# variables ---


def places(stack: SmallStack) -> Iterator[str]:
    for name, value in SETTINGS.items():
        yield f"ALTER DATABASE agents SET {name} = {value}"
        if name != "session_replication_role":
            yield f"ALTER ROLE pgdrill SET {name} = {value}"


def test_no_setting_of_a_role_a_database_or_this_process_changes_what_a_job_sees(
    stack: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(
        stack,
        UMLAUTS,
        "CREATE TABLE d (d date, i interval, b bytea, f float8); INSERT INTO d VALUES"
        " ('2026-02-01', '1 day', '\\x00ff', 1/3.0)",
        "GRANT CREATE ON SCHEMA public TO pgdrill",
        database="agents",
    )
    run(stack, *places(stack))
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    access = stack.access
    beat(access)
    take_backup(access)
    drilled_and_verified(access)
    drilled_from_dump(access)
    take_baseline(access)


def test_the_command_line_shows_and_writes_labels_whatever_is_set(
    plain: SmallStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(plain, *places(plain))
    try:
        for name, value in (*plain.environment.items(), *VARIABLES.items()):
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            monkeypatch.setattr("sys.argv", ["pgdrill", "label", "--json"])
            main()
        assert not ended.value.code
        assert json.loads(capsys.readouterr().out)[0]["label"] == "made@1"
    finally:
        run(plain, "ALTER DATABASE agents RESET ALL", "ALTER ROLE pgdrill RESET ALL")


def test_a_standby_is_read_whatever_isolation_is_the_default(plain: SmallStack) -> None:
    """PostgreSQL refuses serializable transactions during recovery."""
    run(
        plain,
        "ALTER SYSTEM SET default_transaction_isolation = serializable",
        "ALTER SYSTEM SET max_standby_streaming_delay = -1",
        "SELECT pg_reload_conf()",
    )
    try:
        plain.start_standby()
        take_backup(plain.access)
        healthy(drill(configured(plain, standby_dsn=f"host={plain.home / 'sb'}")))
    finally:
        plain.standby.stop()
        run(
            plain,
            "SELECT pg_drop_replication_slot('standby')",
            "ALTER SYSTEM RESET ALL",
            "SELECT pg_reload_conf()",
        )


def test_track_commit_timestamp_changes_nothing() -> None:
    with production(need(preferred_tool()), options={"track_commit_timestamp": "on"}) as stack:
        take_backup(stack.access)
        healthy(drill(stack.access))


# --- libpq's ways in ---


def test_a_service_names_host_role_and_database_for_the_tool_too(
    stack: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the password is in ``~/.pgpass``: the tool has another home."""
    home = stack.home / "home"
    home.mkdir()
    (home / ".pg_service.conf").write_text(
        f"[prod]\nhost={stack.home}\nport=5432\nuser=pgdrill\ndbname=agents\n"
    )
    passwords = home / ".pgpass"
    passwords.touch(mode=0o600)
    passwords.write_text(f"*:*:*:pgdrill:{stack.passwords['pgdrill']}\n")
    monkeypatch.setenv("HOME", str(home))
    access = replace(
        configured(stack, dsn="service=prod"),
        credentials=Credentials({}, stack.credentials.environment),
    )
    with access.connect() as connection:
        assert (connection.info.dbname, connection.info.user) == ("agents", "pgdrill")
    take_backup(access)
    healthy(drill(access))
    take_dump(access)


def test_a_service_that_names_no_database_leads_to_postgres(
    plain: SmallStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").write_text(f"[prod]\nhost={plain.home}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    with configured(plain, dsn="service=prod").connect() as connection:
        assert connection.info.dbname == "postgres"
    with configured(plain, dsn="service=prod", databases=("agents",)).connect() as connection:
        assert connection.info.dbname == "agents"


ODD = "o'brien \\ 50% a=b"


def test_odd_names_and_passwords_come_through_in_either_form_of_a_dsn(stack: SmallStack) -> None:
    password = "'\\\" %25 #?&=:/@ ü"
    run(stack, f'CREATE DATABASE "{ODD}"')
    with psycopg.connect(stack.conninfo(database="postgres"), autocommit=True) as connection:
        connection.execute(
            psycopg.sql.SQL("ALTER ROLE pgdrill PASSWORD {}").format(psycopg.sql.Literal(password))
        )
    with psycopg.connect(stack.conninfo(database=ODD), autocommit=True) as connection:
        connection.execute(
            "GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean),"
            " pg_switch_wal(), pg_create_restore_point(text) TO pgdrill"
        )
    secret = Credentials({"user": "pgdrill", "password": password}, stack.credentials.environment)
    quoted = ODD.replace("\\", "\\\\").replace("'", "\\'")
    host = str(stack.home).replace("/", "%2F")
    forms = (
        f"host={stack.home} dbname='{quoted}'",
        f"postgresql://pgdrill@{host}/o%27brien%20%5C%2050%25%20a%3Db?application_name=it%27s",
    )
    for dsn in forms:
        stack.config_file.write_text(
            stack.config_file.read_text().replace(
                f"dsn = {json.dumps(stack.cluster.server.dsn)}", f"dsn = {json.dumps(dsn)}"
            )
        )
        access = Access(stack.cluster, secret)
        assert access.cluster.server.dsn == dsn
        with access.connect() as connection:
            assert connection.info.dbname == ODD
        take_backup(access)
    take_dump(Access(stack.cluster, secret))


# --- Who may not enter ---


@contextlib.contextmanager
def closed(stack: SmallStack, *statements: str, undone: str) -> Iterator[None]:
    run(stack, *statements)
    try:
        yield
    finally:
        run(stack, undone)


CLOSED = {
    "CONNECT revoked": (
        ["CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC"],
        "DROP DATABASE closed WITH (FORCE)",
        "no-connect-right",
        'GRANT CONNECT ON DATABASE "closed"',
    ),
    "CONNECTION LIMIT 0": (
        ["CREATE DATABASE closed CONNECTION LIMIT 0"],
        "DROP DATABASE closed WITH (FORCE)",
        "connection-limit",
        'ALTER DATABASE "closed" CONNECTION LIMIT -1',
    ),
    "CONNECTION LIMIT 1": (
        ["CREATE DATABASE closed CONNECTION LIMIT 1"],
        "DROP DATABASE closed WITH (FORCE)",
        "connection-limit",
        'ALTER DATABASE "closed" CONNECTION LIMIT -1',
    ),
    "a role's CONNECTION LIMIT": (
        ["ALTER ROLE pgdrill CONNECTION LIMIT 2"],
        "ALTER ROLE pgdrill CONNECTION LIMIT -1",
        "connection-limit",
        'ALTER ROLE "pgdrill" CONNECTION LIMIT',
    ),
}


@pytest.mark.parametrize("case", CLOSED)
def test_a_database_that_the_role_may_not_enter_is_told_before_a_job_begins(
    plain: SmallStack, case: str
) -> None:
    made, undone, reason, hint = CLOSED[case]
    before = {one.name for one in plain.access.repository.backups()}
    with closed(plain, *made, undone=undone):
        for job in (take_backup, take_dump, take_baseline):
            with pytest.raises(Refused) as refused:
                job(plain.access)
            assert refused.value.problem.reason == reason
            assert hint in refused.value.problem.hint
            assert not refused.value.retryable
        report = drill(plain.access)
        assert (report.verdict, report.reason) == ("could not verify", f"restore: {reason}")
        assert report.restore.trouble
        assert report.restore.trouble.found in report.summary
        shown = first_lines(report)
        assert report.restore.trouble.found in shown
    assert {one.name for one in plain.access.repository.backups()} == before, (
        "nothing was backed up for nothing"
    )
    if "role" not in case:
        with closed(plain, *made, undone=undone):
            take_baseline(configured(plain, databases=("agents",)))  # the hint's other way


def test_the_database_of_the_dsn_itself_is_closed(plain: SmallStack) -> None:
    revoke, grant = (
        f"{words} PUBLIC"
        for words in (
            "REVOKE CONNECT ON DATABASE agents FROM",
            "GRANT CONNECT ON DATABASE agents TO",
        )
    )
    with closed(plain, revoke, undone=grant), pytest.raises(Refused) as refused:
        plain.access.connect()
    assert refused.value.problem.reason == "no-connect-right"
    assert 'GRANT CONNECT ON DATABASE "agents" TO "pgdrill"' in refused.value.problem.hint


def test_with_as_many_connections_as_are_asked_for_every_job_goes_through(
    plain: SmallStack,
) -> None:
    """What is demanded of a limit is enough, and the most that is used at once."""
    with closed(
        plain,
        "CREATE DATABASE closed CONNECTION LIMIT 4",
        undone="DROP DATABASE closed WITH (FORCE)",
    ):
        with psycopg.connect(plain.conninfo(database="closed"), autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i")
        with counting(plain, "closed") as most:
            take_backup(plain.access)
            healthy(drill(plain.access))
            take_dump(plain.access)
        assert most[0] <= 4


@contextlib.contextmanager
def counting(stack: SmallStack, database: str) -> Iterator[list[int]]:
    """The most sessions of pgdrill's role that a database has had."""
    most, ended = [0], threading.Event()

    def look() -> None:
        with psycopg.connect(stack.conninfo(database="postgres"), autocommit=True) as connection:
            while not ended.wait(0.002):
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename ="
                    " 'pgdrill'",
                    (database,),
                ).fetchone()
                most[0] = max(most[0], row[0] if row else 0)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def test_production_that_closes_while_a_drill_restores_is_named_in_the_first_lines(
    plain: SmallStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written since the baseline is then not known, and the report says why."""
    from pgdrill import drill as drills

    take_backup(plain.access)
    asked = drills.check_stage

    def check_stage(*args: object, **more: object) -> object:
        run(plain, "REVOKE CONNECT ON DATABASE agents FROM PUBLIC")
        return asked(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(drills, "check_stage", check_stage)
    try:
        report = drill(plain.access)
    finally:
        run(plain, "GRANT CONNECT ON DATABASE agents TO PUBLIC")
    assert report.verdict != "failed", report.reason
    assert "permission denied for database" in report.production_lost
    assert report.production_lost in report.summary
    assert "permission denied for database" in first_lines(report)


def first_lines(report: object, lines: int = 4) -> str:
    from rich.console import Console

    console = Console(width=1000, force_terminal=False, file=open(os.devnull, "w"), record=True)  # noqa: SIM115, PTH123
    report_table(report, console)  # type: ignore[arg-type]
    return "\n".join(console.export_text().splitlines()[:lines])
