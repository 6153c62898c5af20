"""Which hand runs a statement of a dump's definitions."""

from __future__ import annotations

import pytest

from pgdrill.logical.definitions import granted_by
from pgdrill.logical.making import LATER, is_superusers, statements
from pgdrill.logical.pg_restore import is_a
from pgdrill.logical.sql_split import split


@pytest.mark.parametrize(
    "text",
    [
        "CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public",
        "ALTER TABLE public.items OWNER TO app",
        'ALTER FUNCTION public."odd f"(a text, b integer) OWNER TO "odd ""role"',
        "COMMENT ON COLUMN a.b IS 'x'",
        "CREATE FUNCTION a.f() RETURNS void LANGUAGE c AS '$libdir/x', 'f'",
        "CREATE TYPE a.mood AS ENUM ('x')",
        "GRANT SELECT ON TABLE a.b TO c",
        "SET SESSION AUTHORIZATION app",
        "CREATE OPERATOR CLASS a.c FOR TYPE int USING btree AS STORAGE int",
        "-- Name: EXTENSION vector; Type: COMMENT\n\nCOMMENT ON EXTENSION vector IS 'x'",
    ],
)
def test_what_evaluates_nothing_is_the_superusers(text: str) -> None:
    (one,) = split(text)
    assert is_superusers(one)


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE a.b (id integer GENERATED ALWAYS AS (evil(1)) STORED)",
        "ALTER TABLE ONLY a.b ATTACH PARTITION a.c FOR VALUES IN ('x')",
        "ALTER TABLE a.b ADD CONSTRAINT c CHECK (evil('OWNER TO app'))",
        "CREATE DOMAIN a.d AS text CHECK (evil(VALUE))",
        "CREATE AGGREGATE a.g(integer) (SFUNC = evil, STYPE = integer, INITCOND = '0')",
        "CREATE VIEW a.v AS SELECT evil(1) AS owner",
        "ALTER TABLE ONLY a.b ALTER COLUMN id SET DEFAULT evil(1)",
        "CREATE MATERIALIZED VIEW a.m AS SELECT evil(1) WITH NO DATA",
        "SELECT pg_catalog.lo_create('4711')",
        "CREATE OPERATOR a.=== (FUNCTION = a.evil, LEFTARG = integer, RIGHTARG = integer)",
    ],
)
def test_what_may_evaluate_is_not(text: str) -> None:
    (one,) = split(text)
    assert not is_superusers(one)


def test_owners_who_have_to_be_superusers_come_last() -> None:
    (one,) = split("ALTER PUBLICATION news OWNER TO postgres")
    assert LATER.match(one.verb)


def test_psqls_own_commands_are_left_out_and_a_body_keeps_what_looks_like_them() -> None:
    script = (
        b"\\restrict abc123\n\nSET client_encoding = 'LATIN1';\nCREATE FUNCTION f() RETURNS text"
        b" LANGUAGE sql AS $$\n\\restrict other\n; SELECT '\xe4' $$;\n\\unrestrict abc123\n"
    )
    first, second = statements(script)
    assert first.text == "SET client_encoding = 'LATIN1'"
    assert second.text.encode("latin-1").endswith(b"\\restrict other\n; SELECT '\xe4' $$")


def test_a_line_of_the_contents_is_of_its_kind() -> None:
    line = "3456; 6104 16543 PUBLICATION TABLE public news items postgres"
    assert is_a(line, "PUBLICATION TABLE")
    assert is_a(line, "INDEX", "PUBLICATION")
    assert not is_a(line, "TABLE")


def test_a_grantor_who_made_the_cluster_has_another_name_here() -> None:
    line = "GRANT reader TO app WITH INHERIT TRUE GRANTED BY postgres;"
    assert (
        granted_by(line, "postgres", "pgdrill_super_1")
        == "GRANT reader TO app WITH INHERIT TRUE GRANTED BY pgdrill_super_1;"
    )
    assert granted_by(line, "app", "x") == line
