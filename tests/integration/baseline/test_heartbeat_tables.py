"""A heartbeat table counts with all that is read and written with it: partitions, children, rules,
and PostgreSQL's own functions that act.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pgdrill.baseline.heartbeat import HeartbeatColumn, _runs_any
from tests.integration.worlds import empty_server

STRANGERS = {
    "child": (
        "CREATE TABLE s.b (at timestamptz DEFAULT now()); CREATE TABLE s.c () INHERITS (s.b);"
        " CREATE INDEX ON s.c (at) WHERE s.yes()"
    ),
    "partition": (
        "CREATE TABLE s.b (at timestamptz DEFAULT now()) PARTITION BY RANGE (at); CREATE TABLE s.c"
        " PARTITION OF s.b DEFAULT; CREATE TRIGGER t BEFORE INSERT ON s.c FOR EACH ROW EXECUTE"
        " FUNCTION s.fires()"
    ),
    "rule": (
        "CREATE TABLE s.b (at timestamptz DEFAULT now()); CREATE RULE r AS ON INSERT TO s.b DO ALSO"
        " NOTIFY canary"
    ),
    "default": (
        "CREATE TABLE s.b (at timestamptz DEFAULT now(), w text DEFAULT set_config('search_path',"
        " 's', false))"
    ),
    "check": (
        "CREATE TABLE s.b (at timestamptz DEFAULT now(), CHECK (ts_rewrite('a'::tsquery, 'SELECT"
        " ''a''::tsquery, s.yes()::text::tsquery') IS NOT NULL))"
    ),
    "domain": (
        "CREATE DOMAIN s.d AS timestamptz CHECK (pg_notify('canary', 'x')::text = ''); CREATE TABLE"
        " s.b (at s.d DEFAULT now())"
    ),
}
ORDINARY = (
    "CREATE TABLE s.b (at timestamptz NOT NULL DEFAULT clock_timestamp())",
    (
        "CREATE TABLE s.b (id bigserial PRIMARY KEY, at timestamptz DEFAULT date_trunc('second',"
        " now()), u uuid DEFAULT gen_random_uuid(), CHECK (at <= now() + '1 day'), who text DEFAULT"
        " current_user)"
    ),
)
BASE = """
DROP SCHEMA IF EXISTS s CASCADE; CREATE SCHEMA s;
CREATE FUNCTION s.yes() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN true; END $$;
CREATE FUNCTION s.fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
"""


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection]:
    with empty_server() as made, made.system() as connection:
        yield connection


def oid(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT 's.b'::regclass::oid::int8").fetchone()
    assert row
    return int(row[0])


@pytest.mark.parametrize("made", STRANGERS)
def test_what_is_written_with_it_counts(connection: psycopg.Connection, made: str) -> None:
    connection.execute(BASE + STRANGERS[made])
    assert _runs_any(connection, oid(connection), writing=True)


def test_what_is_read_with_it_counts(connection: psycopg.Connection) -> None:
    connection.execute(BASE + STRANGERS["child"])
    with connection.transaction():
        assert "s.yes()" in HeartbeatColumn("postgres", "s", "b", "at").runs(connection)


@pytest.mark.parametrize("made", ORDINARY)
def test_an_ordinary_one_is_written_to(connection: psycopg.Connection, made: str) -> None:
    connection.execute(BASE + made)
    assert _runs_any(connection, oid(connection), writing=True) == ""
