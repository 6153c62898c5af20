"""Names, types and whatever else a database may hold."""

from __future__ import annotations

from tests.setups.host import Host
from tests.setups.setup import Answer, Setup

FAMILY = "names and types"
LABEL = """'pgdrill: {"model": "made", "version": "1"}'"""
UMLAUTS = """
CREATE TABLE t (id int PRIMARY KEY, t text);
INSERT INTO t SELECT i, 'Müller' FROM generate_series(1, 50) i;
CREATE TABLE "Straße" (id int, "größe" text); INSERT INTO "Straße" VALUES (1, 'weiß');
CREATE TYPE farbe AS ENUM ('grün', 'weiß')
"""


def _database(statement: str, name: str, *contents: str) -> object:
    def make(made: Host) -> None:
        made.superuser(statement)
        made.superuser(*contents, database=name)

    return make


def vectors(kind: str, operators: str, value: str, more: str = "") -> tuple[str, ...]:
    """A table with an index on a column of that type."""
    return (
        f"CREATE TABLE other (id int PRIMARY KEY, v {kind})",
        f"INSERT INTO other SELECT i, {value} FROM generate_series(1, 300) i",
        f"CREATE INDEX ON other USING hnsw (v {operators})",
        f"COMMENT ON COLUMN other.v IS {LABEL}",
        *([more] if more else []),
    )


ARRAY = "(SELECT array_agg(10 * sin(i % 16 + d) + sin(i * d * 0.37)) FROM generate_series(1, 8) d)"
SETUPS = (
    Setup(
        FAMILY,
        "capitals, spaces, quotes, dots, and a table t with a column t",
        dump=True,
        sql=(
            'CREATE SCHEMA "My ""own"" schema"',
            (
                'CREATE TABLE "My ""own"" schema"."Orders of.May" ("Select" int PRIMARY KEY,'
                ' "it\'s" text)'
            ),
            (
                'INSERT INTO "My ""own"" schema"."Orders of.May" SELECT i, i FROM'
                " generate_series(1, 50) i"
            ),
            "CREATE TABLE t (t text)",
            "INSERT INTO t VALUES ('t')",
            "CREATE SCHEMA t",
            "CREATE TABLE t.t (t int PRIMARY KEY)",
            'CREATE INDEX "INDEX" ON t ((t.t))',
        ),
    ),
    Setup(
        FAMILY,
        "a database with a space, a quote and capitals in its name",
        after=_database('CREATE DATABASE "Ünï\'s Data"', "Ünï's Data", UMLAUTS),
    ),  # type: ignore[arg-type]
    Setup(
        FAMILY,
        "a database in LATIN1",
        after=_database(
            "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'", "latin", UMLAUTS
        ),
    ),  # type: ignore[arg-type]
    Setup(
        FAMILY,
        "a database in LATIN1",
        "barman-cloud",
        after=_database(
            "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'", "latin", UMLAUTS
        ),
    ),  # type: ignore[arg-type]
    Setup(
        FAMILY,
        "a database in SQL_ASCII",
        after=_database(
            "CREATE DATABASE bytes TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'",
            "bytes",
            "CREATE TABLE t AS SELECT 'a' AS t",
        ),
    ),  # type: ignore[arg-type]
    Setup(
        FAMILY,
        "partitions, generated columns, unlogged tables, views and materialized views",
        dump=True,
        sql=(
            (
                "CREATE TABLE events (id int, at date, doubled int GENERATED ALWAYS AS (id * 2)"
                " STORED) PARTITION BY RANGE (at)"
            ),
            (
                "CREATE TABLE events_26 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO"
                " ('2027-01-01')"
            ),
            "CREATE TABLE events_rest PARTITION OF events DEFAULT",
            "INSERT INTO events SELECT i, date '2025-12-01' + i FROM generate_series(1, 90) i",
            "CREATE UNLOGGED TABLE cache AS SELECT generate_series(1, 50) n",
            "CREATE VIEW seen AS SELECT * FROM events",
            "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM events",
        ),
    ),
    Setup(
        FAMILY,
        "a foreign table whose server is gone",
        sql=(
            "CREATE EXTENSION postgres_fdw",
            (
                "CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1',"
                " port '1')"
            ),
            "CREATE USER MAPPING FOR PUBLIC SERVER away",
            "CREATE FOREIGN TABLE far (id int) SERVER away",
        ),
    ),
    Setup(
        FAMILY,
        "a prepared transaction left open",
        options={"max_prepared_transactions": "10"},
        sql=("BEGIN", "CREATE TABLE pending (id int)", "PREPARE TRANSACTION 'left'"),
    ),
    Setup(
        FAMILY,
        "large objects of another role",
        sql=("CREATE ROLE app", "SET ROLE app", "SELECT lo_from_bytea(0, 'x')", "RESET ROLE"),
        answer=Answer("dump", "permission", "large object", "SELECT on the large objects"),
        red=("large-objects",),
    ),
    Setup(
        FAMILY,
        "row security on every table",
        sql=(
            "ALTER TABLE docs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "CREATE POLICY mine ON docs USING (id < 10)",
        ),
    ),
    Setup(
        FAMILY,
        "a thousand tables and a hundred roles",
        sql=(
            (
                "DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE many_%s (id int)',"
                " i); END LOOP; END $$"
            ),
            (
                "DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE format('CREATE ROLE many_%s', i); END"
                " LOOP; END $$"
            ),
        ),
    ),
    Setup(
        FAMILY, "halfvec", sql=vectors("halfvec(8)", "halfvec_l2_ops", f"{ARRAY}::vector::halfvec")
    ),
    Setup(
        FAMILY,
        "sparsevec",
        sql=vectors("sparsevec(8)", "sparsevec_l2_ops", f"{ARRAY}::vector::sparsevec"),
    ),
    Setup(
        FAMILY,
        "bit vectors",
        sql=vectors(
            "bit(64)",
            "bit_hamming_ops",
            "substring(('x' || md5(i::text))::bit(128)::text FOR 64)::bit(64)",
        ),
    ),
    Setup(
        FAMILY,
        "a quantized index (binary_quantize) beside the plain one",
        sql=(
            (
                "CREATE INDEX docs_bits ON docs USING hnsw ((binary_quantize(v)::bit(8))"
                " bit_hamming_ops)"
            ),
        ),
        dump=True,
    ),
    Setup(
        FAMILY,
        "an index on a cast to halfvec alone",
        sql=(
            "DROP INDEX docs_v",
            "CREATE INDEX docs_half ON docs USING hnsw ((v::halfvec(8)) halfvec_l2_ops)",
        ),
    ),
    Setup(
        FAMILY,
        "iterative scans of the database (hnsw.iterative_scan, hnsw.ef_search)",
        sql=(
            "ALTER DATABASE agents SET hnsw.iterative_scan = strict_order",
            "ALTER DATABASE agents SET hnsw.ef_search = 100",
        ),
    ),
    Setup(
        FAMILY,
        "an IVFFlat index with one probe",
        sql=(
            "DROP INDEX docs_v",
            "CREATE INDEX docs_ivf ON docs USING ivfflat (v vector_l2_ops) WITH (lists = 4)",
            "ALTER DATABASE agents SET ivfflat.probes = 4",
        ),
    ),
    Setup(
        FAMILY,
        "a vector column without a label",
        sql=("COMMENT ON COLUMN docs.v IS NULL",),
        red=("vector-labels",),
        answer=Answer("drill", "model-label", "docs.v", "pgdrill label"),
    ),
)
