"""Code that runs as the role that asks changes neither the copy, nor the session, and becomes
nobody's with rights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgdrill.checks.runner import checking
from pgdrill.postgres.roles import Roles, make_roles
from pgdrill.postgres.server import LocalServer
from tests.integration.worlds import empty_server

# The first time it runs it asks for more; the next time it uses what it got.
STRANGER = """
CREATE ROLE mallory LOGIN; CREATE SCHEMA mallory AUTHORIZATION mallory;
GRANT USAGE, CREATE ON SCHEMA mallory TO PUBLIC;
SET SESSION AUTHORIZATION mallory;
CREATE FUNCTION mallory.act() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('default_transaction_read_only', 'off', false),
            set_config('search_path', 'mallory, pg_catalog', false),
            set_config('statement_timeout', '0', false);
    BEGIN
        SET TRANSACTION READ WRITE;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    EXECUTE 'CREATE FUNCTION mallory.mighty() RETURNS text LANGUAGE sql SECURITY DEFINER \
AS ''SELECT current_user::text''';
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
CREATE FUNCTION mallory.yes(v int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM mallory.act(); RETURN true; END $$;
CREATE TABLE mallory.t (id int); INSERT INTO mallory.t SELECT generate_series(1, 9);
CREATE INDEX ON mallory.t (id) WHERE mallory.yes(id);
"""
ASKED = "SELECT count(*) FROM mallory.t WHERE mallory.yes(id)"
MIGHTY = "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'mighty'"


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with empty_server() as made:
        with made.connect() as connection:
            connection.execute(STRANGER)
            connection.execute("DROP FUNCTION IF EXISTS mallory.mighty()")
        yield made


@pytest.fixture
def roles(server: LocalServer, tmp_path: Path) -> Roles:
    return make_roles(server, tmp_path / "roles", ["postgres"])


def test_nothing_that_a_statement_set_or_made_is_there_for_the_next(
    server: LocalServer, roles: Roles
) -> None:
    with checking(roles.connect, 60)("postgres") as connection:
        connection.execute("SET row_security = off")
        before = connection.execute(
            "SELECT name, setting FROM pg_catalog.pg_settings WHERE name !~ '^plpgsql' ORDER BY 1"
        ).fetchall()
        for _ in range(2):
            assert connection.execute(ASKED).fetchone() == (9,)
            with connection.transaction():
                assert connection.execute(ASKED).fetchone() == (9,)
            with connection.cursor() as cursor, cursor.copy(f"COPY ({ASKED}) TO STDOUT") as copy:
                assert b"".join(bytes(one) for one in copy) == b"9\n"
            assert [*connection.cursor().stream(ASKED)] == [(9,)]
        assert (
            connection.execute(
                "SELECT name, setting FROM pg_catalog.pg_settings WHERE name !~ '^plpgsql' ORDER"
                " BY 1"
            ).fetchall()
            == before
        )
    with server.system() as superuser:
        assert superuser.execute(MIGHTY).fetchall() == []


def test_a_statement_that_fails_leaves_a_connection_that_can_be_asked_on(roles: Roles) -> None:
    with checking(roles.connect, 60)("postgres") as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE mallory.more ()")
        assert connection.execute(ASKED).fetchone() == (9,)


@pytest.mark.parametrize("who", ["asks", "tenant", "application"])
def test_what_a_role_of_the_drill_owns_becomes_nobodys_who_has_rights(
    server: LocalServer, roles: Roles, who: str
) -> None:
    name = getattr(roles, who)
    # as if nothing had kept it from writing
    with server.connect("postgres", user=name) as connection:
        connection.execute("SELECT mallory.act()")
    with server.system() as superuser:
        assert superuser.execute(MIGHTY).fetchone() == (name,)
    roles.remove(["postgres"])
    with server.system() as superuser:
        left = superuser.execute(MIGHTY).fetchall()
        assert left == ([(name,)] if who == "application" else [])
        kept = superuser.execute(
            "SELECT rolname, rolsuper OR rolcanlogin OR rolbypassrls OR pg_has_role(oid,"
            " 'pg_read_all_data', 'MEMBER') FROM pg_roles WHERE rolname ~ '^pgdrill_'"
        ).fetchall()
        assert kept == ([(name, False)] if who == "application" else [])
    if left:
        with server.connect("postgres", user="mallory") as connection:
            assert connection.execute("SELECT mallory.mighty()").fetchone() == (name,)
            assert connection.execute(
                "SELECT has_table_privilege(%s, 'pg_authid', 'SELECT')", (name,)
            ).fetchone() == (False,)
