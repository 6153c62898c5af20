"""A session that is cut while a table is read says nothing of the table; a server that crashes over
it does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import psycopg
import pytest

from pgdrill.baseline import Changes, DatabaseState, TableState
from pgdrill.checks import Context
from pgdrill.checks.base import Outcome
from pgdrill.checks.integrity.access_methods import Key, _searched, access_methods
from pgdrill.checks.integrity.relations import Relation, each, opened, relations
from pgdrill.checks.runner import checking
from pgdrill.checks.tables import rows_as_recorded
from pgdrill.config import Cluster, RepositorySettings
from pgdrill.config import Server as ServerSettings
from pgdrill.postgres import row_digests
from pgdrill.postgres.answered import hang_up
from pgdrill.postgres.catalog_fingerprint import Fingerprint
from pgdrill.postgres.row_digests import Content, filenode_of, horizon
from pgdrill.postgres.server import LocalServer
from tests.integration.worlds import empty_server

TABLES = ("first", "second", "third")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with empty_server() as made:
        with made.connect() as connection:
            for table in TABLES:
                connection.execute(
                    f"CREATE TABLE public.{table} AS SELECT i FROM generate_series(1, 100) i"
                )
                connection.execute(f"CREATE INDEX {table}_hash ON public.{table} USING hash (i)")
        yield made


@pytest.fixture
def context(server: LocalServer) -> Context:
    return Context(
        cluster=Cluster(
            name="agents",
            server=ServerSettings(dsn="host=nowhere", data_directory=server.data_directory),
            repository=RepositorySettings(url="s3://nowhere/agents"),
        ),
        connect=checking(lambda name: server.connect(name, autocommit=False), 60),
        prepare=server.system,
        databases=("postgres",),
    )


@pytest.fixture
def recorded(server: LocalServer) -> DatabaseState:
    with server.connect() as connection:
        line = horizon(connection, "00")
        tables = {}
        for table in TABLES:
            content = row_digests.read_content(connection, "public", table, line)
            assert content
            filenode = filenode_of(connection, "public", table)
            tables[f"public.{table}"] = TableState(
                content=content,
                oid=16384,
                bytes=8192,
                filenode=filenode,
                read_filenode=filenode,
                columns=["i"],
                estimated_rows=100,
                counters=Changes(),
            )
    return DatabaseState(
        extensions={}, horizon=line, tables=tables, schema_objects=Fingerprint(objects={})
    )


def answers(
    context: Context,
    recorded: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[psycopg.Connection], None],
    times: int,
) -> dict[str, Outcome]:
    """What is said of the tables, where the reading of the second one is met by ``harm``."""
    left = [times]

    def read(connection: psycopg.Connection, *given: object, **more: object) -> Content | None:
        if "second" in given and left[0]:
            left[0] -= 1
            harm(connection)
        return row_digests.read_content(connection, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("pgdrill.checks.tables.read_content", read)
    with context.system("postgres") as connection:
        found = list(rows_as_recorded(context, connection, "postgres", recorded))
    assert not left[0]
    return {one.thing: one for one in found}


def cut(connection: psycopg.Connection) -> None:
    """As a proxy does that loses its patience."""
    hang_up(connection)


def crash(connection: psycopg.Connection) -> None:
    """As a backend does over a row that it cannot read."""
    os.kill(connection.info.backend_pid, signal.SIGSEGV)


def test_a_session_that_is_cut_once_is_no_damage_and_the_table_is_compared(
    context: Context, recorded: DatabaseState, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answers(context, recorded, monkeypatch, cut, 1)
    assert {thing: one.status for thing, one in found.items()} == {"postgres: 3 tables": "pass"}
    assert found["postgres: 3 tables"].value == 300


def test_cut_again_it_could_not_be_verified_and_the_others_are(
    context: Context, recorded: DatabaseState, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answers(context, recorded, monkeypatch, cut, 2)
    assert found["postgres.public.second"].status == "skip"
    assert "cut twice" in found["postgres.public.second"].message
    assert found["postgres: 2 tables"].status == "pass"


def test_a_server_that_crashes_over_it_is_damage(
    context: Context, recorded: DatabaseState, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answers(context, recorded, monkeypatch, crash, 2)
    assert found["postgres.public.second"].status == "fail"
    assert found["postgres: 2 tables"].status == "pass"


def test_a_crash_that_another_reader_met_blames_no_table_that_can_be_read(
    context: Context, recorded: DatabaseState, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answers(context, recorded, monkeypatch, crash, 1)
    assert {thing: one.status for thing, one in found.items()} == {"postgres: 3 tables": "pass"}


def sound_until(
    context: Context, harm: Callable[[psycopg.Connection], None] | None
) -> dict[str, Outcome]:
    """What is said of the relations, where the asking of the second table is met by ``harm``."""
    with opened(context, "postgres") as connection:

        def ask(relation: Relation) -> Outcome | None:
            if relation.plain == "second" and harm:
                harm(connection)
            connection.execute("SELECT")
            return None

        ours = [one for one in relations(connection) if one.plain in TABLES]
        ours.sort(key=lambda one: one.plain)
        found = list(each(context, connection, "postgres", ours, "sound", ask))
    return {one.status: one for one in found}


def test_relations_whose_session_is_cut_could_not_be_verified(context: Context) -> None:
    found = sound_until(context, cut)
    assert found.keys() == {"skip"}
    assert found["skip"].message == (
        "the session was cut while reading second; the rest was not checked"
    )


def test_relations_whose_session_is_ended_by_an_order_could_not_be_verified(
    context: Context,
) -> None:
    def order(connection: psycopg.Connection) -> None:
        with context.system("postgres") as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))

    found = sound_until(context, order)
    assert found.keys() == {"skip"}
    assert "ended by an order while reading second" in found["skip"].message


def test_relations_over_which_the_server_crashes_are_damage(context: Context) -> None:
    found = sound_until(context, crash)
    assert found.keys() == {"fail"}
    assert found["fail"].value == "the server ended"
    assert "second" in found["fail"].message


def test_relations_of_a_session_that_lives_are_whole(context: Context) -> None:
    assert sound_until(context, None)["pass"].value == len(TABLES)


def searched_until(
    context: Context, monkeypatch: pytest.MonkeyPatch, harm: Callable[[psycopg.Connection], None]
) -> list[Outcome]:
    """What is said of the indexes, where the search through the second one is met by ``harm``."""

    def search(connection: psycopg.Connection, key: Key, *given: object) -> object:
        if key.plain == "second_hash":
            harm(connection)
        return _searched(connection, key, *given)  # type: ignore[arg-type]

    monkeypatch.setattr("pgdrill.checks.integrity.access_methods._searched", search)
    return list(access_methods(context))


def test_indexes_whose_session_is_cut_could_not_be_verified(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = searched_until(context, monkeypatch, cut)
    assert {one.status for one in found} == {"pass", "skip"}, found
    (left,) = [one for one in found if one.status == "skip"]
    assert "the session was cut while searching second_hash" in left.message


def test_indexes_over_which_the_server_crashes_are_damage(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = searched_until(context, monkeypatch, crash)
    (red,) = [one for one in found if one.status == "fail"]
    assert red.value == "the server ended"
    assert "second_hash" in red.message
