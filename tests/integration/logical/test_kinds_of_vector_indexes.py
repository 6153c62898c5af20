"""Every kind of vector index that pgvector can build is restored from a dump: on columns and on
expressions, of each type.
"""

from __future__ import annotations

import psycopg
import pytest

from pgdrill.logical.drill import drill_dump
from pgdrill.logical.take import take_dump
from pgdrill.vectors.labels import Label
from pgdrill_demo.stack import preferred_tool
from tests.conftest import need
from tests.integration.worlds import production

LABEL = Label(model="made", version="1").line
INDEXES = (
    "USING hnsw (b bit_hamming_ops)",
    "USING hnsw (b bit_jaccard_ops)",
    "USING ivfflat (b bit_hamming_ops) WITH (lists = 2)",
    "USING hnsw ((binary_quantize(v)::bit(8)) bit_hamming_ops)",
    "USING ivfflat ((binary_quantize(v)::bit(8)) bit_hamming_ops) WITH (lists = 2)",
    "USING hnsw ((v::halfvec(8)) halfvec_cosine_ops)",
    "USING hnsw ((subvector(v, 1, 3)::vector(3)) vector_l1_ops)",
    "USING hnsw (h halfvec_l2_ops)",
    "USING hnsw (s sparsevec_ip_ops)",
    "USING ivfflat (v vector_cosine_ops) WITH (lists = 2)",
    "USING hnsw ((own(v)::vector(8)) vector_l2_ops)",
)


@pytest.mark.parametrize("dimensioned", [True, False])
def test_vector_indexes_of_every_kind_are_built_from_a_dump(dimensioned: bool) -> None:
    """``dimensioned``: columns have a number of dimensions; others can be indexed by an expression
    that has.
    """
    with production(need(preferred_tool())) as stack:
        with psycopg.connect(stack.conninfo(), autocommit=True) as connection:
            types = (
                "v vector(8), h halfvec(4), s sparsevec(10), b bit(16)"
                if dimensioned
                else "v vector, h halfvec, s sparsevec, b bit varying"
            )
            connection.execute(f"CREATE TABLE every (id int PRIMARY KEY, {types})")
            connection.execute("CREATE DOMAIN embedding AS vector(8)")
            connection.execute(
                "CREATE FUNCTION own(public.vector) RETURNS embedding IMMUTABLE LANGUAGE sql AS"
                " 'SELECT $1'"
            )
            connection.execute(
                "INSERT INTO every SELECT i, (SELECT array_agg(sin(i * d) ORDER BY d) FROM"
                " generate_series(1, 8) d)::vector, '[1,2,3,4]', '{1:1,3:2}/10', (i * 37 %"
                " 65536)::bit(16) FROM generate_series(1, 100) i"
            )
            for column in "vhsb"[: 4 if dimensioned else 3]:
                connection.execute(f"COMMENT ON COLUMN every.{column} IS '{LABEL}'")
            for index in INDEXES:
                if dimensioned or " ((" in index:
                    connection.execute(f"CREATE INDEX ON every {index}")
        take_dump(stack.access)
        report = drill_dump(stack.access)
        assert report.verdict == "passed", (report.reason, report.restore.trouble)
