"""Vector indexes are read before the first search that counts, with pg_prewarm or without it, and
the report says what that took.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgdrill.checks import Context
from pgdrill.checks.prewarm import prewarm, read_files
from pgdrill.checks.runner import checking
from pgdrill_demo.stack import DATABASE, Stack

BYTES = """
SELECT sum(pg_relation_size(i.indexrelid))::int8, count(*)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am m ON m.oid = c.relam WHERE m.amname IN ('hnsw', 'ivfflat') AND i.indisvalid
"""
SEARCH = """
EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT id FROM embeddings
ORDER BY embedding <=> (SELECT embedding FROM embeddings LIMIT 1) LIMIT 10
"""


def context_of(stack: Stack, *, ours: bool) -> Context:
    return Context(
        cluster=stack.cluster,
        connect=checking(stack.connect, 60),
        databases=(DATABASE,),
        prepare=stack.connect if ours else None,
        data_directory=stack.primary.data_directory,
    )


def blocks_read_by_a_search_after_a_restart(stack: Stack, *, warm: bool) -> int:
    stack.primary.stop()
    stack.primary.start()
    if warm:
        prewarm(context_of(stack, ours=True))
    with stack.connect() as connection:
        connection.execute("SET enable_seqscan = off")
        row: Any = connection.execute(SEARCH).fetchone()
        explained = json.loads(row[0]) if isinstance(row[0], str) else row[0]
        return int(explained[0]["Plan"]["Shared Read Blocks"])


@pytest.mark.parametrize("ours", [True, False], ids=["pg_prewarm", "files read"])
def test_every_valid_vector_index_is_searched_once_cold_and_read(stack: Stack, ours: bool) -> None:
    with stack.connect() as connection:
        size, count = connection.execute(BYTES).fetchone() or (0, 0)
    done = prewarm(context_of(stack, ours=ours))
    assert (done.bytes, done.left_bytes, len(done.cold_ms)) == (size, 0, count)
    assert done.seconds > 0
    with stack.connect() as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_extension WHERE extname = 'pg_prewarm'"
        ).fetchone() == (0,), "nothing is left"


def test_the_first_search_after_it_reads_rows_alone(stack: Stack) -> None:
    cold = blocks_read_by_a_search_after_a_restart(stack, warm=False)
    warm = blocks_read_by_a_search_after_a_restart(stack, warm=True)
    assert warm < cold / 4


def test_all_files_of_a_large_relation_are_read(tmp_path: Any) -> None:
    for name, size in {"123": 100, "123.1": 50, "123.2": 7, "123_fsm": 1000, "1234": 1000}.items():
        (tmp_path / name).write_bytes(bytes(size))
    assert read_files(tmp_path / "123") == 157
