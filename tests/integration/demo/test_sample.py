"""The sample on a real server: complete, the same every time, closed to other tenants, and
searchable.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector
from psycopg import conninfo, sql

import pgdrill_demo
from pgdrill_demo.catalog import VectorLabel, parse_label
from pgdrill_demo.embedder import Embedder
from pgdrill_demo.fill import TENANTS
from pgdrill_demo.sample import SampleSummary, load
from pgdrill_demo.stack import Stack
from pgdrill_demo.writer import Writer

Connection = psycopg.Connection[Any]
SCALE = 0.15
PROBES = 50

HNSW_INDEXES = [
    ("embeddings", "vector(384)"),
    ("hc_embeddings", "halfvec(3072)"),
    ("re_listings_embed", "vector(1536)"),
    ("sales_convo_embed", "vector(1536)"),
]


@pytest.fixture(scope="module")
def template(stack: Stack) -> Iterator[tuple[str, SampleSummary]]:
    """The sample, loaded once; each test gets a copy that the server makes in a moment."""
    with stack.connect("postgres") as admin:
        admin.execute("CREATE DATABASE sample_template")
    try:
        yield "sample_template", load(stack.conninfo(database="sample_template"), scale=SCALE)
    finally:
        with stack.connect("postgres") as admin:
            admin.execute("DROP DATABASE sample_template WITH (FORCE)")


@pytest.fixture
def loaded(template: tuple[str, SampleSummary]) -> SampleSummary:
    return template[1]


@pytest.fixture
def database(stack: Stack, template: tuple[str, SampleSummary]) -> Iterator[str]:
    with stack.connect("postgres") as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE sample TEMPLATE {}").format(sql.Identifier(template[0]))
        )
        yield stack.conninfo(database="sample")
        admin.execute("DROP DATABASE sample WITH (FORCE)")


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as opened:
        register_vector(opened)
        yield opened


def test_the_sample_has_what_the_users_have(connection: Connection, loaded: SampleSummary) -> None:
    assert loaded.tables >= 115
    assert _tables(connection) >= {
        "agents",
        "tools",
        "calls",
        "messages",
        "embeddings",
        "hc_agent_state",
        "hc_embeddings",
        "re_listings_embed",
        "re_plans",
        "sales_convo_embed",
        "sales_worker_sessions",
    }
    empty = [name for name in _tables(connection) if _count(connection, name) == 0]
    assert empty == []
    methods = connection.execute(
        "SELECT DISTINCT m.amname FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE c.relkind"
        " = 'i'"
    )
    assert {name for (name,) in methods} >= {
        "btree",
        "hash",
        "gin",
        "gist",
        "brin",
        "hnsw",
        "ivfflat",
    }
    assert _count(connection, "pg_largeobject_metadata") > 0
    assert _count(connection, "sales_pipeline_summary") > 0
    logins = connection.execute(
        "SELECT count(*) FROM pg_authid WHERE rolname LIKE 'agents%' AND rolpassword IS NOT NULL"
    )
    assert logins.fetchone() == (0,)


def test_two_loads_with_the_same_seed_are_equal(
    connection: Connection, loaded: SampleSummary, empty_database: str
) -> None:
    again = load(empty_database, scale=SCALE)
    with psycopg.connect(empty_database, autocommit=True) as other:
        assert _digests(other) == _digests(connection)
    assert (again.tables, again.rows, again.vectors) == (loaded.tables, loaded.rows, loaded.vectors)


def test_sequences_go_on_after_the_rows_loaded(connection: Connection) -> None:
    inserted = connection.execute(
        "INSERT INTO hc_clinics (tenant_id, name, street, city) VALUES (%s, 'New', 'King Street 1',"
        " 'Cork') RETURNING id = (SELECT max(id) + 1 FROM hc_clinics)",
        (TENANTS[0].id,),
    )
    assert inserted.fetchone() == (True,)


def test_every_vector_column_is_labelled_and_agrees_with_its_text(connection: Connection) -> None:
    labels = _labels(connection)
    assert len(labels) == 5
    for (table, column), label in labels.items():
        assert label is not None, f"{table}.{column} has no label"
        _assert_vectors_agree(connection, table, column, label)


def test_row_security_hides_other_tenants_from_the_application(connection: Connection) -> None:
    for tenant in TENANTS:
        for table in ("embeddings", "messages", "documents"):
            with connection.transaction():
                connection.execute("SET LOCAL ROLE agents_app")
                assert _count(connection, table) == 0, "without a tenant nothing is seen"
                connection.execute(
                    "SELECT set_config('app.tenant_id', %s, true)", (str(tenant.id),)
                )
                seen = connection.execute(
                    sql.SQL("SELECT DISTINCT tenant_id FROM {}").format(sql.Identifier(table))
                )
                assert seen.fetchall() == [(tenant.id,)]
    unprotected = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname ="
        " 'tenant_id' WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND"
        " NOT c.relrowsecurity"
    )
    assert unprotected.fetchall() == []


def test_row_security_binds_the_owner_of_patient_data_and_refuses_foreign_rows(
    connection: Connection,
) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL ROLE agents_owner")
        assert _count(connection, "hc_patients") == 0
        assert _count(connection, "sales_leads") > 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute("SET LOCAL ROLE agents_app")
        connection.execute("SELECT set_config('app.tenant_id', %s, true)", (str(TENANTS[0].id),))
        connection.execute(
            "INSERT INTO hc_clinics (tenant_id, name, street, city) VALUES (%s, 'x', 'y', 'z')",
            (TENANTS[1].id,),
        )


@pytest.mark.parametrize(("table", "cast"), HNSW_INDEXES)
def test_hnsw_finds_the_true_neighbours(connection: Connection, table: str, cast: str) -> None:
    query = sql.SQL("SELECT id FROM {} ORDER BY embedding::{} <=> %s::{} LIMIT 10").format(
        sql.Identifier(table), sql.SQL(cast), sql.SQL(cast)
    )
    probes = connection.execute(
        sql.SQL("SELECT embedding FROM {} ORDER BY hashint8(id), id LIMIT {}").format(
            sql.Identifier(table), PROBES
        )
    ).fetchall()
    found = []
    for (probe,) in probes:
        connection.execute("SET enable_indexscan = on; SET enable_seqscan = off")
        plan = connection.execute(sql.SQL("EXPLAIN ") + query, (probe,)).fetchall()
        assert "hnsw" in "".join(line for (line,) in plan)
        by_index = {id_ for (id_,) in connection.execute(query, (probe,))}
        connection.execute("SET enable_indexscan = off; SET enable_seqscan = on")
        exact = {id_ for (id_,) in connection.execute(query, (probe,))}
        found.append(len(by_index & exact) / 10)
    assert np.mean(found) >= 0.9


def test_the_writer_changes_rows_and_stops(database: str, connection: Connection) -> None:
    before = _digests(connection)
    with Writer(database, rate_per_second=200, seed=3) as writer:
        _wait_until(
            lambda: min(writer.totals.inserted, writer.totals.updated, writer.totals.deleted) > 10
        )
        started = time.monotonic()
        totals = writer.stop()
        assert time.monotonic() - started < 5
    assert not writer.running
    after = _digests(connection)
    changed = {name for name in after if after[name] != before[name]}
    assert changed >= {"messages", "calls", "embeddings", "hc_agent_state", "sales_worker_sessions"}
    assert totals.transactions > 0
    assert _digests(connection) == after, "it went on after stop()"
    for (table, column), label in _labels(connection).items():
        assert label is not None
        _assert_vectors_agree(connection, table, column, label)


def test_the_writer_raises_what_ended_it(empty_database: str) -> None:
    writer = Writer(empty_database).start()  # no sample in there
    _wait_until(lambda: not writer.running)
    with pytest.raises(psycopg.ProgrammingError):
        writer.stop()


def test_the_writer_works_for_the_applications_role(database: str, connection: Connection) -> None:
    with Writer(
        conninfo.make_conninfo(database, options="-c role=agents_app"), rate_per_second=200
    ) as writer:
        _wait_until(
            lambda: min(writer.totals.inserted, writer.totals.updated, writer.totals.deleted) > 3
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_writer_as_a_process_ends_cleanly_on_a_signal(
    database: str, connection: Connection, number: signal.Signals
) -> None:
    before = _count(connection, "messages")
    process = subprocess.Popen(
        [sys.executable, "-m", "pgdrill_demo.writer", "--dsn", database, "--rate", "200"],
        env={**os.environ, "PYTHONPATH": str(Path(pgdrill_demo.__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_until(lambda: _count(connection, "messages") > before)
        process.send_signal(number)
        output, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0
    assert output.startswith("WriterTotals(")


def _tables(connection: Connection) -> set[str]:
    return {
        name
        for (name,) in connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition"
        )
    }


def _count(connection: Connection, table: str) -> int:
    found = connection.execute(
        sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
    ).fetchone()
    assert found is not None
    return int(found[0])


def _digests(connection: Connection) -> dict[str, str]:
    connection.execute("SET timezone = 'UTC'")
    digests = {}
    for name in _tables(connection):
        row = connection.execute(
            sql.SQL(
                "SELECT md5(string_agg(md5(t::text), '' ORDER BY md5(t::text) COLLATE \"C\")) FROM"
                " {} t"
            ).format(sql.Identifier(name))
        ).fetchone()
        assert row is not None
        digests[name] = str(row[0])
    return digests


def _labels(connection: Connection) -> dict[tuple[str, str], VectorLabel | None]:
    rows = connection.execute(
        "SELECT c.relname, a.attname, col_description(c.oid, a.attnum) FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid"
        " WHERE c.relkind IN ('r', 'p') AND t.typname IN ('vector', 'halfvec', 'sparsevec')"
    )
    return {(table, column): parse_label(comment) for table, column, comment in rows}


def _assert_vectors_agree(
    connection: Connection, table: str, column: str, label: VectorLabel
) -> None:
    rows = connection.execute(
        sql.SQL("SELECT {}, {} FROM {}").format(
            sql.Identifier(label.text_column), sql.Identifier(column), sql.Identifier(table)
        )
    ).fetchall()
    model = Embedder(label.dimensions)
    assert (label.model, label.version) == (model.name, model.version)
    # pgvector before 0.5 gives arrays, later ones objects of its own.
    stored = np.array(
        [getattr(vector, "to_numpy", lambda same=vector: same)() for _, vector in rows]
    )
    np.testing.assert_array_equal(stored, model.embed([text for text, _ in rows]))


def _wait_until(condition: Any, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened in time"
        time.sleep(0.05)
