"""What a refused login says should be done about it."""

from __future__ import annotations

import pytest

from pgdrill.host.place import this_user
from pgdrill.postgres.refused import hint_of

WORDS = {"host": "localhost", "port": "5433", "user": "pgdrill", "dbname": "agents"}


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        (
            'FATAL:  password authentication failed for user "pgdrill"',
            "export PGPASSWORD, or put the line `localhost:5433:*:pgdrill:PASSWORD` into ~/.pgpass",
        ),
        ("fe_sendauth: no password supplied", "in Airflow it is Connection agents_postgres's"),
        ('FATAL:  Peer authentication failed for user "pgdrill"', "`host=localhost user=pgdrill`"),
        ('FATAL:  role "root" does not exist', "(`user=pgdrill`)"),
        ('FATAL:  database "agent" does not exist', "dbname in server.dsn"),
        (
            'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "pgdrill"',
            "`host all pgdrill 10.0.0.1/32 scram-sha-256`",
        ),
        (
            'FATAL:  no pg_hba.conf entry for host "fe80::1", user "pgdrill"',
            "`host all pgdrill fe80::1/128 scram-sha-256`",
        ),
        (
            'FATAL:  no pg_hba.conf entry for host "[local]", user "pgdrill", database "agents"',
            "`local all pgdrill scram-sha-256`",
        ),
        (
            (
                'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "pgdrill", database'
                ' "agents", no encryption'
            ),
            "`sslmode=require`",
        ),
        (
            'FATAL:  pg_hba.conf rejects connection for host "[local]", user "pgdrill"',
            "`reject` line that fits pgdrill",
        ),
        ("server does not support SSL, but SSL was required", "sslmode=prefer"),
        ("FATAL:  certificate authentication failed", "pg_hba.conf"),
    ],
)
def test_the_hint_fits_the_server_s_own_words(found: str, hint: str) -> None:
    assert hint in hint_of(found, WORDS, "agents_postgres")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"host": "/var/run/postgresql", "user": "a:b"}, "`*:5432:*:a\\:b:PASSWORD`"),
        ({"host": "db1,db2", "port": "5432,5433", "user": "pgdrill"}, "`*:*:*:pgdrill:PASSWORD`"),
        ({"host": "::1", "port": "5432", "user": "pgdrill"}, "`\\:\\:1:5432:*:pgdrill:PASSWORD`"),
    ],
)
def test_the_line_for_pgpass_is_one_that_libpq_takes(words: dict[str, str], line: str) -> None:
    assert line in hint_of("no password supplied", words)


@pytest.mark.parametrize(
    "found",
    [
        'FATAL:  Peer authentication failed for user "backup"',
        'FATAL:  password authentication failed for user "backup"',
    ],
)
def test_a_role_that_the_dsn_does_not_name_is_the_one_of_the_server_s_words_in_the_hint(
    found: str,
) -> None:
    hint = hint_of(found, {"host": "localhost"})
    assert "local all backup " in hint or "ROLE backup " in hint


def test_where_not_even_the_server_names_the_role_pguser_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGUSER", "backup")
    assert "`*:5432:*:backup:PASSWORD`" in hint_of("no password supplied", {})


def test_where_nobody_names_the_role_it_is_the_operating_system_s_user_as_for_libpq(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PGUSER", raising=False)
    hint = hint_of("no password supplied", {"host": "localhost"})
    assert f"`localhost:5432:*:{this_user()}:PASSWORD`" in hint


def test_an_odd_role_is_quoted_as_sql_wants_it() -> None:
    assert 'ALTER ROLE "back-up" PASSWORD' in hint_of(
        'password authentication failed for user "back-up"', {}
    )
