"""Columns, tables and functions of the names that pgdrill's own statements use hide nothing from
them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pgdrill.backup import take_backup
from pgdrill.checks import Context, run_checks
from pgdrill.checks.runner import checking, settled
from pgdrill.drill import drill
from pgdrill.logical.content import prepare, read_content
from pgdrill.recovery.workspace import Workspace
from pgdrill.reports import store
from pgdrill_demo.stack import DATABASE, Stack, preferred_tool
from tests.copies import server_on_copy
from tests.damage.small import SmallStack

SOURCES = Path(__file__).parents[3] / "include" / "pgdrill"
# What stands behind a relation, an expression or a column in a statement; what is none as well does
# no harm here.
ALIAS = re.compile(
    r"(?:\bFROM|\bJOIN)\s+(?:ONLY\s+|LATERAL\s+)?[\w.{}]+(?:\([^()]*\))?\s+(?:AS\s+)?([a-z_]\w*)"
    r"|\)\s+(?:AS\s+)?([a-z_]\w*)|\bAS\s+([a-z_]\w*)|ORDINALITY\s+(?:AS\s+)?([a-z_]\w*)"
)
STATEMENT = re.compile(r"\b(SELECT|FROM|JOIN|ORDINALITY)\b|\) pgdrill_")
OTHERS = [
    "row",
    "record",
    "Ctid",
    "CTID",
    "XMIN",
    "table",
    "low",
    "high",
    "share",
    "number",
    "columns",
    "old",
    "new",
    "pgdrill_probe",
]
MARK, DAMAGED = b"ABCDEFGH", b"ABCDHGFE"
# Better matches than PostgreSQL's own for what the checks call, if their schema were looked at.
FUNCTIONS = """
CREATE FUNCTION public.zero(int8, int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT 0::int8';
CREATE AGGREGATE public.count(int8) (sfunc = public.zero, stype = int8, initcond = '0');
CREATE FUNCTION public.less(float8, numeric) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false';
CREATE OPERATOR public.< (leftarg = float8, rightarg = numeric, function = public.less);
CREATE FUNCTION public.record_send(public.shadowed) RETURNS bytea LANGUAGE sql IMMUTABLE AS
    $$SELECT '\\x00'::bytea$$;
"""


def aliases() -> list[str]:
    """Every alias of every statement, so that a new one is tried as well."""
    found = {
        name
        for file in SOURCES.rglob("*.py")
        for line in file.read_text().splitlines()
        if STATEMENT.search(line)
        for match in ALIAS.finditer(line)
        for name in match.groups()
        if name
    }
    return sorted(found | {chr(letter) for letter in range(ord("a"), ord("z") + 1)} | set(OTHERS))


def test_the_aliases_are_found_in_the_sources() -> None:
    assert {
        "pgdrill_row",
        "pgdrill_rows",
        "pgdrill_hash",
        "pgdrill_stretch",
        "t",
        "s",
        "n",
        "place",
    } <= set(aliases())


def test_no_statement_takes_a_bare_alias_for_a_row() -> None:
    """A column of that name would be taken instead: a row is ``ROW(alias.column, ...)``, or
    ``alias.*``.
    """
    bare = re.compile(
        r"(?:record_send|row_to_json|hash_record\w*|tidsend)\((?!ROW\b|\{)[a-z_]\w*\)"
    )
    found = [
        f"{file.name}: {match[0]}"
        for file in SOURCES.rglob("*.py")
        for match in bare.finditer(file.read_text())
    ]
    assert not found


@pytest.fixture(scope="module")
def shadowed() -> Iterator[Stack]:
    """A table with a column of each name, and a table of each name with a column of that name,
    too."""
    stack = SmallStack(Path(tempfile.mkdtemp(prefix="pgdrill-")), tool=preferred_tool())
    try:
        stack.create(sample=False)
        stack.without_haste()
        stack.start()
        with stack.connect() as connection:
            connection.execute("CREATE EXTENSION vector")
            make(connection)
        yield stack
    finally:
        stack.remove()


def make(connection: psycopg.Connection) -> None:
    columns = sql.SQL(", ").join(
        sql.SQL("{} text DEFAULT 'same'").format(sql.Identifier(name)) for name in aliases()
    )
    connection.execute(
        sql.SQL(
            "CREATE TABLE shadowed (id int PRIMARY KEY, payload text, emb vector(3), {})"
        ).format(columns)
    )
    connection.execute(
        'COMMENT ON COLUMN shadowed.emb IS \'pgdrill: {"model": "made", "version": "1",'
        ' "text_column": "payload"}\''
    )
    connection.execute(FUNCTIONS)
    fill(connection, sql.Identifier("shadowed"))
    connection.execute(
        "CREATE INDEX ON shadowed USING hash (payload); CREATE INDEX ON shadowed USING hnsw (emb"
        " vector_l2_ops)"
    )
    for name in aliases():
        table = sql.Identifier(name)
        connection.execute(
            sql.SQL(
                "CREATE TABLE {0} (id int, payload text, {0} public.shadowed, emb vector(3))"
            ).format(table)
        )
        fill(connection, table)
        connection.execute(sql.SQL("CREATE INDEX ON {} USING hash (payload)").format(table))
        connection.execute(
            sql.SQL(
                'COMMENT ON COLUMN {}.emb IS \'pgdrill: {{"model": "made", "version": "1"}}\''
            ).format(table)
        )
    connection.execute("VACUUM ANALYZE")


def fill(connection: psycopg.Connection, table: sql.Identifier) -> None:
    connection.execute(
        sql.SQL(
            "INSERT INTO {} (id, payload, emb) SELECT i, CASE WHEN i = 7 THEN {} ELSE 'row ' || i"
            " END, ARRAY[sin(i), cos(i), i]::vector FROM generate_series(1, 30) i"
        ).format(table, sql.Literal(MARK.decode()))
    )


def test_eight_other_bytes_are_found_whatever_columns_tables_and_functions_are_called(
    shadowed: Stack,
) -> None:
    take_backup(shadowed.access)
    report = drill(shadowed.access, keep=True)
    assert report.verdict == "passed", [
        r for r in report.results if r.status == "fail" or (r.status == "skip" and r.required)
    ]
    assert report.compared
    assert (report.compared.sampled, report.compared.not_compared) == (0, 0), report.compared
    baseline = store.load_baseline(shadowed.access, report.drill_id)
    assert baseline
    assert settled(shadowed.access, baseline)
    workspace = Workspace.of(shadowed.access, report.drill_id)
    workspace.server(shadowed.access).stop()
    names = ["shadowed", *aliases()]
    with server_on_copy(
        workspace.data_directory, shadowed, [], ignore_checksum_failure="on"
    ) as server:
        server.start()
        with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as connection:
            dumped = digests(connection, names)
            paths = [
                connection.execute(
                    "SELECT pg_relation_filepath(%s::regclass)",
                    (sql.Identifier("public", name).as_string(),),
                ).fetchone()
                for name in names
            ]
        server.stop()
        for path in paths:
            assert path
            file = server.data_directory / path[0]
            assert file.read_bytes().count(MARK) == 1
            file.write_bytes(file.read_bytes().replace(MARK, DAMAGED))
        server.start()
        context = Context(
            cluster=shadowed.cluster,
            connect=checking(lambda name: server.connect(name, autocommit=False), 60),
            databases=(DATABASE,),
            baseline=baseline,
            settle=lambda: True,
        )
        red = {
            r.thing.removeprefix("agents.public.")
            for r in run_checks(context, ("rows",))
            if r.status == "fail"
        }
        assert red == set(names)
        with psycopg.connect(server.conninfo(DATABASE), autocommit=True) as connection:
            assert not {
                name
                for name, digest in digests(connection, names).items()
                if digest == dumped[name]
            }


def digests(connection: psycopg.Connection, names: list[str]) -> dict[str, str | None]:
    """As a dump's manifest has them."""
    prepare(connection)
    return {name: read_content(connection, "public", name, "key").digest for name in names}
