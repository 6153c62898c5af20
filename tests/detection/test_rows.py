"""Any row of an unwritten table, and damage in a busy one, is found and the table named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgdrill.baseline import Changes
from tests.detection.conftest import Copy

FAMILIES = ("rows",)

DAMAGES = {
    "a row deleted": ("DELETE FROM hc_appointments WHERE ctid = (SELECT min(ctid) FROM hc_appointments)", "hc_appointments"),
    "a row added": ("INSERT INTO hc_clinics (tenant_id, name, street, city) SELECT tenant_id, 'x', street, city"
                    " FROM hc_clinics LIMIT 1", "hc_clinics"),
    "rows swapped between tenants": ("UPDATE documents d SET tenant_id = o.tenant_id FROM documents o WHERE d.ctid ="
                                     " (SELECT min(ctid) FROM documents) AND o.tenant_id <> d.tenant_id", "documents"),
    "vectors of two rows swapped": ("WITH two AS (SELECT id, embedding, row_number() OVER (ORDER BY id) n FROM embeddings LIMIT 2)"
                                    " UPDATE embeddings e SET embedding = o.embedding FROM two m, two o"
                                    " WHERE e.id = m.id AND m.n + o.n = 3", "embeddings"),
    "a vector negated": ("UPDATE embeddings SET embedding = embedding * (SELECT array_fill(-1, ARRAY[384])::vector)"
                         " WHERE id = (SELECT min(id) FROM embeddings)", "embeddings"),
    "vectors scaled": ("UPDATE re_listings_embed SET embedding = embedding * (SELECT array_fill(2, ARRAY[1536])::vector)",
                       "re_listings_embed"),
    "a state table stale": ("UPDATE hc_agent_state SET tenant_id = tenant_id WHERE ctid = (SELECT min(ctid) FROM hc_agent_state);"
                            " DELETE FROM hc_agent_state WHERE ctid = (SELECT max(ctid) FROM hc_agent_state)", "hc_agent_state"),
    "a table emptied": ("TRUNCATE re_plans CASCADE", "re_plans"),
    "a large object lost": ("SELECT lo_unlink((SELECT min(oid) FROM pg_largeobject_metadata))", "pg_largeobject"),
    "a large object changed": ("SELECT lo_put((SELECT min(oid) FROM pg_largeobject_metadata), 0, 'x')", "pg_largeobject"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_content_check_names_the_table(copy: Copy, kind: str) -> None:
    statement, table = DAMAGES[kind]
    copy.sql("SET session_replication_role = replica", statement)
    red = copy.red("rows")
    assert any(table in line for line in red.get("table-content", [])), f"{kind}: {red}"


def test_one_changed_byte_in_a_heap_page_is_found_though_the_row_count_is_right(copy: Copy) -> None:
    path = str(copy.one("SELECT pg_relation_filepath('hc_patients')"))
    needle = str(copy.one("SELECT last_name FROM hc_patients LIMIT 1")).encode()

    def flip(data: Path) -> None:
        file = data / path
        content = bytearray(file.read_bytes())
        place = content.index(needle)
        content[place] ^= 0x01
        file.write_bytes(content)

    copy.stopped(flip)
    copy.sql("ALTER SYSTEM SET ignore_checksum_failure = on", "SELECT pg_reload_conf()")
    red = copy.red("rows")
    assert any("hc_patients" in line for line in red.get("table-content", [])), red


def test_a_page_with_a_wrong_checksum_makes_its_table_unreadable_and_red(copy: Copy) -> None:
    path = str(copy.one("SELECT pg_relation_filepath('hc_patients')"))

    def flip(data: Path) -> None:
        file = data / path
        content = bytearray(file.read_bytes())
        content[-100] ^= 0xFF
        file.write_bytes(content)

    copy.stopped(flip)
    assert any("hc_patients" in line for line in copy.red("rows").get("table-content", []))


def test_a_relation_file_that_is_missing_is_red(copy: Copy) -> None:
    path = str(copy.one("SELECT pg_relation_filepath('hc_patients')"))
    copy.stopped(lambda data: (data / path).unlink())
    assert any("hc_patients" in line for line in copy.red("rows").get("table-content", []))


def test_a_relation_file_truncated_on_a_block_boundary_is_red(copy: Copy) -> None:
    path = str(copy.one("SELECT pg_relation_filepath('embeddings')"))

    def truncate(data: Path) -> None:
        with (data / path).open("r+b") as file:
            file.truncate(8192)

    copy.stopped(truncate)
    assert any("embeddings" in line for line in copy.red("rows").get("table-content", []))


def test_changes_that_the_counters_explain_are_no_damage(copy: Copy) -> None:
    """A table that was written to up to the restore point may have lost as many old rows as were updated or deleted."""
    state = copy.mould.baseline.databases["agents"].tables["public.documents"]
    before = state.changes
    try:
        state.changes = Changes(inserted=0, updated=3, deleted=2)
        copy.sql("SET session_replication_role = replica",
                 "DELETE FROM documents WHERE ctid IN (SELECT ctid FROM documents ORDER BY ctid LIMIT 2)")  # fmt: skip
        assert copy.red("rows") == {}
        copy.sql("SET session_replication_role = replica",
                 "DELETE FROM documents WHERE ctid IN (SELECT ctid FROM documents ORDER BY ctid LIMIT 1)")  # fmt: skip
        assert "table-content" in copy.red("rows")
    finally:
        state.changes = before
