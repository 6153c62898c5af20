"""Vectors that are not there and an index that does not find what is stored are red, and the column is named."""

from __future__ import annotations

import pytest

from tests.detection.conftest import Copy

FAMILIES = ("vectors",)

DAMAGES = {
    "vectors set to NULL": (
        "vector-values", "ALTER TABLE embeddings ALTER COLUMN embedding DROP NOT NULL;"
        " UPDATE embeddings SET embedding = NULL WHERE id % 100 = 3"),
    "an index with holes": (
        "index-recall", "UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 'embeddings_hnsw_idx'::regclass;"
        " CREATE TABLE again AS SELECT * FROM embeddings WHERE id % 2 = 0; DELETE FROM embeddings WHERE id % 2 = 0;"
        " INSERT INTO embeddings SELECT * FROM again; DROP TABLE again;"
        " UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = 'embeddings_hnsw_idx'::regclass"),
    "an index that no query can use": (
        "index-used", "UPDATE pg_index SET indpred = (SELECT indpred FROM pg_index WHERE indexrelid = 'partial'::regclass)"
        " WHERE indexrelid = 'embeddings_hnsw_idx'::regclass"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_search_that_is_not_right_names_the_column(copy: Copy, kind: str) -> None:
    check, statement = DAMAGES[kind]
    copy.sql("SET session_replication_role = replica", "CREATE INDEX partial ON embeddings (id) WHERE id < 0", *statement.split("; "))
    red = copy.red(*FAMILIES)
    assert any("embeddings.embedding" in line for line in red.get(check, [])), red
